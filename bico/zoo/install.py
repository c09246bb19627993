"""Puts trained models in the place from which the benchmark opens them, with the list that proves them whole."""

import os
import shutil
from pathlib import Path

from bico.core.files import write_text
from bico.core.fingerprints import file_digest

MODELS = ("wan", "vlm", "clip", "dino", "probe")


def install(built: Path, zoo: Path) -> None:
    """Copies the model folders of `built` over their namesakes in `zoo`; SHA256SUMS then lists all of their files."""
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
