"""The Toybox's DINO: a timm vision transformer of 0.5 M parameters, trained by self-distillation without labels.

    bico zoo dino           about 12 minutes on one core

`timm.create_model("local-dir:data/toybox/zoo/dino", pretrained=True)` opens it. As in DINO (Caron et al. 2021) a
student follows a teacher that is its own running average, both see different views, and the teacher's outputs are
centred and sharpened. Views of one subject are frames of several scenes and motions, cropped and degraded: what they
share is the instance.
"""

from __future__ import annotations

import copy
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from bico.toybox.render import render
from bico.toybox.world import SIZE, SUBJECTS, Scene, sample_actor, sample_motion, sample_scene
from bico.toybox.zoo.common import (
    HELD_OUT_SEED,
    TRAIN_SEED,
    Progress,
    batches,
    cosine_rate,
    load_checkpoint,
    save_checkpoint,
    to_model,
    write_json,
)
from bico.toybox.zoo.probe import degrade

POOL, VIEWS, BATCH, RATE = 10_000, 4, 64, 1e-3
MOMENTUM, CENTRE_MOMENTUM = 0.99, 0.9
TEACHER_TEMPERATURE, STUDENT_TEMPERATURE = 0.05, 0.1
PROTOTYPES, SMALLEST_CROP = 1024, 36
ARCHITECTURE = "vit_tiny_patch16_224"
MODEL = {"img_size": SIZE, "patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3}
HALF = (0.5, 0.5, 0.5)


def build() -> nn.Module:
    return timm.create_model(ARCHITECTURE, num_classes=0, **MODEL)


def write_folder(folder: Path, model: nn.Module) -> None:
    """Writes the folder that timm's "local-dir:" opens."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {"input_size": (3, SIZE, SIZE), "mean": HALF, "std": HALF, "interpolation": "bicubic", "crop_pct": 1.0}
    places = {"first_conv": "patch_embed.proj", "classifier": "head", "fixed_input_size": True}
    config = {"architecture": ARCHITECTURE, "num_classes": 0, "num_features": MODEL["embed_dim"], "model_args": MODEL}
    write_json(folder / "config.json", config | {"pretrained_cfg": data | places})
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")


# --- views ----------------------------------------------------------------------------------------------------------


def instance_scenes(seed: int, index: int, count: int, word: str | None = None) -> list[Scene]:
    """One subject in `count` scenes with motions of their own; depends on (seed, index) alone."""
    rng = np.random.default_rng([seed, index])
    actor = sample_actor(rng, word)
    views = []
    for _ in range(count):
        scene = sample_scene(rng, clutter=bool(rng.random() < 0.15))
        place = {"x": scene.actors[0].x, "y": scene.actors[0].y, "motion": sample_motion(rng)}
        views.append(replace(scene, actors=(replace(actor, **place),)))
    return views


def view_pool(path: Path) -> np.ndarray:
    """uint8 [instances, scenes * 2, H, W, 3], first and middle frame in each scene; kept at `path`."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        pool = np.lib.format.open_memmap(part, "w+", np.uint8, (POOL, 2 * VIEWS, SIZE, SIZE, 3))
        progress = Progress("views", POOL)
        for i in range(POOL):
            pool[i] = np.concatenate([render(scene, 3)[:2] for scene in instance_scenes(TRAIN_SEED, i, VIEWS)])
            progress.update(i + 1)
        pool.flush()
        os.replace(part, path)
    return np.load(path, mmap_mode="r")


def _views(pool: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> list[torch.Tensor]:
    """Two different pictures of each instance: float32 [B, 3, H, W] in -1..1, cropped and degraded."""
    picks = np.stack([rng.choice(pool.shape[1], 2, replace=False) for _ in chosen])
    return [_crop(_degraded(np.stack([pool[i, j] for i, j in zip(chosen, column, strict=True)]), rng), rng)
            for column in picks.T]  # fmt: skip


def _degraded(frames: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    return degrade(to_model(frames[:, None]), torch.Generator().manual_seed(int(rng.integers(2**31))))[:, :, 0]


def _crop(frames: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """One random square of each half of the batch, brought back to full size."""
    return torch.cat([_square(half, rng) for half in frames.chunk(2)])


def _square(frames: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    side = int(rng.integers(SMALLEST_CROP, SIZE + 1))
    top, left = rng.integers(SIZE - side + 1, size=2)
    return F.interpolate(frames[:, :, top : top + side, left : left + side], (SIZE, SIZE), mode="bilinear")


# --- self-distillation ----------------------------------------------------------------------------------------------


class Learner(nn.Module):
    """A backbone with DINO's head: features to logits over prototypes of unit length."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        width = backbone.num_features
        self.backbone = backbone
        self.project = nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, 64))
        self.prototypes = nn.Parameter(torch.randn(PROTOTYPES, 64))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        points = F.normalize(self.project(self.backbone(frames)), dim=1)
        return points @ F.normalize(self.prototypes, dim=1).T


class Teacher(nn.Module):
    """The running average of a student, and the centre of its outputs."""

    def __init__(self, student: Learner):
        super().__init__()
        self.learner = copy.deepcopy(student).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(PROTOTYPES))

    @torch.no_grad()
    def targets(self, views: list[torch.Tensor]) -> list[torch.Tensor]:
        """Sharpened, centred distributions over prototypes, one for each view."""
        logits = [self.learner(view) for view in views]
        targets = [((view - self.centre) / TEACHER_TEMPERATURE).softmax(dim=1) for view in logits]
        self.centre.lerp_(torch.cat(logits).mean(dim=0), 1 - CENTRE_MOMENTUM)
        return targets

    @torch.no_grad()
    def follow(self, student: Learner) -> None:
        for mine, theirs in zip(self.learner.parameters(), student.parameters(), strict=True):
            mine.lerp_(theirs, 1 - MOMENTUM)


def distillation_loss(student: Learner, teacher: Teacher, views: list[torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of each view's student output to the other view's target."""
    first, second = teacher.targets(views)
    logs = [(student(view) / STUDENT_TEMPERATURE).log_softmax(dim=1) for view in views]
    return -((second * logs[0]).sum(dim=1).mean() + (first * logs[1]).sum(dim=1).mean()) / 2


def train(out: Path, *, workdir: Path, steps: int = 1200, seed: int = 0) -> None:
    """Trains from scratch, or goes on from the checkpoint in `workdir`, and saves the teacher's folder to `out`."""
    torch.manual_seed(seed)
    pool = view_pool(workdir / "views.npy")
    student = Learner(build())
    teacher = Teacher(student)
    optimizer = torch.optim.AdamW(student.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.04)
    checkpoint = workdir / "dino.safetensors"
    first = load_checkpoint(checkpoint, {"student": student, "teacher": teacher}, optimizer)
    progress = Progress("dino", steps, done=first)
    for step, chosen, rng in batches(POOL, BATCH, range(first, steps), seed):
        optimizer.param_groups[0]["lr"] = cosine_rate(step, steps, RATE)
        loss = distillation_loss(student, teacher, _views(pool, chosen, rng))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 3.0)
        optimizer.step()
        teacher.follow(student)
        progress.update(step + 1, loss=loss.item())
        if (step + 1) % 200 == 0:
            save_checkpoint(checkpoint, step + 1, {"student": student, "teacher": teacher}, optimizer)
    write_folder(out, teacher.learner.backbone)


# --- evaluation, through the scorer that the benchmark uses ----------------------------------------------------------


def evaluate(folder: Path, *, count: int = 50) -> dict[str, float]:
    """On held-out instances: how often the same subject in another scene comes first, among `count` of the same word
    (mean over words) and among `count` of all words; and how often the nearest other instance has the same word.
    """
    from bico.scoring.dino_i import DinoI

    judge = DinoI(folder)
    queries, answers = _features(judge, count)
    within = [_first(queries[word], answers[word]) for word in SUBJECTS]
    share = count // len(SUBJECTS)
    mixed = [torch.cat([side[word][:share] for word in SUBJECTS]) for side in (queries, answers)]
    nearest = (mixed[0] @ mixed[1].T).fill_diagonal_(-1).argmax(dim=1) // share
    words = torch.arange(len(SUBJECTS)).repeat_interleave(share)
    return {
        "same_instance_of_50_same_word": float(np.mean(within)),
        "same_instance_of_48_all_words": _first(*mixed),
        "same_word_nearest": (nearest == words).float().mean().item(),
    }


def _features(judge: object, count: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Unit features [count, D] by word, of each instance in one scene and in another."""
    sides: tuple[dict, dict] = ({}, {})
    for number, word in enumerate(SUBJECTS):
        cast = [instance_scenes(HELD_OUT_SEED, 1000 * number + i, 2, word) for i in range(count)]
        for side, column in zip(sides, zip(*cast, strict=True), strict=True):
            side[word] = torch.cat([judge.features(render(scene, 1)) for scene in column])
    return sides


def _first(queries: torch.Tensor, answers: torch.Tensor) -> float:
    nearest = (queries @ answers.T).argmax(dim=1)
    return (nearest == torch.arange(len(queries))).float().mean().item()
