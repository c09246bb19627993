"""The probe's training, only on renderings.

    python -m bico.zoo probe FOLDER   about 20 minutes on one core, two on an H200 that trains the DiT as well

Its scenes have a single subject, and some have clutter, styles or light. Blur and coarse noise prepare it for generated
clips, which are less sharp than renderings. The part that recognises clutter is trained afterwards, on its own scenes
(`bico.zoo.clutter`), which takes another seven minutes on one core.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from bico.toybox.probe import HUES, LEVELS, NONE, STILL, WORDS, Probe, Reading, to_scale, turns_of
from bico.toybox.render import render, trajectory
from bico.toybox.world import Scene
from bico.zoo import clutter
from bico.zoo.data import HELD_OUT_SEED, TRAIN_SEED, clip_pool, degrade, draw_batch, scenes
from bico.zoo.training import Training

# A GPU gets a larger pool and larger batches: it trains on twelve times as many clips in a twentieth of the time.
POOL, BATCH, STEPS = {"cpu": 24_000, "cuda": 60_000}, {"cpu": 32, "cuda": 256}, {"cpu": 2_700, "cuda": 2_500}
PEAK = 3e-3  # learning rate
STILLS, CUT_FRAMES = 0.15, 3  # share of clips that are frozen; frames of a clip that are cut out in a step


def answers(scene: Scene) -> dict[str, str | float]:
    """The labels of a scene with one subject; amounts of absent looks are NaN."""
    actor = scene.actors[0]
    looks = {"style": scene.style, "light": scene.light}
    return {
        "subject": actor.word,
        "pattern": actor.pattern,
        "motion": actor.motion.word if actor.motion else STILL,
        "scene": scene.backdrop.word,
        **{role: look.word if look else NONE for role, look in looks.items()},
        "hue_a": actor.hue_a,
        # A plain fish has no stripes, but its fins show the second hue.
        "hue_b": actor.hue_b,
        "sky": scene.backdrop.sky,
        "ground": scene.backdrop.ground,
        "shape": actor.shape,
        **{f"{role}_amount": look.amount if look else np.nan for role, look in looks.items()},
    }


def targets(cast: list[Scene]) -> dict[str, torch.Tensor]:
    """Answers as tensors: word indices [N] by role, hues and levels [N] by name, `poses` [N, 9, 4]."""
    rows = [answers(scene) for scene in cast]
    words = {role: torch.tensor([WORDS[role].index(row[role]) for row in rows]) for role in WORDS}
    values = {name: torch.tensor([row[name] for row in rows], dtype=torch.float32) for name in HUES + LEVELS}
    return words | values | {"poses": torch.from_numpy(np.stack([trajectory(scene)[0] for scene in cast]))}


def loss_of(output: dict[str, torch.Tensor], target: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of the words, Huber losses of hues (as points on the circle), levels, places and turns."""
    total = sum(F.cross_entropy(output[role], target[role]) for role in WORDS)
    for name in HUES:
        turn = 2 * np.pi * target[name]
        total = total + 2 * _huber(output[name], torch.stack([turn.cos(), turn.sin()], dim=1))
    for name in LEVELS:
        known = target[name].isfinite()
        off = _huber(output[name], target[name].nan_to_num(), reduction="none") * known
        total = total + 2 * off.sum() / known.sum().clamp(min=1)
    return (
        total + 4 * _huber(output["places"], to_scale(target["poses"])) + 4 * _huber(output["turns"], target["turns"])
    )


