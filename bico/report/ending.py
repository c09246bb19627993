"""The summary that a run prints at its end: its tables, the paths of pictures, and the command that makes more."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from bico.config.schema import Config
from bico.config.scores import TRUTH_SCORES
from bico.core.tables import read_table
from bico.report.names import scope, span
from bico.report.partial import COUNTS, complete_first, covered, lost
from bico.scoring.results import score_columns

if TYPE_CHECKING:
    import pandas as pd

TRUTH = ["truth_concept", "truth_prompt", "truth_motion", "truth_overall"]
"""Columns that are shown with intervals, in a table with truth scores."""
WIDEST = 100


def ending(config: Config, tables: Sequence[str], *, width: int, command: Callable[[Sequence[str]], str]) -> str:
    """The summary of these tables of a config; without tables, the path of its results.

    Args:
        tables: names of existing tables, such as "table1".
        width: characters of a line.
        command: returns the command that makes the given targets.
    """
    if not tables:
        return f"Done. The results are in {config.results}/."
    parts = [_table(config, name, min(width, WIDEST)) for name in tables]
    return "\n\n".join([*parts, _pictures(config, tables, command)])


KEPT = re.compile(
    r"-(c|j|C|d|s)|--(cores|jobs|config|configfiles?|directory|snakefile|profile|workflow-profile|executor)\b"
)
"""Options of Snakemake that say what is run and where. Others, such as --forceall, apply to a single run."""


def with_targets(arguments: Sequence[str], targets: Collection[str], wanted: Sequence[str]) -> str:
    """The Snakemake command of this run, with other targets in place of its own."""
    given = arguments[: arguments.index("--")] if "--" in arguments else arguments
    kept, keeps = list[str](), False
    for before, argument in zip(("", *given), given, strict=False):
        if argument.startswith("-"):
            keeps = KEPT.match(argument) is not None
        # The first value belongs to its option even if a target has the same name, as in `--cores all`.
        if keeps and (before.startswith("-") or argument not in targets):
            kept.append(argument)
    return shlex.join(["uv", "run", "snakemake", *kept, "--", *wanted])


def _table(config: Config, name: str, width: int) -> str:
    path = config.paths.table(name)
    types = {"method": str, "configuration": str} | dict.fromkeys(COUNTS, int)
    table = complete_first(read_table(path, types))
    columns = score_columns(config)
    short = [name for name, column in columns.items() if column.heading and name not in TRUTH_SCORES]
    few = [name for name in TRUTH if name in columns] or short
    known = [*short, *TRUTH] if few == TRUTH else short
    labels = {name: column.label for name, column in columns.items()}
    rows = table.to_dict(orient="records")
    row_labels = [config.label(row["method"]) for row in rows]
    fewer = {label: covered(row) for label, row in zip(row_labels, rows, strict=True) if covered(row)}
    lacking = {label: lost(row) for label, row in zip(row_labels, rows, strict=True) if lost(row)}
    marks = [("*" if label in fewer else "") + ("!" if label in lacking else "") for label in row_labels]
    names = [f"{label} {mark}".rstrip() for label, mark in zip(row_labels, marks, strict=True)]
    lines = _aligned(names, table, few, labels, spans=True)
    if len(lines[0]) > width:
        lines = _aligned(names, table, known, labels, spans=False)
    if len(lines[0]) > width:
        lines = _aligned(names, table, few, labels, spans=False)
    has_spans = any("[" in line for line in lines)
    brackets = "95 % intervals are in brackets. All scores are" if has_spans else "Intervals and all scores are"
    notes = [f"{brackets} in {path.with_suffix('.md')}"]
    if fewer:
        counts = ", ".join(f"{label} {count}" for label, count in fewer.items())
        few_cases = [
            f"* These rows cover fewer cases: {counts}.",
            "  Their means do not compare with those of other rows.",
        ]
        notes = [*few_cases, *notes]
    if lacking:
        counts = ", ".join(f"{label} {count}" for label, count in lacking.items())
        notes = [f"! Clips failed, and means are over the others: {counts}.", *notes]
    return "\n".join([f"{path}: {scope(config)}", "", *lines, "", *notes])


def _aligned(
    names: list[str], table: pd.DataFrame, columns: list[str], labels: Mapping[str, str], *, spans: bool
) -> list[str]:
    cells = [["", *names]]
    for column in columns:
        ends = (f"{column}_low", f"{column}_high") if spans else ()
        scores = ([row.get(name, math.nan) for name in (column, *ends)] for row in table.to_dict(orient="records"))
        cells.append([labels[column], *(span(*score) or "-" for score in scores)])
    widths = [max(map(len, column)) for column in cells]
    first, *others = (
        [cell.ljust(width) if number == 0 else cell.rjust(width) for cell in column]
        for number, (column, width) in enumerate(zip(cells, widths, strict=True))
    )
    return ["  ".join(row) for row in zip(first, *others, strict=True)]


def _pictures(config: Config, tables: Sequence[str], command: Callable[[Sequence[str]], str]) -> str:
    """The paths of pictures that are newer than the scores, and the command that makes the others."""
    paths = config.paths
    scores = [paths.scores(row) for name in tables for row in config.table(name)]
    since = max((file.stat().st_mtime for file in scores if file.exists()), default=0.0)
    drawn = [paths.figure(name) for name in tables]
    wanted: dict[str, tuple[list[Path], list[str]]] = {"tables, drawn": (drawn, [str(file) for file in drawn])}
    if "table1" in tables:  # these pictures show its rows
        wanted["pictures of each case"] = [paths.figure(f"cases/{case}") for case in config.cases], ["all"]
        wanted["gallery"] = [paths.gallery / "index.html"], ["all"]
    missing = {
        what: targets
        for what, (files, targets) in wanted.items()
        if not all(file.exists() and file.stat().st_mtime >= since for file in files)
    }
    lines = [f"{what + ':':23}{_named(files)}" for what, (files, _) in wanted.items() if what not in missing]
    if missing:
        remaining = command([*dict.fromkeys(chain.from_iterable(missing.values()))])
        lines += [f"Not made yet: {'; '.join(missing)}. This command makes them:", f"    {remaining}"]
    return "\n".join(lines)


def _named(files: list[Path]) -> str:
    return str(files[0]) if len(files) == 1 else f"{files[0].parent}/ ({len(files)} pictures)"
