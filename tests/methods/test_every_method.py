"""What holds for every method: what it learns and the clips that it composes are its own, and reproducible."""

from pathlib import Path

import adapters
import numpy as np
import pytest
import tiny
import torch
from learned import CASE, SETTINGS, clips, learned, metrics
from torch._dynamo.utils import counters

from bico.config.methods import method_names, settings_class
from bico.methods.shared.protocol import compose_of, learn_of
from bico.models.wan.backbone import Backbone
from bico.plan.clips import Job
from bico.training.artifacts import load_artifact, save_artifact


@pytest.mark.parametrize("name", method_names())
def test_every_method_can_compose_and_those_that_learn_can_learn(name: str) -> None:
    assert callable(compose_of(name))
    if settings_class(name).LEARNS_PER != "nothing":
        assert callable(learn_of(name))


@pytest.mark.parametrize("name", SETTINGS)
def test_learned_clips_differ_from_the_base_and_are_reproducible(backbone, name: str) -> None:
    entry = learned(name)
    first, second = clips(backbone, name, entry.settings, entry.artifacts, seeds=(0, 1))
    assert first.shape == (5, 32, 32, 3)
    assert first.dtype == np.uint8
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, clips(backbone, "base", None, {})[0])
    assert np.array_equal(second, clips(backbone, name, entry.settings, entry.artifacts, seeds=(1,))[0])


def test_each_clip_of_a_case_is_made_with_its_own_training(backbone, tmp_path: Path) -> None:
    """Two clips of one case, of which the second has other artifacts, as with several `learning_seeds`."""
    for name in SETTINGS:
        made = learned(name)
        other = {source: tmp_path / f"{name}_{source}" for source in made.artifacts}
        for source, path in made.artifacts.items():
            tensors, metadata = load_artifact(path)
            save_artifact(other[source], {key: 1.5 * tensor for key, tensor in tensors.items()}, metadata)
        planned = [Job("case", CASE, 0, made.artifacts), Job("case", CASE, 0, other)]
        takes = compose_of(name)(backbone, planned, made.settings, tiny.SAMPLING, tiny.MEDIA)
        together = [clip for _, clip in takes]
        assert not np.array_equal(*together), name
        assert np.array_equal(together[0], clips(backbone, name, made.settings, made.artifacts)[0]), name


MADE = {**{name: (SETTINGS[name], lambda name=name: learned(name).artifacts) for name in SETTINGS},
        "dualreal": (adapters.DUALREAL, lambda: adapters.artifacts()["dualreal"])}  # fmt: skip
ROUNDING = 2, 0.05
"""How far bfloat16 files may move a clip, in levels of 255: at most, and on average. Besides, it is less than a
twentieth of what was learned."""


@pytest.mark.parametrize("name", MADE)
def test_a_clip_of_what_is_stored_in_bfloat16_is_that_of_float32_but_for_rounding(
    backbone, tmp_path: Path, name: str
) -> None:
    settings, made = MADE[name][0], MADE[name][1]()
    rounded = {source: tmp_path / f"{source}.safetensors" for source in made}
    for source, path in made.items():
        save_artifact(rounded[source], *load_artifact(path), matrices=torch.bfloat16)
    wide, narrow = (clips(backbone, name, settings, files)[0].astype(int) for files in (made, rounded))
    base = clips(backbone, "base", None, {})[0].astype(int)
    moved, (largest, mean) = np.abs(narrow - wide), ROUNDING
    assert moved.max() <= largest and moved.mean() <= min(mean, np.abs(wide - base).mean() / 20)


