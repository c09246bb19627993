"""Training curves for TensorBoard, read back with its own reader."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from bico.cli.main import main
from bico.config.layout import Layout
from bico.core.files import write_text
from bico.media.writing import write_image


def lines(steps: int) -> list[dict]:
    return [
        {"step": step, "stage": "all", "loss": 1 / (step + 1), "gamma_blocks": [0.5, step], "seconds": 2.0}
        | ({"eval_loss": 3.0} if step == 1 else {})
        for step in range(steps)
    ]


def written(path: Path, steps: int) -> None:
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines(steps)))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A training that is finished, with a preview, and one that runs, of which a line is half written."""
    at = Layout(tmp_path / "results")
    written(at.metrics("bico", "cat", 0), 4)
    write_image(at.previews("bico", "cat", 0) / "000002.png", np.zeros((6, 8, 3), np.uint8))
    running = at.artifact("db_lora", "ball", 1).with_suffix(".ckpt") / "metrics.jsonl"
    written(running, 3)
    with running.open("a") as file:
        file.write('{"step": 3, "sta')
    return at.results


def test_every_number_of_every_step_is_there_and_previews_are_pictures(results: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert main(["tensorboard", str(results)]) == 0
    runs = {}
    for path in (results / "tensorboard").rglob("events*"):
        run = EventAccumulator(str(path.parent)).Reload()
        runs[path.parent.relative_to(results / "tensorboard").as_posix()] = run
    assert set(runs) == {"bico/cat/0", "db_lora/ball/1"}
    assert [len(run.Scalars("loss")) for _, run in sorted(runs.items())] == [4, 3]
    run = runs["bico/cat/0"]
    assert set(run.Tags()["scalars"]) == {"loss", "eval_loss", "seconds", "gamma_blocks/0", "gamma_blocks/1"}
    assert [(each.step, each.value) for each in run.Scalars("gamma_blocks/1")] == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert [each.wall_time for each in run.Scalars("loss")] == [2, 4, 6, 8]
    assert [(each.step, each.value) for each in run.Scalars("eval_loss")] == [(1, 3)]
    (picture,) = run.Images("preview")
    assert (picture.step, picture.width, picture.height) == (1, 8, 6)


def test_a_second_call_writes_the_same_bytes_and_leaves_files_of_others_alone(results: Path) -> None:
    assert main(["tensorboard", str(results)]) == 0
    own = {path: path.read_bytes() for path in (results / "tensorboard").rglob("events*")}
    others = results / "tensorboard" / "bico" / "cat" / "0" / "events.out.tfevents.mine"
    others.write_bytes(b"mine")
    assert main(["tensorboard", str(results)]) == 0
    found = {path: path.read_bytes() for path in (results / "tensorboard").rglob("events*")}
    assert len(own) == 2 and found == own | {others: b"mine"}


def test_without_the_package_one_line_says_how_to_install_it(results: Path, monkeypatch, capsys) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert main(["tensorboard", str(results)]) == 2
    printed = capsys.readouterr().err
    assert "uv sync --extra tensorboard" in printed and printed.count("\n") == 1
    assert not (results / "tensorboard").exists()


@pytest.mark.parametrize("folder", ["none", "."])
def test_a_folder_without_training_curves_is_one_line(tmp_path: Path, capsys, folder: str) -> None:
    assert main(["tensorboard", str(tmp_path / folder)]) == 2
    printed = capsys.readouterr().err
    assert "no training curves: expected a folder of results" in printed and printed.count("\n") == 1
