"""Writes the reference of all keys, and the JSON schema for editors, from the descriptions of the settings:

uv run python -m bico.config.reference
"""

import json
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import to_jsonable_python

from bico.config.methods import MethodSettings, method_names, settings_of
from bico.config.schema import Config
from bico.config.scores import ScoreSettings, score_names, settings_of_score
from bico.config.section import Section
from bico.config.settings import Scoring

FOLDER = Path(__file__).parents[2] / "config"
REFERENCE, SCHEMA = FOLDER / "reference.yaml", FOLDER / "schema.json"
COMMAND = "uv run python -m bico.config.reference"
WIDTH = 120

HEADER = f"""\
# yaml-language-server: $schema={SCHEMA.name}
#
# The reference of the configuration: every key, explained at its first place in this file.
#
# A key shows its default, which is the paper's value where the paper has one. Where the comment ends in "Required." or
# in "Default: ...", the value is an example. A configuration of your own needs only the required keys: start from
# config/examples/own_media.yaml. An unknown key is an error.
#
# `{COMMAND}` writes this file from the descriptions in bico/config and bico/methods.
"""

EXAMPLE: dict[str, Any] = {
    "name": "my_benchmark",
    "models": {
        "wan": "data/weights/Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        "vlm": "data/weights/Qwen/Qwen2.5-VL-7B-Instruct",
        "clip": "data/weights/timm/vit_base_patch32_clip_224.openai",
        "dino": "data/weights/timm/vit_small_patch16_224.dino",
        "probe": "data/toybox/zoo/probe",
    },
    "sources": {
        "my_cat": {"kind": "image", "file": "my_media/cat.jpg", "concepts": {"spatial": ["cat"]}},
        "fish_bouncing": {
            "kind": "video",
            "scene": {"seed": 7011, "subject": "fish", "scene": "city", "motion": "bouncing"},
        },
    },
    "cases": {
        "cat_bouncing": {
            "prompt": "a cat bouncing at the beach",
            "bind": {"my_cat": ["cat"], "fish_bouncing": ["bouncing"]},
            "truth": {"motion": "fish_bouncing"},
        }
    },
    "methods": {
        "external": {"clips": "theirs.zip"},
        "bico_weak": {"method": "bico", "strength": 0.5},
        "bico_no_token": {"method": "bico", "absorption": {"tokens": 0}},
    },
    "tables": {
        "table1": {"base": None, "db_lora": 2, "bico": 5},
        "table2": {"bico": 7},
        "table3": {"bico": 3},
    },
    "curves": {"strength": {"label": "strength of the binders", "rows": {"bico_weak": 0.5, "bico": 1.0}}},
    "applications": {
        "bouncing_alone": {"source": "fish_bouncing", "prompt": "a robot bouncing in space", "keep": ["bouncing"]},
        "cat_for_fish": {
            "source": "fish_bouncing",
            "prompt": "a fish bouncing in the city",
            "swap": {"fish": "cat"},
        },
    },
    "controls": {"diversification": {"lacks": "bico_weak", "has": "bico"}, "absorption": {"row": "bico_no_token"}},
    "tuning": {
        "sources": {"rocket_city": {"kind": "image", "scene": {"seed": 8001, "subject": "rocket", "scene": "city"}}},
        "cases": {"rocket_sliding": {"prompt": "a rocket sliding in fog", "bind": {"rocket_city": ["rocket"]}}},
    },
}
"""A small configuration. The reference shows its values where a key has no default, or an empty one."""


def explanation(section: type[Section], key: str) -> str:
    """The description of a key: the field's own, or that of the field that it overrides."""
    fields = (base.model_fields.get(key) for base in section.__mro__ if issubclass(base, Section))
    return next((field.description for field in fields if field and field.description), "")


def by_paper_row() -> list[str]:
    """All methods, in the order of the paper's Table 1; those that it lacks come first."""
    return sorted(method_names(), key=lambda method: (settings_of(method).PAPER_ROW or 0, method))


# --- the reference ---------------------------------------------------------------------------------------------------


def reference() -> str:
    """A valid configuration with every key, its default or an example, and its description as a comment."""
    methods = by_paper_row()
    rows = {method: {} for method in methods} | EXAMPLE["methods"]
    defaults = {method: to_jsonable_python(settings_of(method).model_validate(rows[method])) for method in methods}
    usual = Scoring().scores
    further = {name: settings_of_score(name)() for name in score_names() if name not in usual}
    scoring = {"scores": to_jsonable_python(usual), "tested": to_jsonable_python(further)}
    shown = EXAMPLE | {"methods": rows | defaults, "scoring": scoring}
    return "\n".join([HEADER, *_section(Config, shown, set(), WIDTH), ""])


def _section(section: type[Section], shown: Mapping[str, Any], explained: set[str], width: int) -> list[str]:
    """The lines of a section: its keys in `shown`, and with their defaults the keys that are not explained yet."""
    blocks = []
    for key, field in section.model_fields.items():
        text = explanation(section, key)
        if key not in shown and text in explained:
            continue
        value = shown.get(key, None if field.is_required() else to_jsonable_python(field.default))
        comment = "" if text in explained else f"{text}{_instead_of_default(field, value)}"
        explained.add(text)
        blocks.append((_lines(key, value, field.annotation, explained, width), comment))
    return _spaced(_commented(blocks, width))


