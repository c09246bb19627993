"""From a bundle to a row of the table, by code that knows nothing of this project: that of the tutorial."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from conftest import ROOT
from files import write
from PIL import Image

from bico.cli.main import main
from bico.config.reading import load
from bico.media.reading import read_media, read_written
from bico.zoo import clip as zoo_clip
from bico.zoo import dino as zoo_dino

PAGE = ROOT / "docs/tutorials/join.md"
CASE = "cat_bouncing_in_the_city"
ORIGIN = "One source by Ada, feed-forward; made with ffmpeg; trained on nothing."


def code() -> str:
    """The Python code of the tutorial, as it stands there."""
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return block


@pytest.fixture(scope="module")
def judges(tmp_path_factory) -> Path:
    """An untrained CLIP and an untrained DINO."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("judges")
    zoo_clip.write_folder(folder / "clip", *zoo_clip.build(["a cat bouncing in the city"]))
    zoo_dino.write_folder(folder / "dino", zoo_dino.build())
    return folder


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A folder on a machine where there is Python and ffmpeg, and no module of ours."""
    (tmp_path / "elsewhere/bin").mkdir(parents=True)
    (tmp_path / "elsewhere/bin/ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    return tmp_path / "elsewhere"


def test_the_tutorial_s_code_makes_a_row_that_is_scored_and_shown(small, judges, elsewhere, tmp_path, capsys):
    small["models"] |= {"clip": str(judges / "clip"), "dino": str(judges / "dino"), "probe": None}
    small["cases"][CASE].pop("truth")
    photo = Image.fromarray(np.repeat(np.arange(48, dtype=np.uint8)[:, None, None] * 5, 64, axis=1).repeat(3, axis=2))
    photo.save(tmp_path / "cat.png")  # of another shape than the clips
    small["sources"]["cat_beach"] = {"kind": "image", "file": str(tmp_path / "cat.png")}
    small["methods"] = {
        "theirs": {"method": "external", "clips": str(elsewhere / "clips"), "label": "One source"},
        "copy": {},
    }
    small["tables"] = small["curves"] = {}
    config, at = write(small, tmp_path), load(small).paths

    assert main(["bundle", "--config", config, "--out", str(elsewhere / "bundle")]) == 0
    path = f"{elsewhere}/bin:{os.environ['PATH']}"
    plain = [sys.executable, "-I", "-S", "-c", code()]  # without what is installed
    subprocess.run(plain, cwd=elsewhere, env={"PATH": path}, check=True, capture_output=True)

    steps = [["check"], ["render", "fish_bouncing"]]
    steps += [[step, row] for step in ("generate", "score") for row in small["methods"]]
    steps += [["table", "table1"], ["plot", "table1"], ["figures"], ["gallery"], ["rating"]]
    for step, *arguments in steps:
        assert main([step, *arguments, "--config", config]) == 0, (step, capsys.readouterr().err)

    shown = read_written(at.clip("theirs", CASE, 0), load(small).media).astype(int)
    assert np.abs(shown - read_media(tmp_path / "cat.png", **small["media"])).mean() < 6
    with at.scores("theirs").open() as file:
        (scores,) = csv.DictReader(file)
    assert scores["status"] == "ok" and scores["clip_t"] and scores["dino_i"]
    with at.table("table1").open() as file:
        assert {row["method"]: row["made_elsewhere"] for row in csv.DictReader(file)} == {"theirs": "1", "copy": "0"}
    text = at.table("table1", "md").read_text()
    assert f"- One source (made elsewhere): {ORIGIN} Only its scores were computed here." in text
    assert "One source (made elsewhere)" in at.table("table1", "tex").read_text()
    assert "One source (made elsewhere)" in at.gallery_page.read_text()
    assert at.figure(f"cases/{CASE}").exists() and list(at.rating_pages.glob("*.html"))


def test_the_tutorial_s_code_is_short_and_needs_nothing_of_ours():
    assert len(code().splitlines()) < 16
    imported = re.findall(r"^(?:import|from) (.*)$", code(), re.MULTILINE)
    assert {name for line in imported for name in line.split(", ")} <= sys.stdlib_module_names
