"""Reads tables exactly as they were written: no type is guessed, no word means a missing value, no row is skipped.

A reader that guesses would read a case named "007" as the number 7, and one named "NA" as a missing value.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bico.core.errors import InputError
from bico.core.records import intact

if TYPE_CHECKING:
    import pandas as pd

Lines = dict[int, dict[str, str]]
"""Number of a row in its file (the header is row 1) -> its cells by column."""

CELLS = {
    str: (r".*", "text"),
    int: (r"-?\d+", "a whole number"),
    float: (r"(-?(\d+(\.\d*)?(e[-+]?\d+)?|inf))?", "a number or an empty cell"),
    bool: (r"True|False", "True or False"),
}
"""Type of a column -> pattern of its cells, and its name in messages."""
REMEDY = "remove the file, and Snakemake makes it again"


def read_lines(path: Path, columns: Sequence[str], *, delimiter: str = ",") -> Lines:
    """The rows of a CSV file in UTF-8, which has these columns and maybe others. Empty lines are skipped.

    Raises:
        InputError: one line with file and row, at a header without these columns, or a row of another length.
    """
    text = path.read_bytes().decode("utf-8-sig", errors="replace")  # a file that is not text lacks the header
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    lines: Lines = {}
    try:
        header = next(reader, [])
        if not set(columns) <= set(header) or len(set(header)) < len(header):
            found = delimiter.join(header)[:60]
            raise InputError(f"{path}, row 1: expected the columns {delimiter.join(columns)}, each once, got {found!r}")
        for cells in filter(None, reader):
            if len(cells) != len(header):
                raise InputError(f"{path}, row {reader.line_num}: expected {len(header)} cells, got {len(cells)}")
            lines[reader.line_num] = dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise InputError(f"{path}, row {reader.line_num}: no row of a CSV file: {error}") from None
    return lines


def read_table(
    path: Path, types: Mapping[str, type], *, by: Sequence[str] = (), expected: Iterable[Sequence[Any]] = ()
) -> pd.DataFrame:
    """A table that a step of the benchmark wrote, with a type for each column and the rows that it must have.

    It is compared with its record, if it has one (`bico.core.saving`).

    Args:
        types: types of the columns that it must have: str, int, float or bool. Other columns are float. An empty cell
            of a float column is NaN; any other word for a missing value is an error.
        by: columns that identify a row; none = rows are not checked.
        expected: the values of these columns, row by row. The rows are returned in this order.

    Raises:
        InputError: one line with file and row, for a cell of another type, or a row that is missing, unexpected or
            repeated; or the table has changed since it was written.
    """
    import pandas as pd

    lines = read_lines(intact(path), list(types))
    cells = {
        number: {column: _value(path, number, column, cell, types.get(column, float)) for column, cell in line.items()}
        for number, line in lines.items()
    }
    rows = _in_order(path, cells, by, expected) if by else list(cells.values())
    return pd.DataFrame(rows, columns=None if rows else list(types))


def _value(path: Path, row: int, column: str, cell: str, kind: type) -> Any:
    form, name = CELLS[kind]
    if not re.fullmatch(form, cell, re.DOTALL):
        raise InputError(f"{path}, row {row}, column {column}: expected {name}, got {cell[:60]!r}")
    if kind is bool:
        return cell == "True"
    return kind(cell or "nan") if kind is float else kind(cell)


def _in_order(
    path: Path, cells: Mapping[int, dict[str, Any]], by: Sequence[str], expected: Iterable[Sequence[Any]]
) -> list[dict[str, Any]]:
    """The expected rows in their order, each once."""
    wanted = dict.fromkeys(map(tuple, expected))
    found: dict[tuple[Any, ...], int] = {}
    for row, line in cells.items():
        key = tuple(line[column] for column in by)
        if key in found:
            raise InputError(f"{path}, row {row}: {_named(by, key)}: in row {found[key]}, too: expected once; {REMEDY}")
        if key not in wanted:
            raise InputError(f"{path}, row {row}: {_named(by, key)}: not in the config: expected what is; {REMEDY}")
        found[key] = row
    for key in wanted:
        if key not in found:
            number = f"{len(wanted)} rows, got {len(found)}"
            raise InputError(f"{path}: no row of {_named(by, key)}: expected {number}; {REMEDY}")
    return [cells[found[key]] for key in wanted]


def _named(by: Sequence[str], key: tuple[Any, ...]) -> str:
    return ", ".join(f"{column} {value!r}" for column, value in zip(by, key, strict=True))
