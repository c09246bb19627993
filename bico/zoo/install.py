"""Copies trained models to the folder from which the benchmark opens them, with their checksums."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from bico.core.errors import InputError
from bico.core.files import write_text
from bico.core.fingerprints import file_digest

MODELS = ("wan", "vlm", "vqa", "clip", "dino", "probe")


def install(built: Path, zoo: Path) -> None:
    """Replaces the model folders in `zoo` by those in `built`; SHA256SUMS then lists all of their files."""
    for name in MODELS:
        if not (built / name).is_dir():
            raise InputError(f"{built / name}: no such folder: expected what 'python -m bico.zoo {name}' writes")
    zoo.mkdir(parents=True, exist_ok=True)
    for name in MODELS:
        fresh, target = zoo / f".{name}.unfinished", zoo / name
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(built / name, fresh)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(fresh, target)
    files = sorted(path for path in zoo.rglob("*") if path.is_file() and path.parent != zoo)
    write_text(
        zoo / "SHA256SUMS", "".join(f"{file_digest(path)}  {path.relative_to(zoo).as_posix()}\n" for path in files)
    )
