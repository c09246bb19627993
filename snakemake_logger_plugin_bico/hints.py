"""Hints for mistakes on the command line for which Snakemake prints a traceback."""

from __future__ import annotations

import re

TARGET = "put `--` before the files to make, as in `snakemake --cores all --config 'seeds=[0,1]' -- results/table1.csv`"


def hint(message: str) -> str | None:
    """One line in place of such a message; None for other messages."""
    if found := re.search(r"have to be defined as name=value pairs\. \(Unparsable value: '(.*)'\)", message):
        return f"error: --config {found[1]}: expected name=value. If it is a file to make, {TARGET}"
    if found := re.search(r"load_configfile.*No such file or directory: '(.*?)'", message, re.DOTALL):
        return f"error: --configfile {found[1]}: not there: expected a config. If it is a file to make, {TARGET}"
    if "Config file must be given as JSON or YAML" in message or "Config file is not valid JSON or YAML" in message:
        return f"error: --configfile: one of the files is no YAML of settings. If it is a file to make, {TARGET}"
    return None
