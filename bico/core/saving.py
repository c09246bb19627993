"""Writes files with a record that has only their digest, because Snakemake knows what they were made from.

This is separate from `records` and `files`, on whose code no result depends: the bytes of a table depend on how it is
written.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bico.core.files import write_json, write_text
from bico.core.records import beside, remember

if TYPE_CHECKING:
    import pandas as pd


def save_csv(path: Path, table: pd.DataFrame, decimals: int = 4) -> None:
    """Writes a table with this number of decimals. Values that round to zero have no sign."""
    beside(path).unlink(missing_ok=True)  # first, because a kill must not leave the record of an older table
    write_text(path, table.to_csv(index=False, float_format=f"{{:z.{decimals}f}}".format))
    remember(path, {})


def save_json(path: Path, data: Any) -> None:
    """Writes JSON, indented."""
    beside(path).unlink(missing_ok=True)
    write_json(path, data)
    remember(path, {})
