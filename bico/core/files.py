"""Atomic files, which are either complete or missing."""

from __future__ import annotations

import errno
import glob
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bico.core.errors import InputError

UNFINISHED = ".unfinished"
LONGEST = 100  # characters of a name that is to get more
FULL = {code: os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)}
"""Errors of a full or broken disk and of limits of space. Libraries with their own exceptions have them as texts."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`. Its file replaces `path` once everything is written.

    Raises InputError with the reason if nothing can be written there.
    """
    unfinished = path.with_name(f".{path.name[:LONGEST]}.{uuid.uuid4().hex[:8]}{UNFINISHED}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        unfinished.chmod(0o666 & ~_umask())  # safetensors writes files that no other user may read
        os.replace(unfinished, path)
    except Exception as error:
        if reason := _why_unwritable(error, path):
            raise InputError(f"{path}: cannot be written: {reason}") from error
        raise
    finally:
        if unfinished.exists():
            unfinished.unlink()


def clear_unfinished(path: Path) -> None:
    """Removes temporary files that killed processes left. Call it only if no other process writes the file."""
    for left in path.parent.glob(f".{glob.escape(path.name[:LONGEST])}.*{UNFINISHED}"):
        left.unlink(missing_ok=True)


def _why_unwritable(error: Exception, path: Path) -> str | None:
    """Why this file cannot be written, if that is what the error is about; otherwise None."""
    if isinstance(error, OSError):
        named = Path(error.filename) if isinstance(error.filename, str) else None
        about = named is None or path.is_relative_to(named) or named.parent == path.parent
        return error.strerror if about else None
    return next((reason for reason in FULL.values() if reason in str(error)), None)


def check_writable(path: Path, *, reads: tuple[Path, ...] = ()) -> None:
    """Checks that a file can be written later, without changing an existing file.

    Args:
        reads: files that it must not be.

    Raises:
        InputError: it is one of them, also through a link, or no file can be created in its folder.
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


def write_json(path: Path, data: Any) -> None:
    """Writes JSON, indented."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
