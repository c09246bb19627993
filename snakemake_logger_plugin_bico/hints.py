"""Hints for mistakes on the command line for which Snakemake prints a traceback."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bico.config.reading import read_yaml
from bico.core.errors import InputError

TARGET = "put `--` before the files to make, as in `snakemake --cores all --config 'seeds=[0,1]' -- results/table1.csv`"


def hint(message: str, arguments: Sequence[str]) -> str | None:
    """One line in place of such a message; None for other messages. `arguments` are those of the command line."""
    if found := re.search(r"have to be defined as name=value pairs\. \(Unparsable value: '(.*)'\)", message):
        return f"error: --config {found[1]}: expected name=value. If it is a file to make, {TARGET}"
    if found := re.search(r"load_configfile.*No such file or directory: '(.*?)'", message, re.DOTALL):
        return f"error: --configfile {found[1]}: not there: expected a config. If it is a file to make, {TARGET}"
    if "Config file must be given as JSON or YAML" in message or "Config file is not valid JSON or YAML" in message:
        return _unreadable(arguments)
    return None


def _unreadable(arguments: Sequence[str]) -> str:
    """What is wrong with the files after --configfile, of which one is no YAML of settings."""
    for file in (argument for argument in arguments if argument.endswith((".yaml", ".yml", ".json"))):
        try:
            read_yaml(Path(file))
        except InputError as error:
            return f"error: {error}"
    return f"error: --configfile: one of the files is no YAML of settings. If it is a file to make, {TARGET}"
