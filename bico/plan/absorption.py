"""The rows that the analysis of the absorption token compares."""

from __future__ import annotations

from bico.config.schema import Config


def compared_rows(config: Config) -> tuple[str, str] | None:
    """The rows of Table 2 that correspond to the paper's full model and its "TDS without absorption"; None if one of
    them is missing."""
    rows = {number: row for row, number in config.table("table2").items()}
    return (rows[7], rows[5]) if {5, 7} <= rows.keys() else None
