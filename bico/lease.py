"""A GPU for this process alone, where no scheduler has set one aside.

Snakemake starts the jobs of a node side by side and tells none of them which GPU is its own. So each takes a file lock,
one file for each GPU in a folder of this node. The kernel lets go of the lock when the process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL = 1.0  # seconds

_held: list[IO[str]] = []  # open as long as the process lives


def take_device() -> None:
    """Makes one free GPU the only one that this process sees; waits, with a notice, while all are taken.

    Does nothing where `CUDA_VISIBLE_DEVICES` is set, by a scheduler or an earlier call, or where there is no GPU. Call
    it before torch uses CUDA for the first time: later the variable has no effect.
    """
    if VISIBLE in os.environ or not (count := device_count()):
        return
    folder = Path(tempfile.gettempdir()) / f"bico-devices-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    locks = [(folder / f"{device}.lock").open("a") for device in range(count)]
    waits = False
    while (device := _lock_one(locks)) is None:
        if not waits:
            print(f"all GPUs are taken ({count}, locks in {folder}): waiting for one", file=sys.stderr, flush=True)
        waits = True
        time.sleep(POLL)
    _held.append(locks[device])
    os.environ[VISIBLE] = str(device)


def device_count() -> int:
    """GPUs of this node. torch asks the driver's management library for it, which does not initialise CUDA."""
    import torch

    return torch.cuda.device_count()


def _lock_one(locks: list[IO[str]]) -> int | None:
    """The first device whose lock is free, and now ours."""
    for device, lock in enumerate(locks):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return device
    return None