def _commented(blocks: list[tuple[list[str], str]], width: int) -> Iterator[list[str]]:
    """Keys with their comments. A comment that fits stands behind its key, aligned with its neighbours; else above."""

    def fits(block: tuple[list[str], str]) -> bool:
        lines, comment = block
        return len(lines) == 1 and len(f"{lines[0]}  # {comment}") <= width

    for behind, neighbours in groupby(blocks, fits):
        run = list(neighbours)
        column = max(len(lines[0]) for lines, _ in run)
        for lines, comment in run:
            if behind and comment:
                yield [f"{lines[0]:<{min(column, width - 4 - len(comment))}}  # {comment}"]
            else:
                yield [*_comment(comment, width), *lines]


def _lines(key: str, value: Any, annotation: Any, explained: set[str], width: int) -> list[str]:
    """A key and its value, which is a section, sections by name, or plain."""
    section = section_within(annotation)
    if section is None or not value:
        return _plain(key, value, width)
    if get_origin(annotation) is dict:
        inner = _spaced(_entry(name, entry, section, explained, width - 2) for name, entry in value.items())
    else:
        inner = _section(section, value, explained, width - 2)
    return [f"{key}:", *_indented(inner)]


def _entry(name: str, entry: Mapping[str, Any], section: type[Section], explained: set[str], width: int) -> list[str]:
    """A section under a name of the user's choice. The description of a method stands above its first row."""
    comment = []
    if section in (MethodSettings, ScoreSettings):
        section = settings_of(entry["method"]) if section is MethodSettings else settings_of_score(name)
        about = section.__doc__ or ""
        comment = [] if about in explained else _comment(about, width)
        explained.add(about)
    inner = _section(section, entry, explained, width - 2)
    return [*comment, f"{name}:", *_indented(inner)] if inner else [*comment, f"{name}: {{}}"]


def _plain(key: str, value: Any, width: int) -> list[str]:
    """A key and a value in one line, or a long text folded below it."""
    line = f"{key}: {flow(value)}"
    if isinstance(value, str) and len(line) > width:
        return [f"{key}: >-", *_indented(textwrap.wrap(value, width - 2, break_long_words=False))]
    return [line]


def flow(value: Any) -> str:
    """A value as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _instead_of_default(field: FieldInfo, value: Any) -> str:
    """The end of a comment whose key shows an example."""
    if field.is_required():
        return " Required."
    default = to_jsonable_python(field.default)
    return "" if value == default or isinstance(field.default, Section) else f" Default: {flow(default)}."


def section_within(annotation: Any) -> type[Section] | None:
    """The section class of values of this type, or of the values of a dict of this type; None if they are plain."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(section_within, get_args(annotation))), None)


def _comment(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" if line else "" for line in lines]


def _spaced(blocks: Iterable[list[str]]) -> list[str]:
    """Blocks below each other, with blank lines around those of several lines."""
    lines: list[str] = []
    before = 0
    for block in blocks:
        lines += [*([""] if before and max(before, len(block)) > 1 else []), *block]
        before = len(block)
    return lines


# --- the schema ------------------------------------------------------------------------------------------------------


class _WithoutTitles(GenerateJsonSchema):
    """Leaves out titles, which only repeat their keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema() -> str:
    """The JSON schema of a configuration, in which each row of `methods` has the settings of its own method."""
    whole = Config.model_json_schema(schema_generator=_WithoutTitles)
    definitions = whole["$defs"]
    del definitions[MethodSettings.__name__], definitions[ScoreSettings.__name__]
    of_method = {method: _defined(definitions, "methods", method, settings_of(method)) for method in method_names()}
    of_score = {score: _defined(definitions, "scores", score, settings_of_score(score)) for score in score_names()}
    for key in ("scores", "tested"):
        definitions["Scoring"]["properties"][key] |= {
            "properties": {score: {"anyOf": [{"type": "null"}, own]} for score, own in of_score.items()},
            "additionalProperties": False,
        }
    of_any = {"$ref": "#/$defs/row"}
    definitions["row"] = {"oneOf": list(of_method.values()), "required": ["method"]}
    whole["properties"]["methods"] |= {
        # A row with the name of a method may leave out `method`, and all settings.
        "properties": {method: {"anyOf": [{"type": "null"}, own, of_any]} for method, own in of_method.items()},
        "additionalProperties": of_any,
    }
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **whole}, indent=2) + "\n"


def _defined(definitions: dict[str, Any], kind: str, name: str, settings: type[Section]) -> dict[str, str]:
    """Adds the schema of the settings of a method or score to the definitions. Returns the reference to it."""
    place = f"{kind}.{name}"
    own = settings.model_json_schema(schema_generator=_WithoutTitles, ref_template=f"#/$defs/{place}.{{model}}")
    definitions |= {f"{place}.{part}": inner for part, inner in own.pop("$defs", {}).items()}
    definitions[place] = own | {"title": name}
    for key, value in own["properties"].items():  # pydantic leaves out what a field inherits
        value.setdefault("description", explanation(settings, key))
    return {"$ref": f"#/$defs/{place}"}


if __name__ == "__main__":
    REFERENCE.write_text(reference(), encoding="utf-8")
    SCHEMA.write_text(schema(), encoding="utf-8")
