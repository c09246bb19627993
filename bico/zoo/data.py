"""Rendered scenes for training and evaluation, their augmentation, and batches of them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F

from bico.core.files import replacing, write_text
from bico.core.fingerprints import code_digest
from bico.toybox.render import render
from bico.toybox.world import NUM_FRAMES, SIZE, Scene, sample_training_scene
from bico.zoo.progress import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

# Training scenes, training stills and held-out scenes have different seeds, so that no scene is in two of these sets.
TRAIN_SEED, STILL_SEED, HELD_OUT_SEED = 1_000, 1_500, 2_000


def scenes(count: int, seed: int, start: int = 0) -> list[Scene]:
    """`count` training scenes. Scene i depends only on (seed, i)."""
    return [sample_training_scene(np.random.default_rng([seed, start + i])) for i in range(count)]


def in_parallel(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """`work` of every item, in order, on all cores. Below a thousand items one process is faster, so one is used.

    Args:
        work: a function of a module that imports fast, such as the renderer, because every process imports it.
    """
    workers = min(os.cpu_count() or 1, len(items) // 500)
    if workers < 2:
        yield from map(work, items)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(work, items, chunksize=50)


def render_pool(path: Path, shape: tuple[int, ...], rendered: Iterable[np.ndarray]) -> np.ndarray:
    """uint8 array of `shape`, mapped into memory from the file `path`.

    The file is written from the items of `rendered` if there is none, or if one of another shape or renderer is there.
    """
    note, made_from = path.with_suffix(".txt"), f"{shape} {code_digest('bico.toybox.render')}\n"
    if not (path.exists() and note.exists() and note.read_text() == made_from):
        with replacing(path) as unfinished:
            pool = np.lib.format.open_memmap(unfinished, "w+", np.uint8, shape)
            progress = Progress("render", len(pool))
            for i, item in enumerate(rendered):
                pool[i] = item
                progress.update(i + 1)
            pool.flush()
        write_text(note, made_from)
    return np.load(path, mmap_mode="r")


def clip_pool(path: Path, count: int, seed: int) -> np.ndarray:
    """uint8 [count, T, H, W, 3]: renders of `scenes(count, seed)`, kept at `path`."""
    return render_pool(path, (count, NUM_FRAMES, SIZE, SIZE, 3), in_parallel(render, scenes(count, seed)))


def to_model(clips: np.ndarray) -> torch.Tensor:
    """uint8 [B, T, H, W, 3] to float32 [B, 3, T, H, W] in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(clips)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


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


def draw_batch(count: int, size: int, seed: int, step: int) -> tuple[np.ndarray, np.random.Generator]:
    """`size` different indices below `count`, in order, and a generator for all other randomness of the step.

    Both depend only on (seed, step), so a resumed training draws the same batches.
    """
    rng = np.random.default_rng([seed, step])
    return np.sort(rng.choice(count, size, replace=False)), rng
