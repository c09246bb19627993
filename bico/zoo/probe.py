"""The probe's training, on renders alone.

    bico zoo probe FOLDER   about 20 minutes on one core, two on an H200 that trains the DiT as well

Only scenes with a single subject, some with clutter, styles and light. Blur and coarse noise make it read generated
clips by what they show rather than by how sharp they are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from bico.toybox.probe import HUES, LEVELS, NONE, STILL, WORDS, Probe, Reading, to_scale, turns_of
from bico.toybox.render import render, trajectory
from bico.toybox.world import Scene
from bico.zoo.common import (
    HELD_OUT_SEED,
    TRAIN_SEED,
    Progress,
    batches,
    clip_pool,
    cosine_rate,
    load_checkpoint,
    save_checkpoint,
    scenes,
)

# A GPU sees twelve times as much in a twentieth of the time; it wants large batches.
POOL, BATCH, STEPS = {"cpu": 24_000, "cuda": 60_000}, {"cpu": 32, "cuda": 256}, {"cpu": 2_700, "cuda": 2_500}
RATE, STILLS, CHECKPOINT_EVERY, CUT_FRAMES = 3e-3, 0.15, 200, 3


def answers(scene: Scene) -> dict[str, str | float]:
    """What a perfect probe would say of a scene with one subject; amounts of absent looks are NaN."""
    actor = scene.actors[0]
    looks = {"style": scene.style, "light": scene.light}
    return {
        "subject": actor.word,
        "pattern": actor.pattern,
        "motion": actor.motion.word if actor.motion else STILL,
        "scene": scene.backdrop.word,
        **{role: look.word if look else NONE for role, look in looks.items()},
        "hue_a": actor.hue_a,
        # A plain fish has no stripes, but its fins show the second hue all the same.
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


def loss(output: dict[str, torch.Tensor], target: dict[str, torch.Tensor]) -> torch.Tensor:
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
    """Flips some clips left to right, in place: x and the sense of rotation change, nothing else does."""
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


def degrade(clips: torch.Tensor, noise: torch.Generator) -> torch.Tensor:
    """Blur, fine noise and coarse noise on [B, C, T, H, W], of random strengths; a third of the clips stays clean."""
    b, c, t, h, w = clips.shape
    random = {"generator": noise, "device": clips.device}
    strength = torch.rand(b, 3, 1, 1, 1, 1, **random) * (torch.rand(b, 1, 1, 1, 1, 1, **random) > 0.33)
    half = F.avg_pool2d(clips.flatten(0, 2), 2)
    blurred = F.interpolate(half[:, None], (h, w), mode="bilinear").view(b, c, t, h, w)
    clips = clips + strength[:, 0] * (blurred - clips)
    clips = clips + 0.08 * strength[:, 1] * torch.randn(clips.shape, **random)
    coarse = torch.randn(b, c, t, 8, 8, **random).repeat_interleave(h // 8, 3).repeat_interleave(w // 8, 4)
    return clips + 0.08 * strength[:, 2] * coarse


def _batch(clips: torch.Tensor, target: dict[str, torch.Tensor], seed: int) -> tuple[torch.Tensor, dict]:
    """Clips, uint8 [B, T, H, W, 3], as the probe learns from them, and what there is to say of them."""
    noise = torch.Generator(clips.device).manual_seed(seed)
    inputs, target = (
        clips.permute(0, 4, 1, 2, 3).float() / 127.5 - 1,
        {key: value.clone() for key, value in target.items()},
    )
    _mirror(inputs, target, torch.rand(len(clips), generator=noise, device=clips.device) < 0.5)
    _freeze(inputs, target, torch.rand(len(clips), generator=noise, device=clips.device) < STILLS)
    return degrade(inputs, noise), target


def _near(poses: torch.Tensor, noise: torch.Generator, spread: float) -> torch.Tensor:
    """Poses [B, K, 4] as a network might give them: off by `spread` in frame sides, and by a multiple of it in the
    logarithm of the size and in the angle.
    """
    drawn = torch.randn(poses.shape, generator=noise, device=poses.device)
    off = spread * drawn * poses.new_tensor([1.0, 1.0, 2.0, 10.0])
    growth = torch.arange(4, device=poses.device) == 2
    return torch.where(growth, poses * off.exp(), poses + off)


def cut_outs(
    probe: Probe, clips: torch.Tensor, poses: torch.Tensor, noise: torch.Generator
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """What `turn` and `look` say of a few frames near the true poses [B, 9, 4], and what `turn` should have said.

    They learn from cut-outs no better than those that they will be given. Half of those for `turn` are turned
    themselves, so that it sees every subject at every angle.
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
    """Trains from scratch, or goes on from the checkpoint in `workdir`, and saves the probe's folder to `out`."""
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    count, path, steps = POOL[device], workdir / "pool.npy", STEPS[device] if steps is None else steps
    clip_pool(path, count, TRAIN_SEED)
    pool = torch.from_numpy(np.load(path, mmap_mode="c")).to(device)
    cast = scenes(count, TRAIN_SEED)
    indices = [i for i, scene in enumerate(cast) if len(scene.actors) == 1]
    target = {key: value.to(device) for key, value in targets([cast[i] for i in indices]).items()}
    single = torch.tensor(indices, device=device)
    probe = Probe().to(device)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.02)
    checkpoint = workdir / "probe.safetensors"
    first = load_checkpoint(checkpoint, {"probe": probe}, optimizer)
    progress = Progress("probe", steps, done=first)
    for step, drawn, _ in batches(len(single), BATCH[device], range(first, steps), seed):
        chosen = torch.from_numpy(drawn).to(device, non_blocking=True)
        clips, wanted = _batch(pool[single[chosen]], {k: v[chosen] for k, v in target.items()}, seed * 1_000_003 + step)
        optimizer.param_groups[0]["lr"] = cosine_rate(step, steps, RATE)
        noise = torch.Generator(device).manual_seed(step)
        seen, wanted["turns"] = cut_outs(probe, clips, wanted["poses"], noise)
        error = loss(probe.story(clips) | seen, wanted)
        optimizer.zero_grad()
        error.backward()
        torch.nn.utils.clip_grad_norm_(probe.parameters(), 5.0)
        optimizer.step()
        progress.update(step + 1, loss=error)
        if (step + 1) % CHECKPOINT_EVERY == 0:
            save_checkpoint(checkpoint, step + 1, {"probe": probe}, optimizer)
    probe.cpu().save(out)


def held_out(count: int) -> list[Scene]:
    """Scenes with one subject that no training saw."""
    found = [scene for scene in scenes(2 * count, HELD_OUT_SEED) if len(scene.actors) == 1]
    return found[:count]


def evaluate(folder: Path, *, count: int = 500) -> dict[str, float]:
    """On held-out renders: share of right words by role, mean error of values (hues in turns) and of trajectories.

    Trajectories: centre and half extent in frame sides, angle in degrees.
    """
    probe = Probe.open(folder)
    cast = held_out(count)
    readings = [reading for scene in cast for reading in probe.read(render(scene)[None])]
    truths = [answers(scene) for scene in cast]
    both = list(zip(readings, truths, strict=True))
    words = {role: float(np.mean([reading.best(role) == truth[role] for reading, truth in both])) for role in WORDS}
    return words | _value_errors(readings, truths) | _path_errors(readings, cast)


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
