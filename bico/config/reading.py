"""Reading a benchmark from YAML, in which no key may stand twice."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bico.config.schema import Config
from bico.config.section import checked
from bico.core.errors import InputError


def load(source: Path | str | Mapping[str, Any], *, name: str = "config") -> Config:
    """Reads a benchmark from a YAML file, or from a dict that was read before (`name` then stands for the file).

    Raises InputError, one line, at the first thing that does not fit.
    """
    if isinstance(source, Path | str):
        name, source = str(source), read_yaml(Path(source))
    return checked(Config, source, name=name)


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that stands twice in a mapping is an error: the first would be lost without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node, seen = super().compose_mapping_node(anchor), {}
        for key, _ in node.value:
            if key.value in seen and key.value != "<<":
                problem = f"the key '{key.value}' stands there twice, first in line {seen[key.value].line + 1}"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen[key.value] = key.start_mark
        return node


def read_yaml(path: Path) -> Any:
    """The values of a YAML file. Raises InputError, one line, if it cannot be read or a key stands there twice."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except OSError as error:
        raise InputError(f"{path}: cannot read this config ({error.strerror}): expected a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        raise InputError(f"{path}{line}: not valid YAML: {str(error).splitlines()[0]}") from None
