"""A source's `start`: every step that reads the user's video reads it from there on."""

from collections.abc import Iterable

import numpy as np
import pytest
import tiny
import torch

from bico.config.reading import load
from bico.config.schema import Config
from bico.media.reading import read_written
from bico.media.writing import write_clip
from bico.pipeline.appearance import appearance
from bico.pipeline.concepts import concepts
from bico.pipeline.encode import encode
from bico.pipeline.generate import generate
from bico.report import figures
from bico.scoring.judges import Judges

START = 2.0
EXPECTED = list(range(16, 25))  # of 8 frames a second


def numbers(frames: Iterable[np.ndarray]) -> list[int]:
    """Which frames of the file these are: frame i is grey of level 4 i + 20."""
    return [round((float(frame.mean()) - 20) / 4) for frame in frames]


@pytest.fixture
def config(small, tmp_path) -> Config:
    levels = (4 * np.arange(40) + 20).astype(np.uint8)
    write_clip(tmp_path / "a.mp4", np.broadcast_to(levels[:, None, None, None], (40, 48, 48, 3)).copy(), fps=8)
    source = {"kind": "video", "file": str(tmp_path / "a.mp4"), "start": START}
    source["concepts"] = {"spatial": ["cat"], "temporal": ["bouncing"]}
    case = {"prompt": "a cat bouncing", "bind": {"own": ["cat", "bouncing"]}}
    rows = {"methods": {"copy": {}, "dreamvideo": {}}, "tables": {"table1": {"copy": None}}, "curves": {}}
    return load(small | rows | {"sources": {"own": source}, "cases": {"one": case}})


@pytest.mark.parametrize("look", ["encoded", "original"])
def test_the_vlm_sees_a_video_from_its_start(config, monkeypatch, look: str) -> None:
    seen = []

    class Vlm:
        def __init__(self, folder, device):
            pass

        def answer(self, media, prompt, seeds, settings, fps, system=None):
            seen.extend(media)
            return ["a cat bouncing"] * len(seeds)

    monkeypatch.setattr("bico.pipeline.concepts.Vlm", Vlm)
    concepts(config.model_copy(update={"concepts": config.concepts.model_copy(update={"look": look})}))
    assert EXPECTED in [numbers(frames) for frames in seen]
    assert {number for frames in seen for number in numbers(frames)} == set(EXPECTED)


def test_training_and_scores_read_a_video_from_its_start(config, monkeypatch) -> None:
    seen = {}

    class Clip:
        def __init__(self, folder, device):
            pass

        def image_embeddings(self, frames):
            seen["appearance"] = numbers(frames)
            return torch.zeros(len(frames), 8)

    def encode_source(backbone, frames, found, masks):
        seen["encode"] = numbers(frames)
        return tiny.source()

    monkeypatch.setattr("bico.pipeline.encode.open_backbone", lambda config: tiny.backbone())
    monkeypatch.setattr("bico.pipeline.encode.encode_source", encode_source)
    monkeypatch.setattr("bico.pipeline.encode.load_json", lambda path: {})
    monkeypatch.setattr("bico.pipeline.appearance.Clip", Clip)
    config.paths.concepts("own").parent.mkdir(parents=True)
    config.paths.concepts("own").write_text("{}")
    encode(config)
    appearance(config)
    seen["scores"] = numbers(Judges(config, {}, "cpu").source("own").frames)
    assert seen == dict.fromkeys(("appearance", "encode", "scores"), EXPECTED)


def test_copied_frames_and_those_of_the_figure_are_those_from_the_start(config) -> None:
    generate(config, "copy")
    assert numbers(read_written(config.paths.clip("copy", "one", config.seeds[0]), config.media)) == EXPECTED
    of_source = figures.draw(config, "one").axes[0].images
    assert numbers([np.asarray(picture.get_array()) for picture in of_source]) == EXPECTED
