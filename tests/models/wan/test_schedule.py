"""The sigmas between which clips are denoised."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from bico.models.wan.schedule import denoising_sigmas


@pytest.mark.parametrize(
    ("steps", "shift", "last"), [(50, 5.0, [0.172, 0.093, 0]), (10, 3.0, [0.429, 0.25, 0]), (2, 3.0, [1, 0.75, 0])]
)
def test_sigmas_are_equally_spaced_positions_shifted_once(steps: int, shift: float, last: list[float]) -> None:
    sigmas = denoising_sigmas(steps, shift).tolist()
    positions = [1 - i / steps for i in range(steps + 1)]
    assert sigmas == pytest.approx([shift * p / (1 + (shift - 1) * p) for p in positions])
    assert sigmas[-3:] == pytest.approx(last, abs=5e-4)


def test_no_step_but_the_last_is_almost_clean_as_the_scheduler_of_diffusers_has_it() -> None:
    theirs = FlowMatchEulerDiscreteScheduler(shift=3.0)
    theirs.set_timesteps(10)
    assert theirs.sigmas[-2] < 0.01 < 0.2 < denoising_sigmas(10, 3.0)[-2]
    assert torch.allclose(denoising_sigmas(10, 3.0)[[0, -1]], torch.tensor([1.0, 0.0]))
