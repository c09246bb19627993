"""What a run says at its end: its tables as text, where the pictures are, and the command that makes them."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bico.config.schema import Config
from bico.core.tables import read_table
from bico.report.names import scope
from bico.report.partial import complete_first, covered

if TYPE_CHECKING:
    import pandas as pd

HEADINGS = {
    "clip_t": "CLIP-T",
    "dino_i": "DINO-I",
    "motion_fidelity": "fidelity",
    "truth_concept": "concept",
    "truth_prompt": "prompt",
    "truth_motion": "motion",
    "truth_overall": "overall",
}
"""Column of a table -> its heading."""
TRUTH = ["truth_concept", "truth_prompt", "truth_motion", "truth_overall"]
"""Columns of which a table with truth shows intervals."""
WIDEST = 100


def ending(config: Config, tables: Sequence[str], *, width: int, command: str) -> str:
    """The text for these tables of a config, or where its results are if there are none.

    Args:
        tables: "table1" and so on, whose files are there.
        width: characters of a line.
        command: makes pictures and gallery.
    """
    if not tables:
        return f"Done. The results are in {config.results}/."
    parts = [_table(config, name, min(width, WIDEST)) for name in tables]
    return "\n\n".join([*parts, _pictures(config, tables, command)])


def with_target(arguments: Sequence[str], targets: Collection[str], target: str) -> str:
    """A Snakemake command as it was given, with this target in place of its own."""
    kept = [argument for argument in arguments if argument not in targets and argument != "--"]
    return shlex.join(["uv", "run", "snakemake", *kept, "--", target])


def _table(config: Config, name: str, width: int) -> str:
    path = config.paths.table(name)
    types = {"method": str, "configuration": str, "cases": int, "scored_cases": int}
    table = complete_first(read_table(path, types))
    known = [column for column in HEADINGS if column in table]
    few = [column for column in TRUTH if column in known] or known
    rows = table.to_dict(orient="records")
    fewer = {config.label(row["method"]): covered(row) for row in rows if covered(row)}
    names = [f"{label} *" if label in fewer else label for label in (config.label(row["method"]) for row in rows)]
    lines = _aligned(names, table, few, spans=True)
    if len(lines[0]) > width:
        lines = _aligned(names, table, known, spans=False)
    if len(lines[0]) > width:
        lines = _aligned(names, table, few, spans=False)
    has_spans = any("[" in line for line in lines)
    brackets = "In brackets: 95 % interval. All else" if has_spans else "Intervals and all else"
    notes = [f"{brackets}: {path.with_suffix('.md')}"]
    if fewer:
        told = ", ".join(f"{label} {count}" for label, count in fewer.items())
        notes = [f"* covers fewer cases ({told}).", "  Do not compare its means with other rows.", *notes]
    return "\n".join([f"{path}: {scope(config)}", "", *lines, "", *notes])


def _aligned(names: list[str], table: pd.DataFrame, columns: list[str], *, spans: bool) -> list[str]:
    cells = [["", *names]]
    for column in columns:
        ends = table.get(f"{column}_low"), table.get(f"{column}_high")
        cells.append([HEADINGS[column]])
        for row, mean in enumerate(table[column]):
            text = f"{mean:.1f}" if np.isfinite(mean) else "-"
            if spans and ends[0] is not None and ends[1] is not None and np.isfinite(ends[0][row]):
                text += f" [{ends[0][row]:.1f}, {ends[1][row]:.1f}]"
            cells[-1].append(text)
    widths = [max(map(len, column)) for column in cells]
    first, *others = (
        [cell.ljust(width) if number == 0 else cell.rjust(width) for cell in column]
        for number, (column, width) in enumerate(zip(cells, widths, strict=True))
    )
    return ["  ".join(row) for row in zip(first, *others, strict=True)]


def _pictures(config: Config, tables: Sequence[str], command: str) -> str:
    """Where they are; and the command, unless all are there."""
    paths = config.paths
    wanted: dict[str, list[Path]] = {
        "tables, drawn": [paths.figure(name) for name in tables],
        "pictures of each case": [paths.figure(f"cases/{case}") for case in config.cases],
        "gallery": [paths.gallery / "index.html"],
    }
    there = {what: files for what, files in wanted.items() if all(file.exists() for file in files)}
    lines = [f"{what + ':':23}{_named(files)}" for what, files in there.items()]
    if missing := [what for what in wanted if what not in there]:
        lines += [f"Not made yet: {'; '.join(missing)}. This command makes them:", f"    {command}"]
    return "\n".join(lines)


def _named(files: list[Path]) -> str:
    return str(files[0]) if len(files) == 1 else f"{files[0].parent}/ ({len(files)} pictures)"