@pytest.mark.parametrize("name", MADE)
def test_a_preview_gets_what_training_would_return_and_changes_nothing(sources, tmp_path: Path, name: str) -> None:
    settings, made = MADE[name][0], MADE[name][1]()
    encoded, path = (sources, made["case"]) if name == "dualreal" else (sources["still"], made["still"])
    seen: dict[int, dict[str, torch.Tensor]] = {}

    def preview(step: int, tensors: dict[str, torch.Tensor]) -> None:
        seen[step] = {key: tensor.clone() for key, tensor in tensors.items()}

    result = learn_of(name)(
        tiny.backbone(), encoded, settings.model_copy(update={"preview_every": 2}),
        shift=3.0, seed=0, workdir=tmp_path / "work", preview=preview,
    )  # fmt: skip
    expected, _ = load_artifact(path)
    assert list(seen) == list(range(2, max(seen) + 1, 2)) and len(seen) > 1
    for tensors in (result, seen[max(seen)]):
        assert tensors.keys() == expected.keys() and all(torch.equal(tensors[key], expected[key]) for key in expected)
    assert any(not torch.equal(seen[2][key], expected[key]) for key in expected)


def trained(name: str, sources: dict, workdir: Path, *, shift: float = 3.0, seed: int = 0) -> dict[str, torch.Tensor]:
    """What a method learns from the image, or of the case, in a few steps of one item each."""
    settings = MADE[name][0].model_copy(update={"batch_size": 1})
    if name == "dualreal":
        settings = settings.model_copy(update={"identity_batch_size": 1})
    encoded = sources if settings.LEARNS_PER == "case" else sources["still"]
    return learn_of(name)(tiny.backbone(), encoded, settings, shift=shift, seed=seed, workdir=workdir)


@pytest.mark.parametrize("name", MADE)
def test_training_draws_its_noise_levels_from_the_schedule_with_its_shift(sources, tmp_path: Path, name: str) -> None:
    plain, shifted = ([line["sigma"] for line in metrics(tmp_path / folder)] for folder in ("1", "9")
                      if trained(name, sources, tmp_path / folder, shift=float(folder)))  # fmt: skip
    assert len(plain) > 3 and shifted == pytest.approx([9 * sigma / (1 + 8 * sigma) for sigma in plain], rel=1e-5)


@pytest.mark.parametrize("name", MADE)
def test_another_seed_learns_something_else(sources, tmp_path: Path, name: str) -> None:
    one, other = (trained(name, sources, tmp_path / str(seed), seed=seed) for seed in (0, 1))
    assert any(not torch.equal(one[key], other[key]) for key in one if key != "appearance")


@pytest.mark.parametrize("name", SETTINGS)
def test_learning_twice_gives_the_same_bytes(sources, tmp_path: Path, name: str) -> None:
    settings = learned(name).settings
    again = learn_of(name)(tiny.backbone(), sources["still"], settings, shift=3.0, seed=0, workdir=tmp_path / "work")
    path = tmp_path / "again.safetensors"
    save_artifact(path, again, {"method": name, "source": "still"})
    assert path.read_bytes() == learned(name).artifacts["still"].read_bytes()


@pytest.mark.parametrize("name", ["bico", "textual_inversion", "db_lora"])
def test_compiled_blocks_learn_the_same_tensors(sources, tmp_path: Path, monkeypatch, name: str) -> None:
    plain, opened = learned(name), tiny.compiling(monkeypatch)
    compiled = learn_of(name)(opened, sources["clip"], plain.settings, shift=3.0, seed=0, workdir=tmp_path / "work")
    assert counters["stats"]["unique_graphs"] > 0
    torch.testing.assert_close(compiled, load_artifact(plain.artifacts["clip"])[0])


@pytest.mark.parametrize("name", MADE)
def test_what_is_learned_on_a_bfloat16_backbone_is_float32(sources, tmp_path: Path, name: str) -> None:
    """As on a GPU. bfloat16 would lose most updates."""
    half = Backbone.open(tiny.folder(), text_slots=tiny.TEXT_SLOTS, dtype=torch.bfloat16)
    settings = MADE[name][0]
    for source in ("still", "clip"):
        encoded = sources if settings.LEARNS_PER == "case" else sources[source]
        tensors = learn_of(name)(half, encoded, settings, shift=3.0, seed=0, workdir=tmp_path / source)
        assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
