"""The training of the probe's part that recognises clutter, only on renderings.

    python -m bico.zoo clutter FOLDER   about seven minutes on one core

It writes this part's weights to the folder of a probe, whose other weights do not change. The probe's own training also
calls it. Half of its scenes have clutter, and many have a style or a light, which must not be mistaken for clutter.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from bico.core.errors import InputError
from bico.toybox.probe import ClutterReader
from bico.toybox.render import render
from bico.toybox.words import CLUTTER
from bico.toybox.world import NUM_FRAMES, SIZE, Scene, sample_scene
from bico.zoo.data import HELD_OUT_SEED, TRAIN_SEED, degrade, draw_batch, in_parallel, render_pool, to_model
from bico.zoo.training import Training

POOL, BATCH, STEPS = 12_000, 32, 2_000
PEAK = 3e-3  # learning rate


def scenes(count: int, seed: int) -> list[Scene]:
    """Scenes of one subject, half of them with clutter. Scene i depends only on (seed, i)."""
    draws = [np.random.default_rng([seed, i]) for i in range(count)]
    return [sample_scene(rng, looks=0.4, clutter=bool(rng.random() < 0.5)) for rng in draws]


def targets(cast: list[Scene]) -> torch.Tensor:
    """float32 [N, 3]: 1 where a kind of `CLUTTER` is in a scene."""
    kinds = [{item.kind for item in scene.clutter} for scene in cast]
    return torch.tensor([[float(kind in there) for kind in CLUTTER] for there in kinds])


def train(out: Path, *, workdir: Path, steps: int | None = None, seed: int = 0) -> None:
    """Trains from scratch, or resumes from the checkpoint in `workdir`, and saves to the probe's folder `out`.

    Raises:
        InputError: there is no probe in `out`.
    """
    if not (out / "model.safetensors").is_file():
        raise InputError(f"{out}: no probe there: expected the folder that 'python -m bico.zoo probe' writes")
    learned(workdir, steps=steps, seed=seed).save(out)


def learned(workdir: Path, *, steps: int | None = None, seed: int = 0) -> ClutterReader:
    """The trained network. Its renderings and its checkpoint are kept in `workdir`."""
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cast = scenes(POOL, TRAIN_SEED)
    shape = (POOL, NUM_FRAMES, SIZE, SIZE, 3)
    pool = render_pool(workdir / "clutter.npy", shape, in_parallel(render, cast))
    wanted = targets(cast)
    reader = ClutterReader().to(device)
    optimizer = torch.optim.AdamW(reader.parameters(), betas=(0.9, 0.98), weight_decay=0.02)

    def loss(step: int) -> dict[str, torch.Tensor]:
        chosen, _ = draw_batch(POOL, BATCH, seed, step)
        noise = torch.Generator(device).manual_seed(seed * 1_000_003 + step)
        clips = to_model(pool[chosen]).to(device)
        mirrored = torch.rand(len(clips), 1, 1, 1, 1, generator=noise, device=device) < 0.5
        seen = reader(degrade(torch.where(mirrored, clips.flip(-1), clips), noise))
        return {"loss": F.binary_cross_entropy_with_logits(seen, wanted[chosen].to(device))}

    Training("clutter", reader, optimizer, workdir / "clutter.safetensors", STEPS if steps is None else steps,
             peak=PEAK, max_norm=5.0).run(loss)  # fmt: skip
    return reader.cpu()


@torch.no_grad()
def evaluate(reader: ClutterReader, *, count: int = 500) -> dict[str, float]:
    """Accuracy for each kind of clutter (present or not) on held-out renderings, clean and with blur and noise."""
    cast = scenes(count, HELD_OUT_SEED)
    renders = to_model(np.stack([render(scene) for scene in cast]))
    shares = {}
    for name, clips in {"": renders, "_degraded": degrade(renders, torch.Generator().manual_seed(0))}.items():
        seen = torch.cat([reader(part) for part in clips.split(50)]) > 0
        right = (seen == (targets(cast) > 0.5)).float().mean(dim=0)
        shares |= {f"clutter_{kind}{name}": float(share) for kind, share in zip(CLUTTER, right, strict=True)}
    return shares
