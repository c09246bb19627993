"""Short digests of what a result depends on besides its inputs: the code that computes it, and its models.

Snakemake sees neither: a rule calls the command line, and models are not outputs of a normal run. So each rule has
these digests among its `params`. When one changes, the rule's results are stale and are computed again.

A module is stale as a whole, so a module should have one concern. Texts do not count: comments, docstrings,
descriptions of settings, the text of errors, and what is printed or logged.
"""

import ast
import hashlib
import json
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]

WITHOUT_EFFECT = frozenset(
    {
        "bico",
        "bico.core",
        "bico.core.errors",
        "bico.core.files",
        "bico.core.fingerprints",
        "bico.core.device",
        "bico.core.progress",
        "bico.core.records",
        "bico.pipeline.previews",
        "bico.plan",
        "bico.plan.dependencies",
        "bico.plan.trainings",
    }
)
"""Modules on whose code no result depends. Results depend on the values and files that they produce, and these are
compared. Previews are not results."""


def has_effect(module: str) -> bool:
    """Whether a result can depend on a module. Modules that define the settings of a config do not count: settings are
    compared as values."""
    of_method = module.startswith("bico.methods.") and module.endswith(".settings")
    settings = of_method or module == "bico.config" or module.startswith("bico.config.")
    return not settings and module not in WITHOUT_EFFECT


@cache
def code_digest(*modules: str, package: Path = PACKAGE) -> str:
    """A digest of modules ("bico.scoring.scoring", ...) and of everything that they import from this package.

    It follows all import statements in a file, also within functions.
    """
    total = hashlib.sha256()
    for module in sorted(closure(*modules, package=package)):
        total.update(f"{module}\n{_dump(_source(module, package))}\n".encode())
    return total.hexdigest()[:16]


def closure(*modules: str, package: Path = PACKAGE) -> set[str]:
    """These modules and everything that they import from this package, with the packages that contain them."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found and has_effect(module):
            found.add(module)
            waiting += _imported(module, package)
    return found


def folder_digest(folder: Path) -> str:
    """A digest of a model folder.

    It uses checksums if there are any beside the folder, in SHA256SUMS, or the revision that was downloaded and checked
    (`bico.sources.weights`). Otherwise it uses names, sizes and times, because reading large files would take minutes.
    """
    sums, fetched = folder.parent / "SHA256SUMS", folder.with_name(f"{folder.name}.json")
    if fetched.exists():
        manifest = json.loads(fetched.read_text())
        lines = [manifest["repository"], manifest["revision"]]
    elif sums.exists():
        lines = [line for line in sums.read_text().splitlines() if line.split("  ")[-1].startswith(f"{folder.name}/")]
    else:
        files = {path.relative_to(folder): path.stat() for path in folder.rglob("*") if path.is_file()}
        lines = [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in files.items()]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _imported(module: str, package: Path) -> list[str]:
    """The modules of this package that a module imports, and the package that contains it."""
    parent = module.rpartition(".")[0]
    found = [parent] if parent else []
    for node in ast.walk(_tree(_source(module, package))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found += [name for name in names if name.partition(".")[0] == package.name and _source(name, package)]
    return found


def _source(module: str, package: Path) -> Path | None:
    """The file of a module; None if the name is not a module but something within one."""
    path = package.parent / module.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def _dump(path: Path) -> str:
    return _written(_tree(path))


def _written(part: object) -> str:
    """A part of a syntax tree as text, without empty fields. Python 3.12 and 3.13 added fields that are empty in older
    code, and `ast.dump` writes some of them: another Python must not make results stale."""
    if isinstance(part, list):
        return f"[{', '.join(map(_written, part))}]"
    if not isinstance(part, ast.AST):
        return repr(part)
    fields = [f"{name}={_written(value)}" for name, value in ast.iter_fields(part) if value not in (None, [])]
    return f"{type(part).__name__}({', '.join(fields)})"


@cache
def _tree(path: Path) -> ast.Module:
    """The syntax tree of a module without its texts."""
    return _Silent().visit(ast.parse(path.read_text(encoding="utf-8")))


def _only_says(call: ast.Call) -> bool:
    """Whether a call prints to the screen, or logs. A print to a file may be a result."""
    files = [ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == "file"]
    name = ast.unparse(call.func)
    return name.startswith("log.") or (name == "print" and files in ([], ["sys.stderr"]))


class _Silent(ast.NodeTransformer):
    """Removes docstrings, descriptions, messages, and imports for type checkers from a module."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        value = node.value
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return None
        if isinstance(value, ast.Call) and _only_says(value):
            return ast.Pass()
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return ast.Raise(exc=raised, cause=None)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.keywords = [keyword for keyword in node.keywords if keyword.arg != "description"]
        return self.generic_visit(node)
