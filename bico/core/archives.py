"""Folders that people send one another, as they are or as one zip file."""

from __future__ import annotations

import lzma
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bico.core.errors import InputError
from bico.core.files import FULL, check_writable, replacing

DAMAGED = zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, UnicodeError
"""What `zipfile` raises for a file that is cut short or damaged, encrypted, or compressed in a way unknown to it."""
DATE = 1980, 1, 1, 0, 0, 0  # date of all files in a zip, so that the same files give the same bytes


@contextmanager
def filling(out: Path) -> Iterator[Path]:
    """A folder to fill. It becomes `out`, a zip file if that ends in .zip, once everything is written.

    Raises InputError if `out` is there already, or cannot be written.
    """
    if out.exists():
        raise InputError(f"{out}: this is there already: expected a new name, or remove it first")
    check_writable(out)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        filled = Path(folder) / "filled"
        filled.mkdir()
        yield filled
        if out.suffix.lower() != ".zip":
            os.replace(filled, out)
            return
        with replacing(out) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
            for name in contents(filled):
                with archive.open(zipfile.ZipInfo(name, DATE), "w", force_zip64=True) as target:
                    target.write((filled / name).read_bytes())


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The folder that `path` is, or what a zip file holds in a temporary one.

    Raises InputError if it is neither, or not whole.
    """
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        with _opened(path) as archive:
            size, free = sum(entry.file_size for entry in archive.infolist()), shutil.disk_usage(folder).free
            if size > free:
                raise InputError(f"{path}: {size / 1e9:.1f} GB unpacked: expected what fits into {folder}")
            archive.extractall(folder)  # it refuses names outside of the folder
        yield Path(folder)


def read_member(path: Path, name: str) -> bytes:
    """One file of a folder or of a zip file. Raises InputError if it is not there, or not whole."""
    try:
        if path.is_dir():
            return (path / name).read_bytes()
        with _opened(path) as archive:
            return archive.read(name)
    except (FileNotFoundError, KeyError):
        raise InputError(f"{path}: no {name} in it: expected one at its top") from None


def contents(folder: Path) -> list[str]:
    """Names of all files in a folder and below, with "/" between their parts."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def copy_into(folder: Path, name: str, source: Path) -> None:
    """Puts a copy of a file into a folder under a name that may have several parts."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / name)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder: expected a folder or a zip file")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        raise InputError(
            f"{path}: no whole zip file ({error}): expected a folder or a zip file, copy it again"
        ) from None
