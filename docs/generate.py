"""Writes the generated parts of the pages from the code and from docs/results: `uv run python docs/generate.py`.

A generated part is between `<!-- generated: NAME -->` and `<!-- end -->` on a page that is otherwise written by hand.
So pages read the same on the site and where the repository is browsed. A test fails when a page is stale
(`--check`).
"""

import ast
import csv
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_origin

import yaml
from pydantic_core import to_jsonable_python

from bico.cli.main import app
from bico.config.layout import Layout
from bico.config.methods import BackboneShape, MethodSettings, settings_of
from bico.config.reading import load
from bico.config.reference import by_paper_row, explanation, flow, section_within
from bico.config.schema import Config
from bico.config.scores import TRUTH_SCORES, ScoreSettings, columns_of, score_names, settings_of_score
from bico.config.section import Section
from bico.methods.bico.settings import Settings as BicoSettings
from bico.report.names import TRUTH_LABEL

DOCS = Path(__file__).parent
ROOT = DOCS.parent
PAPER = {"MEDIA": "Media()", "SAMPLING": "Sampling()", "SETTINGS": "Settings()", "CONCEPTS": "ConceptSettings()"}
"""How the paper's values, defaults of functions, are written by a reader."""
PART = re.compile(r"(<!-- generated: (?P<name>.*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def page(text: str) -> str:
    """A page with its generated parts written anew."""
    return PART.sub(lambda found: f"{found[1]}\n{part(found['name'])}\n\n{found[3]}", text)


def part(name: str) -> str:
    """The text of a generated part. "results table1" is the table of docs/results/table1.csv."""
    kind, _, argument = name.partition(" ")
    if kind == "results":
        return results(argument)
    generated = {"commands": commands, "configuration": configuration, "api": api, "paths": paths, "scores": scores}
    return (generated | {"binder sizes": binder_sizes})[name]()


def pages() -> Iterator[Path]:
    yield from sorted(path for path in DOCS.rglob("*.md") if PART.search(path.read_text(encoding="utf-8")))


# --- results ---------------------------------------------------------------------------------------------------------

FINER = {"p": 3, "value": 2}
"""Columns of results that have more digits than their table."""


def results(name: str) -> str:
    """A table of docs/results, with what made it. docs/results/tables.yaml says which of its columns are shown."""
    described = yaml.safe_load((DOCS / "results/tables.yaml").read_text(encoding="utf-8"))
    table, names = described["tables"][name], _names()
    with (DOCS / f"results/{name}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if digits := table.get("digits"):
        rows = [{column: _rounded(value, FINER.get(column, digits)) for column, value in row.items()} for row in rows]
    shown: Mapping[str, str] = table["columns"]
    header = list(shown.values())
    cells = [[names.get(row[column], _cell(row, column)) for column in shown] for row in rows]
    origin = f"*Measured on {table['date']} by* `{table['command']}`. *Data:* [{name}.csv](results/{name}.csv)"
    return f"{markdown(header, cells)}\n\n{origin}"


@cache
def _names() -> dict[str, str]:
    """Names of rows as tables and figures have them."""
    config = load(ROOT / "config/toybox.yaml")
    return {row: config.label(row) for row in config.methods} | {"truth": TRUTH_LABEL.capitalize()}


def _rounded(value: str, digits: int) -> str:
    """A number with a decimal point, rounded; all else as it stands."""
    return f"{float(value):.{digits}f}" if re.fullmatch(r"-?\d+\.\d+", value) else value


def _cell(row: Mapping[str, str], column: str) -> str:
    """A value, with the ends of its interval where the table has them."""
    if column == "p" and row[column] == "0.000":
        return "< 0.001"
    ends = [row.get(f"{column}_{end}", "") for end in ("low", "high")]
    return f"{row[column]} [{ends[0]},\u00a0{ends[1]}]" if all(ends) and row[column] else row[column]


def markdown(header: list[str], cells: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *cells]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


BACKBONES = {
    "Wan2.1-T2V-1.3B": BackboneShape(width=1536, ffn_width=8960, appearance_width=1280, num_blocks=30),
    "Wan2.2-TI2V-5B": BackboneShape(width=3072, ffn_width=14336, appearance_width=1280, num_blocks=30),
    "Wan2.1-T2V-14B": BackboneShape(width=5120, ffn_width=13824, appearance_width=1280, num_blocks=40),
}
TRAINED_BYTES = 16
"""Bytes of a number that is trained: itself, its gradient and two moments of AdamW, float32 each."""


def binder_sizes() -> str:
    """Parameters of the binder of a source, and the memory that they take in training, by rank and backbone."""
    header = ["backbone", "rank", "image, parameters", "image, GB", "video, parameters", "video, GB"]
    cells = [
        [name, str(rank or f"{shape.width}, the paper's"), *_sizes(rank, shape)]
        for name, shape in BACKBONES.items()
        for rank in (None, 32, 8, 2)
    ]
    return markdown(header, cells)


def _sizes(rank: int | None, shape: BackboneShape) -> Iterator[str]:
    for kind in ("image", "video"):
        parameters = BicoSettings(rank=rank).parameters(kind, shape)
        yield from (f"{parameters / 1e6:.1f} M", f"{TRAINED_BYTES * parameters / 1e9:.2f}")


# --- references ------------------------------------------------------------------------------------------------------


def commands() -> str:
    """All commands with their arguments, by headings of `bico --help`."""
    text = app.generate_docs(usage_name="uv run bico")
    text = text[text.index("**Your own files**") :]
    return text.replace("```console", "```text").replace("STR...", "STR").rstrip()


def configuration() -> str:
    """Every key with its default and its description, a heading for each section."""
    rows = [_settings(f"methods: {method}", settings_of(method)) for method in by_paper_row()]
    scores = [_settings(f"scoring.scores: {score}", settings_of_score(score)) for score in score_names()]
    return "\n\n".join([*_sections(Config, "", set()), *rows, *scores])


def _settings(heading: str, settings: type[Section]) -> str:
    return "\n".join([f"## {heading}", "", settings.__doc__ or "", "", *_keys(settings, set())]).rstrip("\n")


def _sections(section: type[Section], where: str, done: set[type[Section]]) -> Iterator[str]:
    inner = {key: found for key, field in section.model_fields.items() if (found := section_within(field.annotation))}
    heading = f"## {where}" if where else "## Top level"
    yield "\n".join([heading, "", *_keys(section, set(inner))])
    for key, found in inner.items():
        if issubclass(found, MethodSettings | ScoreSettings) or found in done:
            continue
        done.add(found)
        named = get_origin(section.model_fields[key].annotation) is dict
        path = f"{where}.{key}" if where else key
        yield from _sections(found, f"{path}.*name*" if named else path, done)


def _keys(section: type[Section], sections: set[str]) -> list[str]:
    lines = []
    for key, field in section.model_fields.items():
        default = "required" if field.is_required() else f"default `{flow(to_jsonable_python(field.default))}`"
        if key in sections:
            default = "required" if field.is_required() else "section"
        lines.append(f"* `{key}` ({default}): {explanation(section, key)}")
    return lines


def paths() -> str:
    """Every path of results, as bico/config/layout.py has them."""
    at = Layout(Path("results"))
    rows = []
    for name, member in vars(Layout).items():
        if isinstance(member, property):
            path, about = getattr(at, name), member.__doc__
        elif inspect.isfunction(member) and not name.startswith("_"):
            required = [
                name for name, given in inspect.signature(member).parameters.items() if given.default is given.empty
            ]
            path, about = member(at, *(f"<{name}>" for name in required if name != "self")), member.__doc__
        else:
            continue
        if isinstance(path, Path):
            rows.append([f"`{path}`", " ".join((about or "").split())])
    return markdown(["path", "what"], rows)


def scores() -> str:
    """What each score means, as the legends of the tables say it."""
    columns = columns_of({name: settings_of_score(name)() for name in score_names()}) | TRUTH_SCORES
    return markdown(["score", "meaning"], [[f"`{name}`", column.description] for name, column in columns.items()])


def api() -> str:
    """All that `bico.api` offers, read from its text: no model library is imported."""
    tree = ast.parse((ROOT / "bico/api.py").read_text(encoding="utf-8"))
    assigned = [
        node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    offered: list[str] = ast.literal_eval(assigned[0].value)
    defined = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    modules = {
        alias.name: node.module for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    functions = [_function(defined[name]) for name in offered if name in defined]
    classes = [_class(name, str(modules[name])) for name in offered if name not in defined]
    return "\n\n".join(["## Functions", *functions, "## Classes", *classes])


def _function(node: ast.FunctionDef) -> str:
    arguments = re.sub(r"\b(MEDIA|SAMPLING|SETTINGS|CONCEPTS)\b", lambda found: PAPER[found[1]], ast.unparse(node.args))
    lines = re.split(r", (?![^\[(]*[\])])", arguments)  # not within brackets
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    signature = "\n".join([f"{node.name}(", *(f"    {line}," for line in lines), f"){returns}"])
    return f"### {node.name}\n\n```python\n{signature}\n```\n\n{_docstring(node)}"


def _class(name: str, module: str) -> str:
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    node = next(part for part in tree.body if isinstance(part, ast.ClassDef) and part.name == name)
    return f"### {name}\n\n`{module}.{name}`\n\n{_docstring(node)}"


def _docstring(node: Any) -> str:
    """A docstring in Google's style as Markdown: its lists of arguments and errors become lists."""
    lines = []
    for line in (ast.get_docstring(node) or "").splitlines():
        if re.fullmatch(r"(Args|Raises|Returns|Attributes):", line):
            lines += [f"**{line}**", ""]
        elif entry := re.fullmatch(r"    (\w+): (.*)", line):
            lines.append(f"* `{entry[1]}`: {entry[2]}")
        elif line.startswith("        ") and lines and lines[-1].startswith(("* ", "  ")):
            lines.append(f"  {line.strip()}")
        else:
            lines.append(line)
    return "\n".join(lines)


if __name__ == "__main__":
    fresh = {path: page(path.read_text(encoding="utf-8")) for path in pages()}
    stale = [path for path, text in fresh.items() if path.read_text(encoding="utf-8") != text]
    if sys.argv[1:] == ["--check"]:
        sys.exit(f"stale: {', '.join(map(str, stale))}: run `uv run python docs/generate.py`" if stale else 0)
    for path in stale:
        path.write_text(fresh[path], encoding="utf-8")
