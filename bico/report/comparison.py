"""Two results side by side: which of their scores differ, and by how much."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeVar

from bico.core.errors import InputError
from bico.core.tables import read_table

Clip = tuple[str, int]
"""Case and seed."""
Scores = dict[str, dict[Clip, dict[str, Any]]]
"""Row -> clip -> column -> value."""
Key = TypeVar("Key", str, Clip)


def compare(first: Path, second: Path) -> tuple[list[str], bool]:
    """The differences between the scores of two results: a line for each, a summary, and whether all are equal.

    Args:
        first, second: folders of results, or of their score CSVs.

    Raises:
        InputError: a folder without scores, or a table that cannot be read.
    """
    found = read_folder(first), read_folder(second)
    folders = first, second
    lines: list[str] = []
    cells = differing = 0
    for row in _common(lines, "row ", found, folders):
        rows = found[0][row], found[1][row]
        for clip in _common(lines, f"{row}: ", rows, folders):
            values = rows[0][clip], rows[1][clip]
            where = f"{row}: {_named(clip)}: "
            for column in _common(lines, f"{where}column ", values, folders):
                cells += 1
                if text := _difference(values[0][column], values[1][column]):
                    differing += 1
                    lines.append(f"{where}{column} {text}")
    sets = "the same" if len(lines) == differing else "not the same"
    summary = f"{differing} of {cells} cells differ; the sets of rows, cases, seeds and scores are {sets}"
    return [*lines, summary], not lines


def read_folder(folder: Path) -> Scores:
    """The scores in a folder of results, or of their CSVs.

    Raises InputError if it has none, or a table cannot be read or names a clip twice.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: expected one of results, or of their scores")
    scores = folder / "scores" if (folder / "scores").is_dir() else folder
    paths = sorted(scores.glob("*.csv"))
    if not paths:
        raise InputError(f"{scores}: no scores in it: expected a CSV file for each row, which `bico score` writes")
    return {path.stem: _read(path) for path in paths}


def _read(path: Path) -> dict[Clip, dict[str, Any]]:
    table = read_table(path, {"case": str, "seed": int, "status": str})
    clips: dict[Clip, dict[str, Any]] = {}
    for line in table.to_dict(orient="records"):
        clip = str(line.pop("case")), int(line.pop("seed"))
        if clip in clips:
            raise InputError(f"{path}: {_named(clip)} stands there twice: expected each clip once")
        clips[clip] = {str(column): value for column, value in line.items()}
    return clips


def _common(
    lines: list[str], what: str, both: tuple[dict[Key, Any], dict[Key, Any]], folders: tuple[Path, Path]
) -> list[Key]:
    """The keys that both have. Adds a line for each key that one of them lacks."""
    for mine, other, folder in ((both[0], both[1], folders[0]), (both[1], both[0], folders[1])):
        lines += [f"{what}{_named(key)}: only in {folder}" for key in mine if key not in other]
    return [key for key in both[0] if key in both[1]]


def _named(key: str | Clip) -> str:
    return key if isinstance(key, str) else f"case {key[0]}, seed {key[1]}"


def _difference(first: Any, second: Any) -> str:
    """The values of two cells if they differ: texts, or numbers, where NaN is an empty cell."""
    if isinstance(first, str):
        return "" if first == second else f"{first} and {second}"
    if first == second or (math.isnan(first) and math.isnan(second)):
        return ""
    text = " and ".join("nothing" if math.isnan(value) else f"{value:.4f}" for value in (first, second))
    return text if math.isnan(first - second) else f"{text} ({second - first:+.4f})"
