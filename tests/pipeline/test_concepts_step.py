"""What the step of concepts shows the VLM of a file."""

import json

import numpy as np
import pytest
import yaml
from conftest import ROOT
from files import moving_square

from bico.config.reading import load
from bico.media.writing import write_clip, write_image
from bico.pipeline import concepts as step


@pytest.fixture
def looks(monkeypatch):
    """Kind of question -> media and frame rate of the last such question, of a VLM that answers any."""
    seen = {}

    class Vlm:
        def __init__(self, folder, device):
            pass

        def answer(self, media, prompt, seeds, settings, fps, system=None):
            seen["stills" if len(media) > 1 else "whole"] = list(media), fps
            return ["a square"] * len(seeds)

    monkeypatch.setattr(step, "Vlm", Vlm)
    return seen


@pytest.fixture
def config(tmp_path):
    """The paper's benchmark on an image and a clip of 24 frames a second, both of other sizes than its frames."""
    picture, clip = tmp_path / "wide.png", tmp_path / "tall.mp4"
    wide = np.zeros((100, 900, 3), np.uint8)
    wide[:, :100] = 255  # a crop to 480 x 832 has none of it
    write_image(picture, wide)
    write_clip(clip, moving_square(90, 320)[:, :, 40:240], fps=24)
    paper = yaml.safe_load((ROOT / "config" / "paper.yaml").read_text())
    words = {"spatial": ["square"]}
    of_clip = words | {"temporal": []}
    paper |= {
        "results": str(tmp_path / "results"),
        "sources": {
            "wide": {"kind": "image", "file": str(picture), "concepts": words},
            "tall": {"kind": "video", "file": str(clip), "concepts": of_clip},
        },
        "cases": {"both": {"prompt": "a square and a square", "bind": {"wide": ["square"], "tall": ["square"]}}},
        "device": "cpu",
    }
    (tmp_path / "vlm").mkdir()
    paper["models"]["vlm"] = str(tmp_path / "vlm")
    return paper


def only(config, source):
    chosen = config | {"sources": {source: config["sources"][source]}}
    return load(chosen | {"cases": {"one": {"prompt": "a square", "bind": {source: ["square"]}}}})


def test_an_image_that_is_wider_than_the_frame_is_seen_whole(config, looks):
    step.concepts(only(config, "wide"))
    (image,), _ = looks["whole"]
    assert image.shape == (1, 100, 900, 3) and image[0, 50, 10].tolist() == [255] * 3
    config["concepts"]["look"] = "encoded"
    step.concepts(only(config, "wide"))
    (image,), _ = looks["whole"]
    assert image.shape == (1, 480, 832, 3) and image.max() == 0


def test_a_clip_and_its_frames_are_seen_in_their_own_size_and_at_their_own_rate(config, looks):
    opened = only(config, "tall")
    step.concepts(opened)
    (clip,), fps = looks["whole"]
    assert clip.shape == (81, 320, 200, 3) and fps == pytest.approx(24)  # those that training reads, of 90
    stills, _ = looks["stills"]
    assert len(stills) == 81 and all(np.array_equal(still[0], frame) for still, frame in zip(stills, clip, strict=True))
    found = json.loads(opened.paths.concepts("tall").read_text())
    assert found["frame_indices"] == list(range(81))
    config["concepts"]["look"] = "encoded"
    step.concepts(only(config, "tall"))
    (clip,), fps = looks["whole"]
    assert clip.shape == (81, 480, 832, 3) and fps == 15


@pytest.mark.parametrize(("key", "value"), [("look", "encoded"), ("instructions", "short")])
def test_captions_of_another_look_or_request_are_written_anew(config, looks, key, value):
    step.concepts(only(config, "wide"))
    looks.clear()
    step.concepts(only(config, "wide"))
    assert not looks  # nothing has changed
    config["concepts"][key] = value
    step.concepts(only(config, "wide"))
    assert looks
