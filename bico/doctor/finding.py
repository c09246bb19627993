"""What an examination says of one part."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        part: of the benchmark.
        measured: figures, in words.
        expected: the range of them in which the part works.
        fine: whether they are in it.
        look: what to look at if not.
    """

    part: str
    measured: str
    expected: str
    fine: bool
    look: str

    def __str__(self) -> str:
        told = f"{'fine' if self.fine else 'LOOK'}  {self.part}: {self.measured} (expected {self.expected})"
        return told if self.fine else f"{told}; look at {self.look}"


@dataclass(frozen=True)
class Matching:
    """How well things find their own among others.

    Attributes:
        found: share of things whose own is the most similar.
        gap: similarity to their own minus that to the others, on average.
        chance: share that chance finds.
    """

    found: float
    gap: float
    chance: float

    @classmethod
    def of(cls, own: Tensor, others: Tensor) -> Matching:
        """Of similarities to their own [things], and to others [things, others]."""
        found = (own > others.amax(1)).float().mean()
        return cls(found.item(), (own - others.mean(1)).mean().item(), 1 / (1 + others.shape[1]))

    @property
    def needed(self) -> float:
        """Share that tells it from chance: half-way to all."""
        return (1 + self.chance) / 2


def own_and_others(table: Tensor) -> tuple[Tensor, Tensor]:
    """The diagonal [things] of a table [things, things], and the rest of each row [things, things - 1]."""
    rest = table[~torch.eye(len(table), dtype=torch.bool, device=table.device)]
    return table.diagonal(), rest.view(len(table), -1)
