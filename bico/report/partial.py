"""Rows that cover fewer cases than the benchmark has, and rows that lack clips.

Means over fewer cases cannot be compared with those of other rows. So such rows are marked, listed last, and compared
with the reference on their common cases. A row that lacks clips of a case is marked where it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from bico.config.schema import Config
from bico.report.names import counted
from bico.report.statistics import row_intervals

REFERENCE = "bico"
"""The row with which the others are compared, if a table has it."""
COUNTS = ("cases", "scored_cases", "clips", "missing")
"""The columns of a table that say what a row covers."""


def scored_cases(scores: pd.DataFrame) -> list[str]:
    """The cases for which a row has a clip, from its scores."""
    return list(scores.loc[scores["status"] == "ok", "case"].unique())


def covered(row: Mapping[Any, Any]) -> str:
    """How many cases a row of a table covers, such as "7 of 28 cases"; "" if it covers all of them."""
    if row["scored_cases"] == row["cases"]:
        return ""
    return f"{row['scored_cases']} of {counted(row['cases'], 'case')}"


def lost(row: Mapping[Any, Any]) -> str:
    """How many clips of a row of a table failed or are missing, such as "2 of 56 clips missing"; "" if none."""
    return f"{row['missing']} of {counted(row['clips'], 'clip')} missing" if row["missing"] else ""


def complete_first(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table, with those that cover fewer cases last, otherwise in their order."""
    return table.sort_values("scored_cases", key=lambda found: found < table["cases"], kind="stable", ignore_index=True)


def on_same_cases(
    config: Config, scores: Mapping[str, pd.DataFrame], columns: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """Row -> the reference's scores on only the cases of that row: means with intervals, "label" and "covers".

    It has every row that covers some cases but not all, and has cases in common with the reference.
    """
    if REFERENCE not in scores:
        return {}
    reference, columns = scores[REFERENCE], list(columns)
    known = set(scored_cases(reference))
    fewer = {row: scored_cases(of_row) for row, of_row in scores.items() if row != REFERENCE}
    fewer = {row: cases for row, cases in fewer.items() if len(cases) < len(config.cases)}
    found = {row: [case for case in cases if case in known] for row, cases in fewer.items()}
    return {
        row: {"label": config.label(REFERENCE), "covers": f"on the same {counted(len(cases), 'case')}"}
        | row_intervals(config, reference[reference["case"].isin(cases)], columns)
        for row, cases in found.items()
        if cases
    }
