"""One composition, killed in each of its steps: what is finished is kept, and what is made is the same."""

import copy
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, needs_zoo
from files import write
from PIL import Image
from safetensors import safe_open

from bico.cli.main import main
from bico.training.checkpoint import CHECKPOINT


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


def kill(command: list[str], folder: Path, reached: Callable[[], bool]) -> None:
    """Starts the run, and kills it as soon as it has reached this point."""
    with start(command, folder) as running:
        while running.poll() is None and not reached():
            time.sleep(0.02)
        running.kill()
    assert running.returncode == -9, "it ended before"


def checkpoint(folder: Path) -> Path | None:
    return next(folder.rglob(CHECKPOINT), None)


def step_of(path: Path) -> int:
    with safe_open(path, framework="pt") as file:
        return int(file.metadata()["step"])


@needs_zoo
def test_a_run_that_was_killed_in_every_step_ends_in_the_same_bytes(command, tmp_path, capsys):
    finished(command, tmp_path / "whole")
    broken = tmp_path / "broken"
    kill(command, broken, lambda: any(broken.rglob("concepts/*.json")))
    kill(command, broken, lambda: checkpoint(broken) is not None)
    first = checkpoint(broken)
    written, step = first.stat().st_mtime_ns, step_of(first)
    kill(command, broken, lambda: first.stat().st_mtime_ns != written)
    assert step_of(first) > step  # it has continued, and not started again
    kill(command, broken, lambda: any((broken / "work").rglob("*.mp4")))
    finished(command, broken)
    assert files(broken) == files(tmp_path / "whole")
    assert main(["verify", str(broken)]) == 0 and "0 do not match" in capsys.readouterr().out
