"""Arguments that several commands take, and how a config is opened for a command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, Token, validators

from bico.core.errors import InputError

if TYPE_CHECKING:
    from bico.config.schema import Config


def _whole(type_: type, tokens: Sequence[Token]) -> int:
    """A whole number written in digits. Without this check cyclopts would round 2.7 and accept 0x10."""
    if not tokens[0].value.isdecimal():
        raise ValueError(f"'{tokens[0].value}': expected a whole number")
    return int(tokens[0].value)


Positive = Annotated[int, Parameter(converter=_whole, validator=validators.Number(gte=1))]
Count = Annotated[int, Parameter(converter=_whole)]
ConfigFile = Annotated[Path, Parameter(name="--config", help="YAML file of a benchmark.")]
Row = Annotated[str, Parameter(help="A row of the tables, one of `methods` in the config.")]

_configs: list[Config] = []
"""Configs that the running command has opened."""


def open_config(path: Path) -> Config:
    """The config in this file."""
    from bico.config.reading import load

    _configs.append(config := load(path))
    return config


def open_with_probe(path: Path, command: str) -> Config:
    """The config, for a command that needs exact renderings."""
    config = open_config(path)
    if not config.models.probe:
        raise InputError(f"{command}: it compares clips with Toybox scenes: expected models.probe, which is null")
    return config


def open_with_row(path: Path, row: str) -> tuple[Config, str]:
    """The config, and the name of a row, after a check that it is one of its `methods`."""
    config = open_config(path)
    return config, known("row", row, config.methods)


def known(kind: str, name: str, names: Iterable[str]) -> str:
    """The name, if it is one of `names`. Raises InputError otherwise, in which `kind` says what they name."""
    if name not in (choice := list(names)):
        expected = f"one of {', '.join(choice)}" if choice else "a config that has some"
        raise InputError(f"no {kind} '{name}' in the config: expected {expected}")
    return name


def forget_configs() -> None:
    """Forgets the configs of an earlier command in the same process."""
    _configs.clear()


def is_result(path: Path) -> bool:
    """Whether a path is inside the results of a config that this command has opened."""
    return any(path.absolute().is_relative_to(config.results.absolute()) for config in _configs)
