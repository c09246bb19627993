"""Noise levels, and the weights of losses at each."""

import pytest
import torch

from bico.models.wan.schedule import position_of, shifted
from bico.training.noise import NoiseLevels, gaussian_weight

SHIFT = 5.0


def test_positions_and_sigmas_are_inverse() -> None:
    assert position_of(shifted(torch.tensor(0.3), SHIFT).item(), SHIFT) == pytest.approx(0.3)
    assert shifted(torch.tensor(0.875), SHIFT).item() == pytest.approx(0.9722, abs=1e-4)


def test_diffsynth_weighting_is_that_of_its_training_scheduler_and_has_a_mean_of_one() -> None:
    timesteps = 1000 * shifted(torch.arange(1000, 0, -1, dtype=torch.float64) / 1000, SHIFT)
    bell = torch.exp(-2 * ((timesteps - 500) / 1000) ** 2)
    expected = (bell - bell.min()) * 1000 / (bell - bell.min()).sum()
    torch.testing.assert_close(gaussian_weight(timesteps / 1000, SHIFT), expected, rtol=1e-5, atol=1e-6)
    everywhere = gaussian_weight(NoiseLevels(SHIFT).draw(20_000, torch.Generator().manual_seed(0)), SHIFT)
    assert everywhere.mean().item() == pytest.approx(1, abs=0.02)
