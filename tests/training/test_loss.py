"""The flow-matching loss."""

from types import SimpleNamespace

import pytest
import torch

from bico.training.loss import flow_matching_loss


def test_the_loss_is_the_error_of_the_velocity_between_clip_and_noise() -> None:
    """A transformer that knows the clip tells the velocity from the noisy one alone: (x_sigma - x_0) / sigma."""
    latents, sigmas, told = torch.randn(2, 4, 3, 2, 2), torch.tensor([0.25, 0.75]), []

    def loss(off: list[float], weights: torch.Tensor | None = None) -> float:
        def velocity(noisy: torch.Tensor, timesteps: torch.Tensor, contexts: None, *, training: bool) -> torch.Tensor:
            told.append(timesteps.tolist())
            return (noisy - latents) / sigmas.view(-1, 1, 1, 1, 1) + torch.tensor(off).view(-1, 1, 1, 1, 1)

        known = SimpleNamespace(device=torch.device("cpu"), velocity=velocity)
        draw = torch.Generator().manual_seed(0)
        return flow_matching_loss(known, latents, None, sigmas, draw, weights, training=True).item()

    assert loss([0.0, 0.0]) == pytest.approx(0, abs=1e-9) and told == [[250, 750]]
    assert loss([1.0, 2.0]) == pytest.approx((1 + 4) / 2)
    assert loss([1.0, 2.0], torch.tensor([2.0, 0.0])) == pytest.approx(2 * 1 / 2)
