from itertools import groupby
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline

from bico.models.binder import HierarchicalBinder
from bico.models.wan import sampling
from bico.models.wan.backbone import Backbone
from bico.models.wan.components import ROOM_FOR_ALL, short_of_memory
from bico.models.wan.sampling import generate, sample
from bico.models.wan.schedule import denoising_sigmas


class SameSigmas(FlowMatchEulerDiscreteScheduler):
    """diffusers' Euler steps, between our sigmas."""

    def set_timesteps(self, num_inference_steps: int, device: torch.device, **_: object) -> None:
        super().set_timesteps(num_inference_steps, device=device)
        self.sigmas = denoising_sigmas(num_inference_steps, self.shift)
        self.timesteps = 1000 * self.sigmas[:-1]


def with_our_sigmas(pipeline: WanPipeline) -> WanPipeline:
    pipeline.register_modules(scheduler=SameSigmas(shift=tiny.SAMPLING.shift))
    return pipeline


@pytest.fixture(scope="module")
def pipeline() -> WanPipeline:
    return with_our_sigmas(tiny.saved_pipeline())


def reference(pipeline: WanPipeline, seed: int, output_type: str) -> np.ndarray | torch.Tensor:
    """What diffusers' own pipeline makes of tiny.PROMPT."""
    return pipeline(
        prompt=tiny.PROMPT,
        negative_prompt=tiny.SAMPLING.negative_prompt,
        height=tiny.MEDIA.height,
        width=tiny.MEDIA.width,
        num_frames=tiny.MEDIA.num_frames,
        num_inference_steps=tiny.SAMPLING.steps,
        guidance_scale=tiny.SAMPLING.guidance_scale,
        max_sequence_length=tiny.TEXT_SLOTS,
        generator=torch.Generator().manual_seed(seed),
        output_type=output_type,
    ).frames


def test_an_untrained_binder_repeats_wan_pipeline_bit_for_bit(backbone: Backbone, pipeline: WanPipeline) -> None:
    context, negative = tiny.contexts(backbone)
    binder = HierarchicalBinder(backbone.width, backbone.num_blocks, two_branch=True)
    every_token = torch.ones(context.shape[:2], dtype=torch.bool)
    with torch.no_grad():
        bound = binder(context, every_token)
    latents = sample(backbone, bound, negative, 3, tiny.SAMPLING, tiny.MEDIA)
    assert torch.equal(latents, reference(pipeline, 3, "latent"))


def test_generated_pixels_are_those_of_wan_pipeline(backbone: Backbone, pipeline: WanPipeline) -> None:
    clips = generate(backbone, *tiny.contexts(backbone), [3, 4], tiny.SAMPLING, tiny.MEDIA)
    for clip, seed in zip(clips, [3, 4], strict=True):
        assert np.array_equal(clip, (reference(pipeline, seed, "np")[0] * 255).round().astype(np.uint8))


def test_bfloat16_repeats_wan_pipeline_too() -> None:
    half = Backbone.open(tiny.folder(), text_slots=tiny.TEXT_SLOTS, dtype=torch.bfloat16)
    pipeline = WanPipeline.from_pretrained(tiny.folder(), vae=half.vae, dtype=torch.bfloat16)
    with_our_sigmas(pipeline).set_progress_bar_config(disable=True)
    context, negative = tiny.contexts(half)
    latents = sample(half, context, negative, 3, tiny.SAMPLING, tiny.MEDIA)
    assert torch.equal(latents, reference(pipeline, 3, "latent"))


def test_on_a_small_gpu_the_text_encoder_waits_elsewhere_while_a_clip_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, moves = tiny.backbone(), []
    move, leave = type(opened.text_encoder).to, type(opened).offload_text_encoder

    def noted(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
        moves.append("back")
        return move(model, device)

    def left(self: tiny.Backbone) -> None:
        moves.append("offloaded")
        leave(self)

    def clip() -> np.ndarray:
        return generate(opened, *tiny.contexts(opened), [0], tiny.SAMPLING, tiny.MEDIA)

    before = clip()
    monkeypatch.setattr(type(opened.text_encoder), "to", noted)
    monkeypatch.setattr(type(opened), "offload_text_encoder", left)
    monkeypatch.setattr(sampling, "short_of_memory", lambda device: True)
    assert np.array_equal(clip(), before) and np.array_equal(clip(), before)
    assert [move for move, _ in groupby(moves)] == ["back", "offloaded", "back", "offloaded"]


def test_the_text_encoder_is_offloaded_on_small_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    offloaded = []
    for device, memory in (("cpu", 0), ("cuda", ROOM_FOR_ALL - 1), ("cuda", ROOM_FOR_ALL)):
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda device, memory=memory: SimpleNamespace(total_memory=memory)
        )
        offloaded.append(short_of_memory(torch.device(device)))
    assert offloaded == [False, True, False]
