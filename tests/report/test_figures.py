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
    assert labels == ["red cat", "bouncing car", "exact rendering", "Plain prompt", "Copied frames", "BiCo"]
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
    (shown,) = figures.strip("", "", [row], Media(height=8, width=8, num_frames=17, fps=8)).axes
    assert [image.get_array()[0, 0, 0] for image in shown.images] == list(range(0, 17, 2))


def test_a_figure_says_what_it_is_part_of_and_which_rows_are_controls(config):
    figure = figures.draw(config, "robot_spins")
    note = "toy: 3 cases, 2 seeds, 1 training of each row that learns; here case 2, robot_spins, seed 0"
    assert note in [text.get_text().replace("\n", " ") for text in figure.texts]
    controls = [axes.texts[0].get_text() for axes in figure.axes if "(control)" in axes.texts[0].get_text()]
    assert controls == ["Plain prompt\n(control)", "Copied frames\n(control)"]


def test_a_png_and_a_pdf_of_each_case_and_the_same_bytes_again(config):
    paths = figures.figures(config)
    assert [path.name for path in paths] == [f"{name}.{kind}" for name in config.cases for kind in ("png", "pdf")]
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in figures.figures(config)] == before
    picture = np.asarray(Image.open(paths[0]).convert("RGB"))
    assert picture.shape[1] > picture.shape[0] > 600