def _huber(output: torch.Tensor, target: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    return F.smooth_l1_loss(output, target, beta=0.2, reduction=reduction)


# --- augmentation ---------------------------------------------------------------------------------------------------


def _mirror(clips: torch.Tensor, target: dict[str, torch.Tensor], chosen: torch.Tensor) -> None:
    """Flips some clips left to right, in place; of the labels only x and the angle change."""
    poses = target["poses"]
    flipped = poses.new_tensor([1.0, 0, 0, 0]) + poses * poses.new_tensor([-1.0, 1, 1, -1])
    clips.copy_(torch.where(_wide(chosen, clips), clips.flip(-1), clips))
    poses.copy_(torch.where(_wide(chosen, poses), flipped, poses))


def _freeze(clips: torch.Tensor, target: dict[str, torch.Tensor], chosen: torch.Tensor) -> None:
    """Turns some clips into stills of a random frame, in place."""
    every = torch.arange(len(clips), device=clips.device)
    frame, poses = every % clips.shape[2], target["poses"]
    clips.copy_(torch.where(_wide(chosen, clips), clips[every, :, frame, None], clips))
    poses.copy_(torch.where(_wide(chosen, poses), poses[every, frame, None], poses))
    target["motion"].masked_fill_(chosen, WORDS["motion"].index(STILL))


def _wide(chosen: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """[B] to [B, 1, ...] with as many dimensions as `like` has."""
    return chosen.view(-1, *[1] * (like.ndim - 1))


def _batch(clips: torch.Tensor, target: dict[str, torch.Tensor], seed: int) -> tuple[torch.Tensor, dict]:
    """Augmented clips, float32 [B, 3, T, H, W] in about -1..1, of uint8 [B, T, H, W, 3], and their labels."""
    noise = torch.Generator(clips.device).manual_seed(seed)
    inputs, target = (
        clips.permute(0, 4, 1, 2, 3).float() / 127.5 - 1,
        {key: value.clone() for key, value in target.items()},
    )
    _mirror(inputs, target, torch.rand(len(clips), generator=noise, device=clips.device) < 0.5)
    _freeze(inputs, target, torch.rand(len(clips), generator=noise, device=clips.device) < STILLS)
    return degrade(inputs, noise), target


def _near(poses: torch.Tensor, noise: torch.Generator, spread: float) -> torch.Tensor:
    """Poses [B, K, 4] with normal errors, as a network makes them.

    Their deviation is `spread` in frame sides, and a multiple of it in the logarithm of the size and in the angle.
    """
    drawn = torch.randn(poses.shape, generator=noise, device=poses.device)
    off = spread * drawn * poses.new_tensor([1.0, 1.0, 2.0, 10.0])
    growth = torch.arange(4, device=poses.device) == 2
    return torch.where(growth, poses * off.exp(), poses + off)


def cut_outs(
    probe: Probe, clips: torch.Tensor, poses: torch.Tensor, noise: torch.Generator
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The outputs of `turn` and `look` for a few frames, and the targets of `turn`.

    Both networks get crops near the true poses [B, 9, 4], with errors as large as in use. Half of the crops for `turn`
    have a random angle, so that it sees every subject at every angle.
    """
    random = {"generator": noise, "device": clips.device}
    frames = torch.randperm(clips.shape[2], **random)[:CUT_FRAMES]
    clips, poses = clips[:, :, frames], poses[:, frames]
    rough = _near(poses, noise, spread=0.045)
    turned = torch.rand(poses.shape[:2], **random) < 0.5
    rough[..., 3] = turned * 2 * np.pi * torch.rand(poses.shape[:2], **random)
    answers = probe.look(clips, _near(poses, noise, spread=0.015)) | {"turns": probe.turn(clips, rough)}
    return answers, turns_of(rough, poses)


# --- training and evaluation ----------------------------------------------------------------------------------------


def train(out: Path, *, workdir: Path, steps: int | None = None, seed: int = 0) -> None:
    """Trains from scratch, or resumes from the checkpoint in `workdir`, and saves the probe's folder to `out`."""
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    count, path, total = POOL[device], workdir / "pool.npy", STEPS[device] if steps is None else steps
    clip_pool(path, count, TRAIN_SEED)
    pool = torch.from_numpy(np.load(path, mmap_mode="c")).to(device)
    cast = scenes(count, TRAIN_SEED)
    indices = [i for i, scene in enumerate(cast) if len(scene.actors) == 1]
    target = {key: value.to(device) for key, value in targets([cast[i] for i in indices]).items()}
    single = torch.tensor(indices, device=device)
    probe = Probe().to(device)
    optimizer = torch.optim.AdamW(probe.parameters(), betas=(0.9, 0.98), weight_decay=0.02)

    def loss(step: int) -> dict[str, torch.Tensor]:
        drawn, _ = draw_batch(len(single), BATCH[device], seed, step)
        chosen = torch.from_numpy(drawn).to(device, non_blocking=True)
        clips, wanted = _batch(pool[single[chosen]], {k: v[chosen] for k, v in target.items()}, seed * 1_000_003 + step)
        noise = torch.Generator(device).manual_seed(step)
        seen, wanted["turns"] = cut_outs(probe, clips, wanted["poses"], noise)
        return {"loss": loss_of(probe.story(clips) | seen, wanted)}

    Training("probe", probe, optimizer, workdir / "probe.safetensors", total, peak=PEAK, max_norm=5.0).run(loss)
    probe.clutter = clutter.learned(workdir, steps=steps, seed=seed)
    probe.cpu().save(out)


def held_out(count: int) -> list[Scene]:
    """Held-out scenes with one subject."""
    found = [scene for scene in scenes(2 * count, HELD_OUT_SEED) if len(scene.actors) == 1]
    return found[:count]


def evaluate(folder: Path, *, count: int = 500) -> dict[str, float]:
    """Shares of right words by role and of right answers by kind of clutter, and mean absolute errors, on held-out
    renders.

    Hues are in turns, levels in 0..1; of trajectories the centre and the half extent are in frame sides, the angle in
    degrees.
    """
    probe = Probe.open(folder)
    cast = held_out(count)
    readings = [reading for scene in cast for reading in probe.read(render(scene)[None])]
    truths = [answers(scene) for scene in cast]
    both = list(zip(readings, truths, strict=True))
    words = {role: float(np.mean([reading.best(role) == truth[role] for reading, truth in both])) for role in WORDS}
    seen = clutter.evaluate(probe.clutter, count=count)
    return words | seen | _value_errors(readings, truths) | _path_errors(readings, cast)


def _value_errors(readings: list[Reading], truths: list[dict]) -> dict[str, float]:
    errors = {}
    for name in HUES + LEVELS:
        apart = np.array([r.values[name] - t[name] for r, t in zip(readings, truths, strict=True)])
        if name in HUES:
            apart = (apart + 0.5) % 1.0 - 0.5
        errors[f"{name}_error"] = float(np.nanmean(np.abs(apart)))
    return errors


def _path_errors(readings: list[Reading], cast: list[Scene]) -> dict[str, float]:
    read = np.stack([reading.trajectory for reading in readings])
    true = np.stack([trajectory(scene)[0] for scene in cast])
    centre = np.hypot(*np.moveaxis(read[..., :2] - true[..., :2], -1, 0))
    turned = np.abs((read[..., 3] - true[..., 3] + np.pi) % (2 * np.pi) - np.pi)
    return {
        "centre_error": float(centre.mean()),
        "size_error": float(np.abs(read[..., 2] - true[..., 2]).mean()),
        "angle_error": float(np.degrees(turned).mean()),
    }
