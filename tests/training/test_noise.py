"""Noise levels, and the weights of losses at each."""

import pytest
import torch

from bico.models.wan.schedule import position_of, shifted
from bico.training.noise import NoiseLevels, gaussian_weight

SHIFT = 5.0


def test_positions_and_sigmas_are_inverse() -> None:
    assert position_of(shifted(torch.tensor(0.3), SHIFT).item(), SHIFT) == pytest.approx(0.3)
    assert shifted(torch.tensor(0.875), SHIFT).item() == pytest.approx(0.9722, abs=1e-4)


def test_diffsynth_weighting_cancels_the_noisiest_steps() -> None:
    weights = gaussian_weight(torch.tensor([0.0, 0.5, 0.9722, 1.0]), SHIFT)
    assert weights[0] == weights[3] == pytest.approx(0, abs=1e-6)
    assert weights[2] < 0.2 < 1 < weights[1]
    everywhere = gaussian_weight(NoiseLevels(SHIFT).draw(20_000, torch.Generator().manual_seed(0)), SHIFT)
    assert everywhere.mean().item() == pytest.approx(1, abs=0.02)
