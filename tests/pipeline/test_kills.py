"""One composition, killed at random moments: what is finished is kept, and what is made is the same."""

import copy
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, needs_zoo
from files import write
from PIL import Image

from bico.cli.main import main

KILLS = 6
LONGEST = 6.0  # seconds of work before a kill


@pytest.fixture(scope="module")
def command(_toybox, tmp_path_factory) -> list[str]:
    """Binds one image, with a checkpoint every second step; without --workdir and --out."""
    toybox, folder = copy.deepcopy(_toybox), tmp_path_factory.mktemp("kills")
    toybox["concepts"] |= {"captions": 6}
    toybox["compile"] = False  # takes longer than all else
    toybox["methods"]["bico"] |= {"stages": {"global_steps": 12, "all_steps": 12}, "checkpoint_every": 2}
    Image.linear_gradient("L").convert("RGB").save(folder / "cat.png")
    compose = ["compose", "--bind", f"{folder}/cat.png=cat", "--prompt", "a cat at the beach"]
    return [sys.executable, "-m", "bico.cli", *compose, "--config", write(toybox, folder)]


def start(command: list[str], folder: Path) -> subprocess.Popen:
    outputs = ["--workdir", str(folder / "work"), "--out", str(folder / "out.mp4")]
    return subprocess.Popen([*command, *outputs], cwd=ROOT, stderr=subprocess.PIPE, text=True)


def finished(command: list[str], folder: Path) -> str:
    with start(command, folder) as running:
        printed = running.communicate()[1]
    assert running.returncode == 0, printed
    return printed


def files(folder: Path) -> dict[str, bytes]:
    """Everything but what hangs on times and on where the folder stands."""
    ours = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    apart = (".lock", ".jsonl", "clips/bico.json")
    return {name: path.read_bytes() for name, path in ours.items() if not name.endswith(apart)}


@needs_zoo
def test_a_run_that_was_killed_again_and_again_ends_in_the_same_bytes(command, tmp_path, capsys):
    finished(command, tmp_path / "whole")
    broken, moments = tmp_path / "broken", random.Random(0)
    for _ in range(KILLS):
        before = times(broken)
        with start(command, broken) as running:
            while running.poll() is None and not _worked(broken, before):  # the imports are not worth a kill
                time.sleep(0.02)
            time.sleep(moments.uniform(0, LONGEST))
            running.kill()
    finished(command, broken)
    assert files(broken) == files(tmp_path / "whole")
    assert main(["verify", str(broken)]) == 0 and "0 do not match" in capsys.readouterr().out


def _worked(folder: Path, before: dict[Path, int]) -> bool:
    """Whether anything was written since."""
    try:
        return times(folder) != before
    except FileNotFoundError:  # a temporary file that got its name just now
        return True


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (folder / "work").rglob("*")}
