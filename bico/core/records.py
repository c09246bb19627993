"""What is up to date survives a rerun.

One job makes many things (the clips of a row, the binders of all sources): models open once. Beside each stands a
JSON of all that it depends on, so that a run which was cut off, or one with a new source, makes what is missing and
nothing else. What Snakemake knows is the manifest, written last of all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bico.core.files import write_json
from bico.core.fingerprints import file_digest
from bico.core.progress import progress

Record = Mapping[str, Any]
"""All that a thing depends on, as JSON values."""


def beside(path: Path) -> Path:
    """Where the record of a thing stands."""
    return path.with_name(f"{path.name}.made_from.json")


def is_current(path: Path, record: Record) -> bool:
    return path.is_file() and _holds(beside(path), record)


def forget(path: Path) -> None:
    """Removes a thing and its record, the record first."""
    beside(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def remember(path: Path, record: Record) -> None:
    """Call it when the thing is there."""
    write_json(beside(path), record)


def checkpoints(path: Path, record: Record) -> Path:
    """Where a thing that takes long leaves checkpoints: beside it as `.ckpt`, emptied if they are of another record."""
    folder = path.with_suffix(".ckpt")
    begun = folder / "begun_from.json"
    if not _holds(begun, record):
        shutil.rmtree(folder, ignore_errors=True)
        write_json(begun, record)
    return folder


def make_all(
    label: str, things: Mapping[str, tuple[Path, Record]], make: Callable[[str], None], manifest: Path
) -> None:
    """Calls `make(name)` for everything that is not up to date, then writes the manifest: name -> sha256.

    Args:
        label: of the progress lines in the log.
        things: name -> its file, which `make` writes, and its record.
    """
    stale = [name for name, thing in things.items() if not is_current(*thing)]
    for name in progress(label, stale):
        path, record = things[name]
        forget(path)
        make(name)
        remember(path, record)
    write_json(manifest, {name: file_digest(path) for name, (path, _) in things.items()})


def _holds(file: Path, record: Record) -> bool:
    return file.is_file() and json.loads(file.read_text(encoding="utf-8")) == record
