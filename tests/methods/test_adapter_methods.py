"""What DreamVideo and DualReal have in common: adapters that change nothing untrained, their training, their clips."""

import json

import numpy as np
import pytest
import tiny
import torch
from adapters import DREAMVIDEO, DUALREAL, METHODS, active, artifacts, composed, learn, shake, untrained, velocity
from learned import CASE
from torch._dynamo.utils import counters

from bico.config.reading import load
from bico.methods.dreamvideo import learn as dreamvideo_learn
from bico.methods.dualreal import learn as dualreal_learn
from bico.methods.shared.prompts import project
from bico.models.adapter import set_condition
from bico.models.wan.sampling import generate
from bico.pipeline.generate import generate as make_clips
from bico.training.checkpoint import CHECKPOINT


@pytest.mark.parametrize("name", ["still", "clip", "dualreal"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_untrained_adapters_change_no_bit_of_the_velocity(sources, name: str, dtype: torch.dtype) -> None:
    opened = tiny.Backbone.open(tiny.folder(), text_slots=tiny.TEXT_SLOTS, dtype=dtype)
    plain, adapters = velocity(opened), untrained(opened, sources, name)
    set_condition(adapters, torch.randn(1, tiny.APPEARANCE))
    with active(adapters, opened):
        # Else a GPU would capture the transformer as a graph that gives them no gradient.
        assert any(parameter.requires_grad for parameter in opened.transformer.parameters())
        assert torch.equal(velocity(opened), plain)
        assert not torch.equal(shake(adapters) and velocity(opened), plain)
    assert torch.equal(velocity(opened), plain)


@pytest.mark.parametrize("name", ["clip", "dualreal"])
def test_motion_adapters_depend_on_the_appearance_and_no_appearance_means_zeros(backbone, sources, name: str) -> None:
    adapters = shake(untrained(backbone, sources, name))
    with active(adapters, backbone):
        without = velocity(backbone)
        set_condition(adapters, torch.zeros(1, tiny.APPEARANCE))
        assert torch.equal(velocity(backbone), without)
        set_condition(adapters, torch.ones(1, tiny.APPEARANCE))
        assert not torch.equal(velocity(backbone), without)


@pytest.mark.parametrize("name", ["still", "clip", "dualreal"])
@pytest.mark.parametrize("stop_at", [1, 3])  # of `still` 3 is the first step of the second stage
def test_a_resumed_training_ends_in_the_same_tensors_as_an_uninterrupted_one(
    backbone, sources, tmp_path, monkeypatch, name: str, stop_at: int
) -> None:
    whole = learn(name, backbone, sources, tmp_path / "whole")
    with tiny.breaking_off(monkeypatch, stop_at):
        learn(name, backbone, sources, tmp_path / "broken")
    assert (tmp_path / "broken" / CHECKPOINT).exists()
    again = learn(name, tiny.backbone(), sources, tmp_path / "broken")
    assert again.keys() == whole.keys()
    assert all(torch.equal(again[key], whole[key]) for key in whole)


@pytest.mark.parametrize("gradient_checkpointing", ["never", "always"])
@pytest.mark.parametrize("name", ["still", "clip", "dualreal"])
def test_compiled_blocks_share_their_graphs_and_learn_the_same_tensors(
    backbone, sources, tmp_path, monkeypatch, name: str, gradient_checkpointing: str
) -> None:
    """Of the first block, which has no gradient to pass on, and of the others, in each kind of step: no more graphs,
    however many blocks and trainings there are."""
    opened = tiny.compiling(monkeypatch, gradient_checkpointing)
    monkeypatch.setattr(backbone, "gradient_checkpointing", gradient_checkpointing)  # which decides on micro-batches
    plain = learn(name, backbone, sources, tmp_path / "plain")
    for workdir in (tmp_path / "one", tmp_path / "two"):
        compiled = learn(name, opened, sources, workdir)
        assert 0 < counters["stats"]["unique_graphs"] <= 4
    # Adam divides by the size of the gradient. So where that is small, its rounding counts in steps, which are as long
    # as the learning rate, and processors round differently.
    torch.testing.assert_close(compiled, plain, rtol=1e-5, atol=5e-3 * DUALREAL.learning_rate)


def test_learning_rates_and_gradient_clipping_are_those_of_the_settings(
    backbone, sources, monkeypatch, tmp_path
) -> None:
    seen = {}
    for module in (dreamvideo_learn, dualreal_learn):
        monkeypatch.setattr(module, "fit", lambda groups, stages, settings, **more: seen.update(more, groups=groups))
    learn("dualreal", backbone, sources, tmp_path)
    assert seen["max_grad_norm"] == DUALREAL.clip_norm and seen["betas"] == (0.9, 0.95)
    assert [seen["lr_lambda"](step) for step in (0, 1, 2)] == [0.5, 1, 1] and seen["lr_lambda"](7) < 0.1
    settings = DREAMVIDEO.model_copy(update={"inversion_rate": 1e-3})
    dreamvideo_learn.learn(backbone, sources["still"], settings, shift=3.0, seed=0, workdir=tmp_path)
    rates = [group.learning_rate for group in seen["groups"]]  # adapters, vectors
    assert rates == [1e-2, 1e-3 * backbone.embedding_scale()]


@pytest.mark.parametrize("name", METHODS)
def test_clips_differ_from_the_base_and_composing_leaves_the_backbone_unchanged(backbone, name: str) -> None:
    before = velocity(backbone)
    negative = project(backbone, tiny.SAMPLING.negative_prompt)
    base = generate(backbone, project(backbone, CASE.prompt), negative, [0], tiny.SAMPLING, tiny.MEDIA)[0]
    first, second = composed(backbone, artifacts(), name)
    assert first.shape == base.shape and not np.array_equal(first, base) and not np.array_equal(first, second)
    assert all(map(np.array_equal, composed(backbone, artifacts(), name), (first, second)))
    assert torch.equal(velocity(backbone), before)


@pytest.mark.parametrize("name", METHODS)
def test_guidance_is_the_methods_own_or_that_of_sampling(backbone, name: str) -> None:
    shared, same, own = (
        composed(backbone, artifacts(), name, guidance_scale=scale)[0]
        for scale in (None, tiny.SAMPLING.guidance_scale, 9.0)
    )
    assert np.array_equal(shared, same) and not np.array_equal(shared, own)


@pytest.mark.parametrize("row", METHODS)
def test_a_case_that_is_not_supported_is_listed_in_the_manifest(small, tmp_path, monkeypatch, row: str) -> None:
    (tmp_path / "cat.png").write_bytes(b"a picture")
    small["sources"] = {"still": {"kind": "image", "file": str(tmp_path / "cat.png")}}
    small["cases"] = {"no_motion": {"prompt": "a cat", "bind": {"still": ["cat"]}}}
    config = load(small)
    monkeypatch.setattr("bico.pipeline.generate.open_backbone", lambda config: tiny.backbone())
    make_clips(config, row)  # with nothing learned
    (entry,) = json.loads((config.results / "clips" / f"{row}.json").read_text())
    assert entry["status"] == "not supported" and entry["error"].startswith("takes")


@pytest.mark.parametrize("name", METHODS)
def test_clips_are_guided_away_from_the_negative_prompt_of_sampling(backbone, monkeypatch, name: str) -> None:
    module, seen = METHODS[name][0], []
    entry = "sample" if name == "dreamvideo" else "generate"
    plain = getattr(module, entry)
    monkeypatch.setattr(module, entry, lambda *given, **how: seen.append(given) or plain(*given, **how))
    composed(backbone, artifacts(), name)
    negative = project(backbone, tiny.SAMPLING.negative_prompt)
    assert len(seen) == 2
    assert all(torch.equal(given[2], negative) and not torch.equal(given[1], negative) for given in seen)
