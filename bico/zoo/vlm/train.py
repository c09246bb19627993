"""The whole training of the VLM, and the folder that it writes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from bico.core.fingerprints import folder_digest
from bico.models.vlm import Vlm
from bico.models.wan.components import moved
from bico.zoo.checkpoints import own_folder
from bico.zoo.data import TRAIN_SEED, clip_pool
from bico.zoo.vlm.answers import CONTINUED, FROM_SCRATCH, Course, sample_texts, train_answers
from bico.zoo.vlm.model import build
from bico.zoo.vlm.sight import SIGHT_STEPS, all_sights, train_vision


def train(
    out: Path,
    *,
    workdir: Path,
    start: Path | None = None,
    seed: int = 0,
    sight_steps: int | None = None,
    steps: int | None = None,
) -> None:
    """Trains both stages and saves the folder `out`; resumes from the checkpoints in `workdir`.

    Args:
        start: folder of a trained VLM that learns other answers. Its vision tower does not change.
        sight_steps, steps: of the two stages; by default those for the device.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    own = own_folder(workdir, {"start": start and folder_digest(start), "seed": seed, "device": device})
    if not (own / "vlm").exists():
        part = own / "vlm.part"
        shutil.rmtree(part, ignore_errors=True)
        if start is None:
            build(part, sample_texts(), seed)
        else:
            shutil.copytree(start, part)
        os.replace(part, own / "vlm")
    if start is None:
        teach(own, out, FROM_SCRATCH, seed=seed, sight_steps=sight_steps, steps=steps)
    else:
        teach(own, out, CONTINUED, seed=seed, sight_steps=0, steps=steps)


def teach(
    own: Path, out: Path, course: Course, *, seed: int, sight_steps: int | None = None, steps: int | None = None
) -> None:
    """Trains the VLM in `own`/vlm and saves the folder `out`; resumes from the checkpoints in `own`.

    Args:
        own: a folder of this training, in the folder of the renderings.
        sight_steps, steps: of the two stages; by default those for the device. 0 = the vision tower can see already.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    count = course.scenes[device]
    path = own.parent / f"clips-{count}.npy"
    clip_pool(path, count, TRAIN_SEED)
    vlm = Vlm(own / "vlm", device="cpu")
    vlm.device = device
    moved(vlm.model, device)
    sight_steps = SIGHT_STEPS[device] if sight_steps is None else sight_steps
    with _several(device) as mapper:
        pool = torch.from_numpy(np.load(path, mmap_mode="c")).to(device)
        if sight_steps:
            known = {key: value.to(device) for key, value in all_sights(count, mapper).items()}
            train_vision(vlm, pool, known, own, seed, sight_steps)
        train_answers(vlm, pool, mapper, own, seed, course, course.steps[device] if steps is None else steps)
    _publish(vlm, out)


@contextmanager
def _several(device: str) -> Iterator[Callable[..., Iterable]]:
    """`map`; for a GPU the `map` of other processes, which work ahead so that the GPU does not wait for its batches."""
    if device == "cpu":
        yield map
        return
    cores = len(os.sched_getaffinity(0))
    executor = ProcessPoolExecutor(max(1, min(12, cores - 2)), mp_context=multiprocessing.get_context("spawn"))
    try:
        yield executor.map
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _publish(vlm: Vlm, out: Path) -> None:
    """Writes weights in bfloat16 (they are opened in float32) and the processor; replaces the folder as a whole."""
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    moved(vlm.model, "cpu").bfloat16().save_pretrained(part)
    vlm.processor.save_pretrained(part)
    shutil.rmtree(out, ignore_errors=True)
    os.replace(part, out)
