"""DreamVideo: vectors and identity adapters of an image, motion adapters of a video."""

import json
import math

import numpy as np
import pytest
import tiny
import torch
from adapters import DREAMVIDEO, artifacts, composed, learn, untrained
from learned import CASE

from bico.config.benchmark import Case
from bico.methods.dreamvideo import adapters as dreamvideo_adapters
from bico.methods.dreamvideo import compose as dreamvideo_compose
from bico.methods.dreamvideo import learn as dreamvideo_learn
from bico.methods.shared.prompts import project
from bico.models.adapter import Adapter
from bico.models.wan import token_limits
from bico.models.wan.attention import CrossAttentionInput, SelfAttentionInput
from bico.plan.clips import Job
from bico.training.noise import NoiseLevels


def test_an_image_learns_its_vectors_before_its_identity_adapters(backbone, sources, tmp_path) -> None:
    learned = learn("still", backbone, sources, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines] == ["vectors"] * 3 + ["identity"] * 4
    assert {name for name in learned if name.startswith("vectors.")} == {"vectors.0 cat", "vectors.1 beach"}
    assert torch.equal(learned["appearance"], sources["still"].appearance[0])
    assert learned["adapters.blocks.0.attn2.up.weight"].any()


def test_adapters_are_frozen_while_the_vectors_of_an_image_train(sources, monkeypatch) -> None:
    monkeypatch.setattr(
        "bico.methods.textual_inversion.inversion.flow_matching_loss",
        lambda *arguments, mask=None, training: torch.zeros(()),
    )
    monkeypatch.setattr(dreamvideo_learn, "flow_matching_loss", lambda *arguments, mask=None, training: torch.zeros(()))
    opened, still, learns = tiny.backbone(), sources["still"], []
    adapters, inversion = untrained(opened, sources, "still"), dreamvideo_learn.Inversion(opened, still, vectors=1)
    for stage in dreamvideo_learn.identity_stages(opened, still, DREAMVIDEO, adapters, inversion, NoiseLevels(3.0)):
        stage.loss(torch.Generator().manual_seed(0), 2, training=True)
        learns.append({parameter.requires_grad for parameter in adapters.parameters()})
    assert learns == [{False}, {True}]


def test_the_text_encoder_is_offloaded_when_the_identity_adapters_train(sources, tmp_path, monkeypatch) -> None:
    offloaded = []
    monkeypatch.setattr(tiny.Backbone, "offload_text_encoder", lambda self: offloaded.append("text_encoder"))
    for name, expected in (("still", {"text_encoder"}), ("clip", set())):
        opened = tiny.backbone()
        learn(name, opened, sources, tmp_path / name)
        assert {"vae", "text_encoder"} & vars(opened).keys() == expected
    assert offloaded == ["text_encoder"]


@pytest.mark.parametrize("source", ["still", "clip"])
def test_long_clips_and_large_stills_train_a_few_at_a_time(backbone, sources, monkeypatch, tmp_path, source) -> None:
    """Their activations would not fit a GPU of 24 GB, and random numbers are to be the same on all."""
    few = {"batch_size": 4, "inversion_steps": 1, "identity_steps": 1, "motion_steps": 1}
    settings, passes = DREAMVIDEO.model_copy(update=few), []
    velocity_of = type(backbone).velocity

    def velocity(self, latents, *inputs, training) -> torch.Tensor:
        if training:
            passes.append(len(latents))
        return velocity_of(self, latents, *inputs, training=training)

    monkeypatch.setattr(type(backbone), "velocity", velocity)
    tokens = math.prod(backbone.patch_grid(sources[source].latents.shape))
    for bound in (4 * tokens, 2 * tokens, tokens - 1):
        monkeypatch.setattr(token_limits, "CHECKPOINT_TOKENS", bound)
        dreamvideo_learn.learn(backbone, sources[source], settings, shift=3.0, seed=0, workdir=tmp_path / str(bound))
    stages = 1 if source == "clip" else 2
    assert passes == stages * [4] + stages * [2, 2] + stages * [1, 1, 1, 1]


