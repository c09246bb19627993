"""The noise schedule of flow matching: the sigma at each position, and the sigmas at which clips are denoised."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

Number = TypeVar("Number", float, Tensor)


def shifted(position: Number, shift: float) -> Number:
    """Sigma at a position of the schedule: 0 is clean, 1 is noise (Esser et al., 2024, eq. 23)."""
    return shift * position / (1 + (shift - 1) * position)


def position_of(sigma: float, shift: float) -> float:
    """The inverse of `shifted`."""
    return sigma / (shift - (shift - 1) * sigma)


def denoising_sigmas(steps: int, shift: float) -> Tensor:
    """Sigmas of the denoising steps, [steps + 1], from 1 to 0.

    Their positions are equally spaced, as in the code of Wan and of BiCo's authors. The scheduler of diffusers shifts
    the smallest sigma twice, so that a clip is almost clean before its last step: with ten steps at shift 3 the last
    step starts from 0.0089, and here from 0.25.
    """
    return shifted(1 - torch.arange(steps + 1, dtype=torch.float64) / steps, shift).float()
