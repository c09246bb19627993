"""Where the randomness of a training comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """What is drawn at random inside, such as fresh weights, depends on `seed` alone; outside nothing is drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def step_generator(seed: int, step: int) -> torch.Generator:
    """The source of all randomness of one step."""
    return _generator(f"{seed}/{step}")


def shuffled_epochs(count: int, draws: int, seed: int, name: str) -> Tensor:
    """Which of `count` items come next, int64 [draws]: all of them in random order before any comes again.

    Args:
        name: of what goes through the items; another one has another order.
    """
    generator = _generator(f"{seed}/epochs of {name}")
    epochs = [torch.randperm(count, generator=generator) for _ in range(1 + draws // count)]
    return torch.cat(epochs)[:draws]


def _generator(key: str) -> torch.Generator:
    mixed = hashlib.sha256(key.encode()).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(mixed) >> 1)
