"""Where models run: on the CPU, or on a GPU that this process has for itself.

Snakemake starts the jobs of a node side by side and tells none of them which GPU is its own. So each takes a file lock,
one file for each GPU in a folder of this node. The kernel lets go of the lock when the process ends, however it ends.

Locks are of one scheduler's job: a scheduler gives its jobs different GPUs, but may call each job's own GPU "0".
"""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from bico.core.errors import InputError

log = logging.getLogger("bico")

VISIBLE = "CUDA_VISIBLE_DEVICES"
JOB_IDS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
POLL = 1.0  # seconds

_held: list[IO[str]] = []  # open as long as the process lives


def free_device(device: str) -> str:
    """Where models run: "cpu" or "cuda", for "auto" the GPU if there is one. A GPU is then this process's alone."""
    import torch

    if device != "cpu":
        take_device()
    found = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and found == "cpu":
        raise InputError("device: 'cuda', but torch sees no GPU: expected one, or device 'auto' or 'cpu'")
    return found if device == "auto" else device


def take_device() -> None:
    """Makes one free GPU the only one that this process sees; waits, with a notice, while all are taken.

    GPUs that `CUDA_VISIBLE_DEVICES` leaves out do not count. Does nothing where there are none, nor a second time. Call
    it before torch uses CUDA for the first time: later the variable has no effect.
    """
    if _held or not (devices := _devices()):
        return
    folder = Path(tempfile.gettempdir()) / f"bico-devices-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    job = next((f"{os.environ[name]}-" for name in JOB_IDS if name in os.environ), "")
    locks = {device: (folder / f"{job}{device}.lock".replace("/", "_")).open("a") for device in devices}
    waits = False
    while (device := _lock_one(locks)) is None:
        if not waits:
            log.warning("all GPUs are taken (%d, locks in %s): waiting for one", len(locks), folder)
        waits = True
        time.sleep(POLL)
    _held.append(locks[device])
    os.environ[VISIBLE] = device


def _devices() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` calls them."""
    count, visible = device_count(), os.environ.get(VISIBLE)
    return [str(device) for device in range(count)] if visible is None else visible.split(",")[:count]


def device_count() -> int:
    """GPUs that are visible. torch asks the driver's management library for it, which does not initialise CUDA."""
    import torch

    return torch.cuda.device_count()


def _lock_one(locks: Mapping[str, IO[str]]) -> str | None:
    """The first device whose lock is free, and now ours."""
    for device, lock in locks.items():
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return device
    return None
