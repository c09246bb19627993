"""A training step of BiCo against a plain one, on the same clips and captions, in one run.

    uv run python benchmarks/binder_step.py [--steps 30] [--threads 1]

Plain: diffusers' transformer in float32, eager, with its own attention; hooks give every block its bound context, and
AdamW is torch's. Ours: the loop in bico/training/loop.py from the same cache, as the Toybox runs it and in plain
float32. All take all binders and a batch of whole clips, in turns, so that a busy machine slows all of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

import numpy as np
import torch
from diffusers import WanTransformer3DModel

from bico.config.reading import load
from bico.core.errors import exit_code
from bico.methods.bico import learn as bico_learn
from bico.methods.bico.settings import Settings as BicoSettings
from bico.methods.bico.settings import Stages
from bico.models.binder import HierarchicalBinder
from bico.models.wan.backbone import Backbone
from bico.models.wan.components import best_dtype
from bico.models.wan.text import padded
from bico.profiling.throughput import bound_by_hooks
from bico.sources.encoding import EncodedSource, encode_source
from bico.toybox.captions import caption, key_words
from bico.toybox.render import render
from bico.toybox.world import sample_scene
from bico.training.metrics import METRICS
from bico.training.noise import NoiseLevels
from bico.training.randomness import step_generator

ROUNDS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("config/toybox.yaml"))
    parser.add_argument("--steps", type=int, default=30, help="in each of the rounds")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = load(options.config)
    settings = on_clips(cast("BicoSettings", config.methods["bico"]), options.steps)
    best = best_dtype("cpu")
    kinds = {"eager float32": (torch.float32, False), f"compiled {str(best).removeprefix('torch.')}": (best, True)}
    backbones = {
        name: Backbone.open(config.models.wan, text_slots=config.text_slots, dtype=dtype, compiles=compiles)
        for name, (dtype, compiles) in kinds.items()
    }
    encoded = source(backbones["eager float32"])
    plain_model = WanTransformer3DModel.from_pretrained(config.models.wan, subfolder="transformer").requires_grad_(
        False
    )
    seconds: dict[str, list[float]] = {"plain": []} | {name: [] for name in backbones}
    for _ in range(ROUNDS):
        seconds["plain"] += plain(plain_model, encoded, settings, options.steps)
        for name, backbone in backbones.items():
            seconds[name] += ours(backbone, encoded, settings, config.sampling.shift)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"batch of {settings.batch_size} clips, {options.threads} thread(s), median of {len(seconds['plain'])} steps")
    for name, median in medians.items():
        print(f"{name:>18}: {median * 1000:7.1f} ms a step, {medians['plain'] / median:.2f}x")


def on_clips(settings: BicoSettings, steps: int) -> BicoSettings:
    """All binders, whole clips, so many steps."""
    stages = Stages(global_steps=0, all_steps=steps)
    return settings.model_copy(update={"temporal_decoupling": False, "clip_stages": stages})


def source(backbone: Backbone) -> EncodedSource:
    """A clip and 60 captions that say what it shows."""
    rng = np.random.default_rng(0)
    scene = sample_scene(rng, motion="bouncing")
    words = key_words(scene) | {"kind": "video", "captions": [caption(scene, rng) for _ in range(60)]}
    frames = render(scene)
    return encode_source(backbone, frames, words | {"frame_captions": words["captions"][:1], "frame_indices": [0]})


def ours(backbone: Backbone, encoded: EncodedSource, settings: BicoSettings, shift: float) -> list[float]:
    """Seconds of each step but the first."""
    with tempfile.TemporaryDirectory() as folder:
        bico_learn.learn(backbone, encoded, settings, shift=shift, seed=0, workdir=Path(folder))
        lines = (Path(folder) / METRICS).read_text().splitlines()
    return [json.loads(line)["seconds"] for line in lines[1:]]


def plain(model: WanTransformer3DModel, encoded: EncodedSource, settings: BicoSettings, steps: int) -> list[float]:
    """Seconds of each step but the first, written as one would with diffusers alone."""
    width = model.config["num_attention_heads"] * model.config["attention_head_dim"]
    binder = HierarchicalBinder(width, model.config["num_layers"])
    absorption = torch.nn.Parameter(torch.randn(settings.absorption.tokens, width))
    optimizer = torch.optim.AdamW([*binder.parameters(), absorption], lr=settings.learning_rate)
    noise, seconds = NoiseLevels(shift=3.0), []
    for step in range(steps):
        started, generator = time.perf_counter(), step_generator(0, step)
        batch = encoded.draw(settings.batch_size, generator, frames=False)
        sigmas = noise.draw(settings.batch_size, generator)
        drawn = torch.randn(batch.latents.shape, generator=generator)
        noisy = torch.lerp(batch.latents, drawn, sigmas.view(-1, 1, 1, 1, 1))
        prompt = padded(batch.prompt_embeds, slots=batch.key_slots.shape[1])
        with bound_by_hooks(model, binder, absorption, batch.token_counts, settings.absorption):
            velocity = model(noisy, sigmas * 1000, prompt, return_dict=False)[0]
        loss = (velocity - (drawn - batch.latents)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


if __name__ == "__main__":
    sys.exit(exit_code(main))
