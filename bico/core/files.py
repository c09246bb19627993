"""Files that are either whole or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, whose file takes its place once everything is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        yield unfinished
        unfinished.chmod(0o666 & ~_umask())  # safetensors writes files that nobody else may read
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _umask() -> int:
    os.umask(mask := os.umask(0))
    return mask


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_csv(path: Path, table: pd.DataFrame, decimals: int = 4) -> None:
    """Writes a table with so many decimals; what rounds to zero has no sign."""
    write_text(path, table.to_csv(index=False, float_format=f"{{:z.{decimals}f}}".format))


def write_json(path: Path, data: Any) -> None:
    """Writes JSON, indented."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