def test_half_of_the_captions_are_empty_in_motion_training(backbone, sources, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(backbone, "context", lambda embeds: seen.append(embeds) or torch.zeros(len(embeds)))
    monkeypatch.setattr(dreamvideo_learn, "flow_matching_loss", lambda *arguments, mask=None, training: torch.zeros(()))
    settings = DREAMVIDEO.model_copy(update={"batch_size": 200})
    adapters = untrained(backbone, sources, "clip")
    stage = dreamvideo_learn.motion_stage(backbone, sources["clip"], settings, adapters, NoiseLevels(3.0))
    stage.loss(torch.Generator().manual_seed(0), settings.batch_size, training=True)
    empty = (seen[0] == sources["clip"].empty_prompt_embeds).all(dim=(1, 2))
    assert 70 < empty.sum() < 130
    (condition,) = {each.current_condition for each in adapters.modules() if isinstance(each, Adapter)}
    assert len(condition.unique(dim=0)) == tiny.MEDIA.num_frames


def test_the_unconditional_pass_sees_no_appearance(backbone, sources, monkeypatch) -> None:
    made, seen, forward = artifacts(), [], Adapter.forward
    monkeypatch.setattr(
        Adapter, "forward", lambda self, tokens: (seen.append(self.current_condition), forward(self, tokens))[1]
    )
    composed(backbone, made, "dreamvideo")
    layers = 3 * backbone.num_blocks  # of both sources
    conditional, unconditional = seen[:layers], seen[layers : 2 * layers]
    assert all(torch.equal(appearance, sources["still"].appearance) for appearance in conditional)
    assert all(appearance is None for appearance in unconditional)


def test_the_appearance_is_the_mean_over_the_images(backbone, sources) -> None:
    def artifact(name: str) -> dict[str, torch.Tensor]:
        return {f"adapters.{key}": each for key, each in untrained(backbone, sources, name).state_dict().items()}

    images = [artifact("still") | {"appearance": torch.full((tiny.APPEARANCE,), value)} for value in (1.0, 3.0)]
    with dreamvideo_compose.active(backbone, [*images, artifact("clip")]) as before_pass:
        before_pass(True)
        conditions = [each.current_condition for each in backbone.transformer.modules() if isinstance(each, Adapter)]
    assert conditions and all(torch.equal(each, torch.full((1, tiny.APPEARANCE), 2.0)) for each in conditions)


@pytest.mark.parametrize("source", ["still", "clip"])
def test_what_was_learned_of_one_source_can_be_composed_alone(backbone, source: str) -> None:
    """No case of the table, but what it takes to measure a source on its own."""
    alone = Case(prompt=CASE.prompt, bind={source: CASE.bind[source]})
    job = Job("alone", alone, 0, artifacts()["dreamvideo"])
    ((_, clip),) = dreamvideo_compose.compose(backbone, [job], DREAMVIDEO, tiny.SAMPLING, tiny.MEDIA)
    assert not np.array_equal(clip, composed(backbone, artifacts(), "dreamvideo")[0])


@torch.no_grad()
def test_adapters_read_the_residual_stream_and_add_to_it_past_the_gates(backbone, sources) -> None:
    """As in the original. With all layers silenced, adapters of constant output are all that a block adds."""
    for name, layers in (("still", 1), ("clip", 2)):
        opened, adapters = tiny.backbone(), untrained(backbone, sources, name)
        block, states, read = opened.transformer.blocks[0], torch.randn(1, 4, backbone.width), []
        for layer in (block.attn1.to_out[0], block.attn2.to_out[0], block.ffn.net[2]):
            layer.weight.zero_(), layer.bias.zero_()
        for each in adapters.blocks[0].values():
            each.up.bias.fill_(1.0)
            each.register_forward_pre_hook(lambda layer, inputs, read=read: read.append(inputs[0]))
        context = CrossAttentionInput(*backbone.keys_values(project(backbone, CASE.prompt))[0], False)
        rotary_emb = SelfAttentionInput(torch.ones(1, 4, 1, 12), torch.zeros(1, 4, 1, 12), False)
        with dreamvideo_adapters.adapted(opened.transformer, [adapters]):
            after = block(states, context, torch.full((1, 6, backbone.width), 3.0), rotary_emb)
        torch.testing.assert_close(after, states + layers)
        for place, tokens in enumerate(read):
            torch.testing.assert_close(tokens, states + place)
