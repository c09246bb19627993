"""Reads a benchmark from YAML. Values that YAML reads as something unexpected and repeated keys are errors."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bico.config.schema import Config
from bico.config.section import checked
from bico.core.errors import InputError


def load(source: Path | str | Mapping[str, Any], *, name: str = "config") -> Config:
    """Reads a benchmark from a YAML file, or from a dict that was read before (`name` then names it in messages).

    Raises InputError, one line, that names the first problem.
    """
    if isinstance(source, Path | str):
        name, source = str(source), read_yaml(Path(source))
    return checked(Config, source, name=name)


PLAIN = {
    "str": r".*",
    "int": r"[-+]?(0|[1-9][0-9]*)",
    "float": r"[-+]?[0-9.]+(e[-+]?[0-9]+)?|[-+]?\.(inf|nan)",
    "bool": r"true|false",
    "null": r".*",
    "merge": r"<<",
}
"""Type of a YAML scalar -> pattern of how a config may write it.

YAML has other notations, which look like something else: 010 is 8, 1:30 is 90, `on` and `no` are true and false, and
2024-01-01 is a date.
"""


class _Surprise(yaml.MarkedYAMLError):
    """YAML that does not mean what it looks like."""

    def __init__(self, node: yaml.Node, problem: str):
        super().__init__(problem=problem, problem_mark=node.start_mark)


class _Strict(yaml.SafeLoader):
    """Refuses values that YAML reads as something unexpected, keys that are not scalars, and repeated keys."""

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        text, kind = node.value, node.tag.rpartition(":")[2]
        if re.fullmatch(PLAIN.get(kind, "(?!)"), text, re.IGNORECASE | re.DOTALL):
            return node
        if kind in ("int", "float", "bool"):
            value = json.dumps(self.construct_object(node))
            raise _Surprise(node, f"{text} would be read as {value}: write {value}, or '{text}' for text")
        what = "a date" if kind == "timestamp" else f"of YAML's type {kind}"
        raise _Surprise(node, f"{text} would be read as {what}: write '{text}', in quotes, for text")

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node, seen = super().compose_mapping_node(anchor), {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _Surprise(key, "a key in braces or brackets: expected a word; put text with braces in quotes")
            if key.value in seen and key.value != "<<":
                first = seen[key.value].line + 1
                raise _Surprise(key, f"the key '{key.value}' stands there twice, first in line {first}")
            seen[key.value] = key.start_mark
        return node

    def construct_document(self, node: yaml.Node) -> Any:
        return self.construct_object(node, deep=True)  # refuses a value that contains itself


def read_yaml(path: Path) -> Any:
    """The values of a YAML file.

    Raises InputError, one line, if the file cannot be read, if a key is repeated or is not a single word, or if YAML
    reads a value as something that it does not look like.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Strict)
    except OSError as error:
        raise InputError(f"{path}: cannot read this config ({error.strerror}): expected a YAML file") from None
    except (yaml.YAMLError, ValueError, KeyError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        what = "" if isinstance(error, _Surprise) else "not valid YAML: "
        raise InputError(f"{path}{line}: {what}{str(error).splitlines()[0]}") from None
