"""The random numbers of a training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random draws within the context, such as new weights, depend only on `seed`. They do not affect draws outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def step_generator(seed: int, step: int) -> torch.Generator:
    """The generator of all random numbers of one step."""
    return _generator(f"{seed}/{step}")


def shuffled_epochs(count: int, draws: int, seed: int, name: str) -> Tensor:
    """Numbers of `count` items in shuffled epochs, int64 [draws]: each item once in random order before any repeats.

    Args:
        name: another name gives another order.
    """
    generator = _generator(f"{seed}/epochs of {name}")
    epochs = [torch.randperm(count, generator=generator) for _ in range(1 + draws // count)]
    return torch.cat(epochs)[:draws]


def _generator(key: str) -> torch.Generator:
    mixed = hashlib.sha256(key.encode()).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(mixed) >> 1)
