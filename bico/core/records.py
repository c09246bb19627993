"""Records beside results: what is up to date survives a rerun, and damaged files are detected when they are read.

One job makes many things (the clips of a row, the binders of all sources), so that models open only once. Beside each
thing is its record, a JSON of everything that it was made from and of the digest of its own file. So an interrupted
run, or one with a new source, makes only what is missing, and a damaged file is detected when it is read. Snakemake
only knows the manifest, which is written last.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

from bico.core.errors import DamagedFile, InputError
from bico.core.files import clear_unfinished, write_json, write_text
from bico.core.fingerprints import file_digest
from bico.core.progress import progress

log = logging.getLogger("bico")

FORCE = "nobody knows whether its file is whole: run the step that makes it again, with --forcerun"

Record = Mapping[str, Any]
"""Everything on which a thing depends, as JSON values."""

SUFFIX = ".made_from.json"
DIGEST, MANIFEST = "sha256", "manifest"
"""Further keys of a record: the file's digest, and its manifest as a path relative to the file's folder."""
PATIENCE = 60.0  # seconds: a file server may keep the lock of a dead node for a while

_held: list[IO[str]] = []  # open as long as the process lives


def beside(path: Path) -> Path:
    """The path of a thing's record."""
    return path.with_name(f"{path.name}{SUFFIX}")


def is_current(path: Path, record: Record) -> bool:
    """Whether a thing was made from exactly this record, and its file has not changed since."""
    found = _read(beside(path)) or {}
    if not path.is_file() or _without_file(found) != record:
        return False
    if _digest(path) == found.get(DIGEST):
        return True
    log.warning("%s: damaged: it is not what was written; it is made again", path)
    return False


def record_of(path: Path) -> Record | None:
    """The record of a thing; None if it has none, or one that cannot be read. The thing itself is not read."""
    found = _read(beside(path))
    return None if found is None else _without_file(found)


def _without_file(found: Record) -> Record:
    return {key: value for key, value in found.items() if key not in (DIGEST, MANIFEST)}


