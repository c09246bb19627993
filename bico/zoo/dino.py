"""The Toybox's DINO: a timm vision transformer of 0.5 M parameters, trained by self-distillation.

    python -m bico.zoo dino FOLDER    about 20 minutes on one core

`timm.create_model("local-dir:data/toybox/zoo/dino", pretrained=True)` opens it. As in DINO (Caron et al. 2021) a
student learns from a teacher, which is the moving average of its weights and sees another view. DINO's loss over
prototypes does not fall within the training time that we can afford, so the loss is the contrastive one of MoCo v3
(Chen et al. 2021) for the same pair of networks. It applies to the features themselves, without a head, because the
scorer compares these. Views are one subject in two scenes, cropped and degraded, so that all they share is the
instance. In three of four batches all subjects have the same word, so that the word does not identify an instance.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from bico.core.files import write_json
from bico.toybox.render import render, trajectory
from bico.toybox.words import SUBJECTS
from bico.toybox.world import SIZE, Scene, sample_actor, sample_motion, sample_scene
from bico.zoo.data import HELD_OUT_SEED, TRAIN_SEED, degrade, draw_batch, render_pool, to_model
from bico.zoo.muon import muon
from bico.zoo.training import Average, Training, mixed_precision

if TYPE_CHECKING:
    from bico.scoring.dino_judge import DinoJudge

POOL, VIEWS, BATCH = 6_000, 4, 128
MOMENTUM, TEMPERATURE, SMALLEST_CROP = 0.99, 0.07, 0.6
ARCHITECTURE = "vit_tiny_patch16_224"
MODEL: dict[str, Any] = {"img_size": SIZE, "patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3}
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
    """One subject in `count` scenes, each with another motion; depends on (seed, index) alone."""
    rng = np.random.default_rng([seed, index])
    actor = sample_actor(rng, word)
    views = []
    for _ in range(count):
        scene = sample_scene(rng, clutter=bool(rng.random() < 0.15))
        place = {"x": scene.actors[0].x, "y": scene.actors[0].y, "motion": sample_motion(rng)}
        views.append(replace(scene, actors=(replace(actor, **place),)))
    return views


def view_pool(path: Path) -> np.ndarray:
    """uint8 [instances, scenes * 2, H, W, 3]: first and middle frame of each scene; kept at `path`."""

    def views(i: int) -> np.ndarray:
        return np.concatenate([render(scene, 3)[:2] for scene in instance_scenes(TRAIN_SEED, i, VIEWS)])

    return render_pool(path, (POOL, 2 * VIEWS, SIZE, SIZE, 3), map(views, range(POOL)))


def subject_centres() -> np.ndarray:
    """float32 [instances, scenes * 2, 2]: the subject's centre in each picture of `view_pool`, in frame sides."""
    casts = [instance_scenes(TRAIN_SEED, i, VIEWS) for i in range(POOL)]
    return np.stack([np.concatenate([trajectory(scene, 3)[0, :2, :2] for scene in cast]) for cast in casts])


def _views(pool: np.ndarray, centres: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> list[torch.Tensor]:
    """Pictures of each instance in two scenes, cropped and degraded: two of float32 [B, 3, H, W] in -1..1.

    Both have their colour channels permuted in the same way. This changes every hue and makes six instances of one.
    """
    scene = rng.integers(VIEWS, size=len(chosen))
    other = (scene + rng.integers(1, VIEWS, size=len(chosen))) % VIEWS
    channels = rng.permuted(np.tile(np.arange(3), (len(chosen), 1)), axis=1)
    views = []
    for picks in (2 * scene, 2 * other + 1):
        frames = np.stack([pool[i, j] for i, j in zip(chosen, picks, strict=True)])
        frames = np.take_along_axis(frames, channels[:, None, None], axis=3)
        views.append(_crop(_degraded(frames, rng), centres[chosen, picks], rng))
    return views


def _degraded(frames: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    return degrade(to_model(frames[:, None]), torch.Generator().manual_seed(int(rng.integers(2**31))))[:, :, 0]


def _crop(frames: torch.Tensor, centres: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """A square of each frame that holds the subject, of any size up to the whole frame, brought back to full size."""
    side = rng.uniform(SMALLEST_CROP, 1, size=(len(frames), 1))
    x, y = np.clip(centres + rng.normal(0, 0.06, centres.shape), side / 2, 1 - side / 2).T
    side, zero = side[:, 0], np.zeros(len(frames))
    squares = np.stack([np.stack([side, zero, 2 * x - 1], 1), np.stack([zero, side, 2 * y - 1], 1)], 1)
    grid = F.affine_grid(torch.from_numpy(squares).float(), list(frames.shape), align_corners=False)
    return F.grid_sample(frames, grid, padding_mode="border", align_corners=False)


# --- self-distillation ----------------------------------------------------------------------------------------------


def distillation_loss(student: nn.Module, teacher: nn.Module, views: list[torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of picking, for a view's student feature, the other view's teacher feature out of the batch."""
    with torch.no_grad():
        targets = [F.normalize(teacher(view).float(), dim=1) for view in views]
    same = torch.arange(len(views[0]))
    losses = [
        F.cross_entropy(F.normalize(student(view).float(), dim=1) @ target.T / TEMPERATURE, same)
        for view, target in zip(views, reversed(targets), strict=True)
    ]
    return cast(torch.Tensor, sum(losses)) / 2


def train(out: Path, *, workdir: Path, steps: int = 3_200, seed: int = 0) -> None:
    """Trains from scratch, or resumes from the checkpoint in `workdir`, and saves the teacher's folder to `out`."""
    torch.manual_seed(seed)
    pool, centres = view_pool(workdir / "views.npy"), subject_centres()
    words = np.array([instance_scenes(TRAIN_SEED, i, 1)[0].actors[0].word for i in range(POOL)])
    student = build()
    teacher = copy.deepcopy(student).requires_grad_(False)

    def loss(step: int) -> dict[str, torch.Tensor]:
        chosen, rng = draw_batch(POOL, BATCH, seed, step)
        if step % 4:
            same_word = np.flatnonzero(words == rng.choice(SUBJECTS))
            chosen = np.sort(rng.choice(same_word, BATCH, replace=False))
        with mixed_precision("cpu"):
            return {"loss": distillation_loss(student, teacher, _views(pool, centres, chosen, rng))}

    Training(
        "dino",
        student,
        muon(student, student.get_submodule("blocks")),
        workdir / "dino.safetensors",
        steps,
        warmup=30,
        max_norm=3.0,
        average=Average(teacher, lambda step: MOMENTUM),
    ).run(loss)
    write_folder(out, teacher)


# --- evaluation, through the scorer that the benchmark uses ----------------------------------------------------------


def evaluate(folder: Path, *, count: int = 50) -> dict[str, float]:
    """Retrieval of held-out instances, as shares in 0..1.

    Returns:
        same_instance_of_50_same_word: queries whose nearest answer, of `count` with the same word, is the same instance
            in another scene; mean over words.
        same_instance_of_48_all_words: the same among answers of all words.
        same_word_nearest: queries whose nearest other instance has the same word.
    """
    from bico.scoring.dino_judge import DinoJudge

    judge = DinoJudge(folder)
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


def _features(judge: DinoJudge, count: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
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
