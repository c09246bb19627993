"""From a config with photographs and masks to what is learned of them, on a tiny backbone."""

import json

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from safetensors.torch import load_file

from bico.config.reading import load
from bico.pipeline.appearance import appearance
from bico.pipeline.concepts import concepts
from bico.pipeline.encode import encode
from bico.pipeline.learn import learn
from bico.sources.encoding import EncodedSource

WORDS = {"spatial": ["cat"]}


@pytest.fixture
def config(small, tmp_path, monkeypatch):
    """Two photographs of different sizes with masks as one source, and one photograph as another."""

    class Vlm:
        def __init__(self, folder, device):
            pass

        def answer(self, media, prompt, seeds, settings, fps, system=None):
            return [f"the cat on a picture {media[0].shape[2]} wide" for _ in seeds]

    monkeypatch.setattr("bico.pipeline.concepts.Vlm", Vlm)
    for step in ("encode", "learn"):
        monkeypatch.setattr(f"bico.pipeline.{step}.open_backbone", lambda config: tiny.backbone())
    draw = np.random.default_rng(0)
    for name, size in (("a", (40, 60)), ("b", (50, 50)), ("c", (32, 32))):
        Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    Image.new("L", (60, 40), "white").save(tmp_path / "mask_a.png")
    half = Image.new("L", (50, 50), "white")
    half.paste(0, (0, 0, 25, 50))
    half.save(tmp_path / "mask_b.png")
    two = {"files": [str(tmp_path / f"{name}.png") for name in "ab"]}
    two["masks"] = [str(tmp_path / f"mask_{name}.png") for name in "ab"]
    few = {"learning_rate": 1e-3, "batch_size": 2, "steps": 2, "rank": 2}
    return small | {
        "sources": {
            "two": {"kind": "image", "concepts": WORDS, **two},
            "one": {"kind": "image", "concepts": WORDS, "file": str(tmp_path / "c.png")},
        },
        "cases": {"both": {"prompt": "a cat and a cat", "bind": {"two": ["cat"], "one": ["cat"]}}},
        "media": {"height": 32, "width": 32, "num_frames": 5, "fps": 8},
        "text_slots": tiny.TEXT_SLOTS,
        "concepts": small["concepts"] | {"captions": 3, "look": "original"},
        "methods": {"db_lora": few},
        "tables": {},
        "curves": {},
    }


def written(config) -> dict[str, int]:
    """Runs the steps; when each file of each source was last written."""
    loaded = load(config)
    concepts(loaded)
    encode(loaded)
    learn(loaded, "db_lora", part=0)
    times = {}
    for source in loaded.sources:
        artifact = loaded.paths.artifact("db_lora", source, 0)
        files = {
            "concepts": loaded.paths.concepts(source),
            "encoded": loaded.paths.encoded(source),
            "learned": artifact,
        }
        times |= {f"{name} {source}": path.stat().st_mtime_ns for name, path in files.items()}
    return times


def test_photographs_and_masks_of_a_config_are_learned_and_a_change_makes_anew_what_depends_on_it(config, tmp_path):
    first, paths = written(config), load(config).paths
    found = json.loads(paths.concepts("two").read_text())
    assert found["caption_photos"] == [0, 0, 1]
    assert [caption.split()[-2] for caption in found["captions"]] == ["60", "60", "50"]
    encoded = EncodedSource.load(paths.encoded("two"))
    assert encoded.photo_latents.shape == (2, 4, 1, 4, 4)
    assert encoded.masks[:, 0, 0, 0].tolist() == [[1, 1, 1, 1], [0, 0, 2, 2]]
    assert written(config) == first

    def remade(before: dict[str, int]) -> tuple[dict[str, int], set[str]]:
        after = written(config)
        return after, {name for name in before if before[name] != after[name]}

    learned = paths.artifact("db_lora", "two", 0).read_bytes()
    Image.new("L", (50, 50), "white").save(tmp_path / "mask_b.png")
    second, names = remade(first)
    assert names == {"encoded two", "learned two"} and paths.artifact("db_lora", "two", 0).read_bytes() != learned
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save(tmp_path / "b.png")
    _, names = remade(second)
    assert names == {"concepts two", "encoded two", "learned two"}
    again = EncodedSource.load(paths.encoded("two")).photo_latents
    assert torch.equal(again[0], encoded.photo_latents[0]) and not torch.equal(again[1], encoded.photo_latents[1])


def test_every_photograph_of_a_source_is_embedded(config, monkeypatch):
    class Clip:
        def __init__(self, folder, device):
            pass

        def image_embeddings(self, frames):
            return torch.from_numpy(frames.mean(axis=(1, 2), dtype=np.float32))

    monkeypatch.setattr("bico.pipeline.appearance.Clip", Clip)
    loaded = load(config)
    appearance(loaded)
    found = {name: load_file(loaded.paths.appearance(name))["appearance"] for name in loaded.sources}
    assert {name: len(each) for name, each in found.items()} == {"two": 2, "one": 1}
    assert not torch.equal(*found["two"])
