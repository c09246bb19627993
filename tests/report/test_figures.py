"""The pictures of a case, with and without all of its clips."""

import numpy as np
import pytest
import toy
from PIL import Image

from bico.config.settings import Media
from bico.methods.base.settings import Settings as BaseSettings
from bico.report import figures


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = toy.config(tmp_path_factory.mktemp("figures"))
    toy.write_media(config)
    same = {name: name for name in config.cases}
    toy.write_clips(config, "base", same, {("robot_spins", 0): "not supported"})
    toy.write_clips(config, "copy", same, {(name, seed): "failed" for name in same for seed in config.seeds})
    toy.write_clips(config, "bico", same)
    return config


def test_a_row_for_each_source_the_truth_and_each_method(config):
    rows = figures.draw(config, "cat_bounces").axes
    labels = [row.texts[0].get_text().split("\n")[0] for row in rows]
    assert labels == ["red cat", "bouncing car", "truth", "base", "copy", "bico"]
    assert [len(row.images) for row in rows] == [1, 9, 9, 9, 0, 9]
    assert rows[4].texts[1].get_text() == "failed"
    assert "cat, beach" in rows[0].texts[0].get_text()


def test_a_clip_that_is_not_there_says_why(config, monkeypatch):
    monkeypatch.setattr(BaseSettings, "unsupported", lambda settings, kinds: f"takes no {kinds[1]}")
    rows = figures.draw(config, "robot_spins").axes
    assert rows[3].texts[1].get_text() == "not supported: takes no video"


def test_a_long_clip_is_shown_from_its_first_frame_to_its_last():
    frames = np.arange(17, dtype=np.uint8)[:, None, None, None] + np.zeros((17, 8, 8, 3), np.uint8)
    row = ("clip", figures.INK, frames)
    (shown,) = figures.strip("", [row], Media(height=8, width=8, num_frames=17, fps=8)).axes
    assert [image.get_array()[0, 0, 0] for image in shown.images] == list(range(0, 17, 2))


def test_one_png_a_case_and_the_same_bytes_again(config):
    paths = figures.figures(config)
    assert [path.name for path in paths] == [f"{name}.png" for name in config.cases]
    before = paths[0].read_bytes()
    assert figures.figures(config)[0].read_bytes() == before
    picture = np.asarray(Image.open(paths[0]).convert("RGB"))
    assert picture.shape[1] > picture.shape[0] > 600
