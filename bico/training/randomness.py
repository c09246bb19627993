"""Where the randomness of a training comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """What is drawn at random inside, such as fresh weights, depends on `seed` alone; outside nothing is drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def step_generator(seed: int, step: int) -> torch.Generator:
    """The source of all randomness of one step."""
    mixed = hashlib.sha256(f"{seed}/{step}".encode()).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(mixed) >> 1)
