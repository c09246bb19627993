"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import glob
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bico.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

UNFINISHED = ".unfinished"
LONGEST = 100  # characters of a name that is to get more
FULL = {code: os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)}
"""A disk that is full, or broken, and limits of space: what libraries with errors of their own say in their texts."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, whose file takes its place once everything is written.

    Raises InputError, with the reason, if nothing can be written there.
    """
    unfinished = path.with_name(f".{path.name[:LONGEST]}.{uuid.uuid4().hex[:8]}{UNFINISHED}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        unfinished.chmod(0o666 & ~_umask())  # safetensors writes files that nobody else may read
        os.replace(unfinished, path)
    except Exception as error:
        if reason := _why_unwritable(error, path):
            raise InputError(f"{path}: cannot be written: {reason}") from error
        raise
    finally:
        if unfinished.exists():
            unfinished.unlink()


def clear_unfinished(path: Path) -> None:
    """Removes what killed processes left of a file. Call it where no other process writes it."""
    for left in path.parent.glob(f".{glob.escape(path.name[:LONGEST])}.*{UNFINISHED}"):
        left.unlink(missing_ok=True)


def _why_unwritable(error: Exception, path: Path) -> str | None:
    """What keeps this file from being written, if an error says so; None if it is about something else."""
    if isinstance(error, OSError):
        named = Path(error.filename) if isinstance(error.filename, str) else None
        about = named is None or path.is_relative_to(named) or named.parent == path.parent
        return error.strerror if about else None
    return next((reason for reason in FULL.values() if reason in str(error)), None)


def check_writable(path: Path, *, reads: tuple[Path, ...] = ()) -> None:
    """Tries whether a file can be written later on, without touching what stands there.

    Args:
        reads: files that it must not be.

    Raises:
        InputError: it is one of them, also through a link, or its folder takes no file.
    """
    for file in reads:
        if path.exists() and file.exists() and path.samefile(file):
            raise InputError(f"{path}: this is {file}, which is read: expected another name")
    if path.is_dir():
        raise InputError(f"{path}: this is a folder: expected the name of a file")
    trial = path.with_name(f".{uuid.uuid4().hex}.trial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise InputError(
            f"{path}: no file can be written there ({error.strerror}): name one in a folder of your own"
        ) from None


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
