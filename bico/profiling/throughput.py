"""Seconds and memory of one training step and one generation, on random weights."""

from __future__ import annotations

import gc
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor, nn

from bico.config.methods import LearnedSettings
from bico.config.settings import Sampling
from bico.methods.bico.absorption import with_absorption
from bico.methods.bico.settings import Absorption
from bico.methods.shared.protocol import learn_of
from bico.models.binder import HierarchicalBinder
from bico.models.wan.forward_pass import TRAIN_TIMESTEPS
from bico.models.wan.sampling import sample
from bico.models.wan.text import padded
from bico.profiling.presets import CAPTION_TOKENS, Sizes
from bico.profiling.random_models import (
    RandomBackbone,
    random_source,
    random_text_encoder,
    random_transformer,
    weights_in,
)
from bico.training.metrics import METRICS
from bico.training.noise import NoiseLevels
from bico.training.randomness import step_generator

WARM_UP = 2
"""Number of steps before the measured ones, for compilation and the choice of kernels."""

SHIFT = 5.0


@dataclass(frozen=True)
class Timing:
    """Median seconds, and peak memory of tensors on the GPU in GiB (NaN on a CPU)."""

    seconds: float
    peak_gib: float


def training_step(
    sizes: Sizes, frames: int, steps: int, settings: LearnedSettings, device: torch.device, dtype: torch.dtype
) -> Timing:
    """Measures a step with the loop and the loss of `bico learn`."""
    backbone, encoded = RandomBackbone(sizes, device, dtype), random_source(sizes, frames)
    if settings.LEARNS_PER == "case":  # an image and a video: here both of the same length
        encoded = {kind: replace(encoded, kind=kind) for kind in ("image", "video")}
    _ = backbone.transformer
    with _peak_memory(device) as peak, tempfile.TemporaryDirectory() as folder:
        learn_of(settings.method)(backbone, encoded, settings, shift=SHIFT, seed=0, workdir=Path(folder))
        lines = [json.loads(line) for line in (Path(folder) / METRICS).read_text().splitlines()]
    return Timing(statistics.median(line["seconds"] for line in lines[-steps:]), peak())