def forget(path: Path) -> None:
    """Removes a thing and its record, the record first."""
    beside(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def remember(path: Path, record: Record, manifest: Path | None = None) -> None:
    """Writes the record of a thing. Call it after the thing is written.

    Args:
        manifest: file whose removal makes the next run make the thing again; None = the thing itself.
    """
    known = os.path.relpath(manifest or path, path.parent)
    write_json(beside(path), {**record, DIGEST: _digest(path), MANIFEST: known})


def digest_of(path: Path) -> str:
    """SHA-256 of a file that is about to be read.

    Raises:
        DamagedFile: it has a record, and is not what was written; or its record cannot be read. The manifest of a
            damaged file is removed, so that the next run makes the file again.
    """
    digest, record = _digest(path), _read(beside(path)) or {}
    if DIGEST not in record and beside(path).exists():
        raise DamagedFile(f"{beside(path)}: damaged: {FORCE}")
    if record.get(DIGEST, digest) == digest:
        return digest
    if _give_up(path, record):
        raise DamagedFile(f"{path}: damaged: it is not what was written: run again, and it is made again")
    raise DamagedFile(f"{path}: damaged: it is not what was written: delete it, and the next run makes it again")


def intact(path: Path) -> Path:
    """The path of a file that is about to be read, compared with its record if it has one; see `digest_of`."""
    if beside(path).exists():
        digest_of(path)
    return path


def load_json(path: Path) -> Any:
    """What an earlier step wrote as JSON, compared with its record; see `digest_of`."""
    return json.loads(intact(path).read_text(encoding="utf-8"))


@contextmanager
def checkpoints(path: Path, record: Record) -> Iterator[Path]:
    """The folder for checkpoints of a thing that takes long: beside it as `.ckpt`, emptied if its record differs.

    Raises InputError if another process is at work there.
    """
    folder = path.with_suffix(".ckpt")
    begun = folder / "begun_from.json"
    with alone(folder):
        if (before := _read(begun)) != record:
            if before is not None and (differing := sorted(key for key in record if before.get(key) != record[key])):
                log.warning("%s: of a training with another value of %s: it starts anew", folder, ", ".join(differing))
            begun.unlink(missing_ok=True)  # first, so that files which a kill leaves behind count for no record
            shutil.rmtree(folder, ignore_errors=True)
            write_json(begun, record)
        yield folder


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Within the context, no other process can enter it for this path.

    Raises InputError if another process is still in it after a minute.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock_of(path).open("a") as lock:
        started = time.monotonic()
        while not _locked(lock, path):
            if time.monotonic() - started > PATIENCE:
                at_work = f"another process is at work on it (lock {_lock_of(path).name})"
                raise InputError(f"{path}: {at_work}: wait for its end, or name another folder")
            time.sleep(min(1.0, PATIENCE))
        yield


def write_and_hold(path: Path, text: str) -> None:
    """Writes a text that other processes read as long as this one lives. Several may hold the same text.

    Raises InputError at once if a process holds another text there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock_of(path).open("a")
    if _locked(lock, path):
        write_text(path, text)
    held = _locked(lock, path, fcntl.LOCK_SH)
    if not held or path.read_text(encoding="utf-8") != text:
        lock.close()
        raise InputError(f"{path}: a run with another config is at work: wait for its end, or use another `results`")
    _held.append(lock)


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _locked(lock: IO[str], path: Path, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # a file system of a cluster may not support locks
        log.warning("%s: not locked (%s): let one process at a time work on it", path, error.strerror)
    return True


def make_all(
    label: str, things: Mapping[str, tuple[Path, Record]], make: Callable[[str], None], manifest: Path
) -> None:
    """Calls `make(name)` for everything that is not up to date, then writes the manifest: name -> sha256.

    An old file stays until the new one replaces it. If `make` raises InputError for one thing, the others are still
    made, because a job that is run again begins with the same one.

    Args:
        label: label of the progress lines in the log.
        things: name -> its file, which `make` writes atomically, and its record.

    Raises:
        InputError: another process makes them; or the first error of `make`, which is raised at once if it comes from
            the disk, or is a file that is damaged.
    """
    failures: list[InputError] = []
    with alone(manifest):
        stale = [name for name, thing in things.items() if not is_current(*thing)]
        for name in things.keys() - stale:
            _list(things[name][0], manifest)
        for name in progress(label, stale):
            path, record = things[name]
            clear_unfinished(path)
            try:
                make(name)
            except InputError as error:
                if error.__cause__ is not None or isinstance(error, DamagedFile):
                    raise
                log.error("%s: %s", name, error)
                failures.append(error)
                continue
            remember(path, record, manifest)
            shutil.rmtree(path.with_suffix(".ckpt"), ignore_errors=True)
            _lock_of(path.with_suffix(".ckpt")).unlink(missing_ok=True)
        if failures:
            first, *others = failures
            raise InputError(f"{first}{f' (and {len(others)} more, see the log)' if others else ''}") from None
        write_json(manifest, {name: _digest(path) for name, (path, _) in things.items()})


def _list(path: Path, manifest: Path) -> None:
    """Writes into the record of a thing which manifest lists it. This can change when a source is added."""
    record, known = _read(beside(path)) or {}, os.path.relpath(manifest, path.parent)
    if record.get(MANIFEST) != known:
        write_json(beside(path), record | {MANIFEST: known})


def verify(folder: Path, *, mend: bool = False) -> tuple[int, list[str]]:
    """Compares all files with a record, in a folder and below, with their records.

    Args:
        mend: whether to remove manifests of damaged files, so that the next run makes these files again.

    Returns:
        The number of records, and a line for each that does not fit its file.
    """
    problems, records = [], sorted(folder.rglob(f"*{SUFFIX}"))
    for file in records:
        path, record = file.with_name(file.name.removesuffix(SUFFIX)), _read(file) or {}
        if DIGEST not in record:
            problems.append(f"{file}: the record cannot be read: {FORCE}")
        elif not path.is_file() and record[MANIFEST] == path.name:
            continue  # Snakemake itself notices that the file is missing
        elif not path.is_file():
            problems.append(f"{path}: not there")
        elif file_digest(path) != record[DIGEST]:
            problems.append(f"{path}: damaged")
        else:
            continue
        if mend and DIGEST in record and not _give_up(path, record):
            problems[-1] += ": delete it, and the next run makes it again"
    return len(records), problems


def _give_up(path: Path, record: Record) -> bool:
    """Removes the manifest of a thing, so that the next run makes the thing again; False if it has none.

    The thing itself stays, because a file that a user copied with its record and edited also looks damaged.
    """
    manifest = path.parent / record[MANIFEST]
    if manifest == path:
        return False
    manifest.unlink(missing_ok=True)
    return True


def _read(file: Path) -> dict[str, Any] | None:
    """The contents of a record; None if there is none, or if it cannot be read."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:  # no JSON, or no text
        found = None
    if isinstance(found, dict):
        return found
    log.warning("%s: damaged: it is ignored", file)
    return None


def _digest(path: Path) -> str:
    stat = path.stat()
    return _digest_of_state(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)


@cache  # a binder of 600 MB is read for each of many clips
def _digest_of_state(path: Path, inode: int, size: int, time: int) -> str:
    return file_digest(path)
