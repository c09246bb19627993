"""The device of models: the CPU, or a GPU that this process has reserved.

Snakemake starts several jobs of a node at once and assigns them no GPUs. So each job takes a file lock; there is one
file for each GPU in a folder of this node. The kernel releases the lock when the process ends, for any reason.

Different jobs of a scheduler use different locks, because a scheduler gives its jobs different GPUs, but may call each
of them "0".
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
    """The device of models: "cpu" or "cuda"; for "auto" the GPU if there is one. A GPU is reserved for this process."""
    import torch

    if device != "cpu":
        take_device()
    found = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and found == "cpu":
        raise InputError("device: 'cuda', but torch sees no GPU: expected one, or device 'auto' or 'cpu'")
    return found if device == "auto" else device


def take_device() -> None:
    """Makes one free GPU the only one that this process sees. While all are taken it waits, with a notice.

    GPUs that `CUDA_VISIBLE_DEVICES` leaves out are not used. A second call, or a call without GPUs, does nothing. Call
    it before torch first uses CUDA, because later the variable has no effect.
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
    """The GPUs that this process may use, named as in `CUDA_VISIBLE_DEVICES`."""
    count, visible = device_count(), os.environ.get(VISIBLE)
    return [str(device) for device in range(count)] if visible is None else visible.split(",")[:count]


def device_count() -> int:
    """Number of visible GPUs. torch asks the driver's management library, which does not initialise CUDA."""
    import torch

    return torch.cuda.device_count()


def _lock_one(locks: Mapping[str, IO[str]]) -> str | None:
    """Locks the first device whose lock is free, and returns it."""
    for device, lock in locks.items():
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return device
    return None