def plain_step(
    sizes: Sizes, frames: int, steps: int, device: torch.device, dtype: torch.dtype, *, encodes: bool
) -> Timing:
    """Measures the same step written only with diffusers. With `encodes` it encodes caption and clip first."""
    model = random_transformer(sizes, device, dtype)
    model.enable_gradient_checkpointing()
    width = model.config["num_attention_heads"] * model.config["attention_head_dim"]
    binder = HierarchicalBinder(width, model.config["num_layers"], two_branch=frames > 1).to(device)
    absorption = nn.Parameter(torch.randn(1, width, device=device))
    optimizer = torch.optim.AdamW([*binder.parameters(), absorption], lr=1e-4, weight_decay=0.01)
    batch = random_source(sizes, frames).draw(1, step_generator(0, 0), frames=False)
    latents = batch.latents.to(device)
    prompt_embeds = padded(batch.prompt_embeds, sizes.text_slots).to(device, dtype)
    encode = encoder(sizes, frames, device, dtype) if encodes else lambda: (latents, prompt_embeds)

    def step() -> None:
        clean, prompt = encode()
        sigma = NoiseLevels(SHIFT).draw(1, torch.Generator().manual_seed(0)).to(device)
        noise = torch.randn_like(clean)
        noisy = torch.lerp(clean, noise, sigma.view(-1, 1, 1, 1, 1)).to(dtype)
        velocity = model(noisy, sigma * TRAIN_TIMESTEPS, prompt, return_dict=False)[0]
        loss = (velocity.float() - (noise - clean)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    bound = bound_by_hooks(model, binder, absorption, batch.token_counts, Absorption())
    with bound, _peak_memory(device) as peak:
        seconds = [_seconds(device, step) for _ in range(WARM_UP + steps)]
    return Timing(statistics.median(seconds[WARM_UP:]), peak())


@contextmanager
def bound_by_hooks(
    model: WanTransformer3DModel, binder: HierarchicalBinder, absorption: Tensor, counts: Tensor, settings: Absorption
) -> Iterator[None]:
    """Gives every block of diffusers' transformer its bound context by hooks, in forward and backward passes.

    Args:
        absorption: the tokens, [tokens, width].
        counts: of the words of each prompt, with end-of-sequence, [B].
    """
    contexts: list[Tensor] = []

    def bind(layer: nn.Module, inputs: tuple, projected: Tensor) -> None:
        placed, mask = with_absorption(projected.float(), counts, absorption, settings)
        contexts[:] = [context.to(projected.dtype) for context in binder(placed, mask)]

    def hand_over(number: int) -> Callable[[nn.Module, tuple], tuple]:
        return lambda block, inputs: (inputs[0], contexts[number], *inputs[2:])

    handles = [model.condition_embedder.text_embedder.register_forward_hook(bind)]
    handles += [block.register_forward_pre_hook(hand_over(number)) for number, block in enumerate(model.blocks)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def encoder(sizes: Sizes, frames: int, device: torch.device, dtype: torch.dtype) -> Callable[[], tuple[Tensor, Tensor]]:
    """Encodes a clip to latents [1, channels, t, h, w], float32, and a caption to embeddings [1, slots, text width]."""
    text_encoder = random_text_encoder(sizes, device, dtype)
    with weights_in(dtype), device:
        vae = AutoencoderKLWan(**sizes.vae).eval()
    tokens = torch.ones(1, sizes.text_slots, dtype=torch.long, device=device)
    mask = (torch.arange(sizes.text_slots, device=device) < CAPTION_TOKENS).long()[None]
    pixels = torch.rand(1, 3, frames, sizes.height, sizes.width, device=device, dtype=dtype) * 2 - 1

    @torch.no_grad()
    def encode() -> tuple[Tensor, Tensor]:
        embedded = text_encoder(input_ids=tokens, attention_mask=mask).last_hidden_state * mask[..., None]
        return vae.encode(pixels, return_dict=False)[0].mode().float(), embedded

    return encode


def generation(sizes: Sizes, frames: int, device: torch.device, dtype: torch.dtype, *, binds: bool) -> Timing:
    """Measures denoising with guidance. With `binds` the words of the prompt pass through a video's binders."""
    backbone = RandomBackbone(sizes, device, dtype)
    draw = torch.Generator().manual_seed(0)
    prompt, negative = (torch.randn(1, sizes.text_slots, backbone.width, generator=draw).to(device) for _ in range(2))
    words = (torch.arange(sizes.text_slots, device=device) < CAPTION_TOKENS)[None]
    binder = HierarchicalBinder(backbone.width, backbone.num_blocks, two_branch=True).to(device) if binds else None
    _ = backbone.vae  # tells the shape of the latents

    @torch.no_grad()
    def clip(steps: int) -> None:
        contexts = binder(prompt, words) if binder else prompt
        sampling = Sampling(steps=steps, guidance_scale=5.0, shift=SHIFT)
        sample(backbone, contexts, negative, 0, sampling, sizes.media(frames))

    clip(1)
    with _peak_memory(device) as peak:
        seconds = _seconds(device, lambda: clip(sizes.sampling_steps))
    return Timing(seconds, peak())


def matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """TFLOP/s of the device's own matrix product, the best of ten."""
    size = 8192 if device.type == "cuda" else 1024
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = [_seconds(device, lambda: one @ other) for _ in range(10)]
    return 2 * size**3 / min(seconds) / 1e12


def attempt(label: str, work: Callable[[], Timing], device: torch.device) -> Timing:
    """Runs `work`, and prints its result as a line on stderr. The result is NaN if it fails. The device's memory is
    freed afterwards."""
    try:
        measured = work()
    except Exception as error:
        measured = Timing(math.nan, math.nan)
        text = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:1000]}"
    else:
        memory = "" if math.isnan(measured.peak_gib) else f", {measured.peak_gib:.2f} GiB"
        text = f"{measured.seconds:.4g} s{memory}"
    print(f"{label}: {text}", file=sys.stderr, flush=True)
    torch.compiler.reset()
    gc.collect()  # hooks and their models refer to each other in cycles
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return measured


def _seconds(device: torch.device, work: Callable[[], object]) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


@contextmanager
def _peak_memory(device: torch.device) -> Iterator[Callable[[], float]]:
    """Yields a function that returns the peak since then, in GiB; NaN on a CPU."""
    if device.type != "cuda":
        yield lambda: math.nan
        return
    torch.cuda.reset_peak_memory_stats(device)
    yield lambda: torch.cuda.max_memory_allocated(device) / 2**30
