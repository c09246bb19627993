"""Noise levels of training steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bico.models.wan.forward_pass import TRAIN_TIMESTEPS
from bico.models.wan.schedule import shifted


@dataclass(frozen=True)
class NoiseLevels:
    """How a stage draws sigma: from two parts of the schedule, uniformly over the steps within each.

    P(position > split) = upper. With upper = 1 - split this is uniform over the whole schedule.
    """

    shift: float
    split: float = 0.0
    upper: float = 1.0

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` sigmas in (0, 1]."""
        part, within = torch.rand(2, count, generator=generator, dtype=torch.float64)
        position = torch.where(part < self.upper, self.split + (1 - self.split) * within, self.split * within)
        steps = (position * TRAIN_TIMESTEPS).floor() + 1
        return shifted(steps / TRAIN_TIMESTEPS, self.shift).float()


def gaussian_weight(sigmas: Tensor, shift: float) -> Tensor:
    """Timestep weighting "diffsynth": a Gaussian around sigma = 0.5, shifted to zero at both ends, with mean 1 over the
    schedule. The noisiest steps have almost no weight."""

    def bell(sigmas: Tensor) -> Tensor:
        return torch.exp(-2 * (sigmas - 0.5) ** 2) - math.exp(-0.5)

    schedule = shifted(torch.arange(1, TRAIN_TIMESTEPS + 1) / TRAIN_TIMESTEPS, shift)
    return bell(sigmas) / bell(schedule).mean()
