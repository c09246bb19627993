"""Files that a step writes as a whole, each with a record that holds its digest alone: Snakemake knows what made it.

Apart from `records`, on which no result depends: how a table is written decides its bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bico.core.files import write_csv, write_json
from bico.core.records import beside, remember

if TYPE_CHECKING:
    import pandas as pd


def save_csv(path: Path, table: pd.DataFrame, decimals: int = 4) -> None:
    """Writes a table with so many decimals."""
    beside(path).unlink(missing_ok=True)  # first: a kill must not leave the record of another table
    write_csv(path, table, decimals)
    remember(path, {})


def save_json(path: Path, data: Any) -> None:
    """Writes JSON, indented."""
    beside(path).unlink(missing_ok=True)
    write_json(path, data)
    remember(path, {})
