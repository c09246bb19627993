"""Several processes that share each batch of a training, under torchrun."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def join_workers() -> tuple[int, int]:
    """(rank, number of processes) under torchrun, else (0, 1).

    On a CPU two processes of one thread each are faster than two threads: threads stall when another program takes a
    core.
    """
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
        atexit.register(_leave_workers)
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def _leave_workers() -> None:
    """All processes wait for the last one: a process that exits early breaks the connections of the others."""
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@contextmanager
def first_worker_first(rank: int, workers: int) -> Iterator[None]:
    """Runs the body in the first process, then in all others, which find the files that the first one has written."""
    if rank > 0:
        torch.distributed.barrier()
    yield
    if rank == 0 and workers > 1:
        torch.distributed.barrier()


def average_gradients(module: torch.nn.Module, workers: int) -> None:
    """Replaces the gradients of every process by their mean over all processes."""
    if workers == 1:
        return
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    whole = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(whole)
    for gradient, mean in zip(gradients, (whole / workers).split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
