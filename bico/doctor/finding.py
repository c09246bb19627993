"""The result of a test."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        part: the tested part of the benchmark.
        measured: the measured values, as text.
        expected: the range of values with which the part works.
        fine: whether the values are in this range.
        look: what to check if they are not.
    """

    part: str
    measured: str
    expected: str
    fine: bool
    look: str

    def __str__(self) -> str:
        line = f"{'fine' if self.fine else 'LOOK'}  {self.part}: {self.measured} (expected {self.expected})"
        return line if self.fine else f"{line}; look at {self.look}"


@dataclass(frozen=True)
class Matching:
    """How well things are matched with their own counterparts by similarity, for instance clips with prompts.

    Attributes:
        found: share of things whose own counterpart is the most similar one.
        gap: mean similarity to their own counterpart minus that to the others.
        chance: share that would be found by chance.
    """

    found: float
    gap: float
    chance: float

    @classmethod
    def of(cls, own: Tensor, others: Tensor) -> Matching:
        """From similarities to their own counterparts [things], and to others [things, others]."""
        found = (own > others.amax(1)).float().mean()
        return cls(found.item(), (own - others.mean(1)).mean().item(), 1 / (1 + others.shape[1]))

    @property
    def needed(self) -> float:
        """Share that is needed to exceed chance: half-way between chance and 1."""
        return (1 + self.chance) / 2


def own_and_others(table: Tensor) -> tuple[Tensor, Tensor]:
    """The diagonal [things] of a table [things, things], and the rest of each row [things, things - 1]."""
    rest = table[~torch.eye(len(table), dtype=torch.bool, device=table.device)]
    return table.diagonal(), rest.view(len(table), -1)
