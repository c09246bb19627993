"""The flow-matching loss."""

from types import SimpleNamespace

import pytest
import torch

from bico.training.loss import flow_matching_loss


def test_the_loss_is_the_error_of_the_velocity_between_clip_and_noise() -> None:
    """A transformer that knows the clip tells the velocity from the noisy one alone: (x_sigma - x_0) / sigma."""
    latents, sigmas, seen = torch.randn(2, 4, 3, 2, 2), torch.tensor([0.25, 0.75]), []

    def loss(off: list[float], weights: torch.Tensor | None = None) -> float:
        def velocity(noisy: torch.Tensor, timesteps: torch.Tensor, contexts: None, *, training: bool) -> torch.Tensor:
            seen.append(timesteps.tolist())
            return (noisy - latents) / sigmas.view(-1, 1, 1, 1, 1) + torch.tensor(off).view(-1, 1, 1, 1, 1)

        known = SimpleNamespace(device=torch.device("cpu"), velocity=velocity)
        draw = torch.Generator().manual_seed(0)
        return flow_matching_loss(known, latents, None, sigmas, draw, weights, training=True).item()

    assert loss([0.0, 0.0]) == pytest.approx(0, abs=1e-9) and seen == [[250, 750]]
    assert loss([1.0, 2.0]) == pytest.approx((1 + 4) / 2)
    assert loss([1.0, 2.0], torch.tensor([2.0, 0.0])) == pytest.approx(2 * 1 / 2)


def test_what_a_mask_leaves_out_changes_neither_the_loss_nor_the_gradient() -> None:
    """Of a transformer that predicts each place from that place alone; the rest has the weight of all."""
    mask = torch.tensor([[0.0, 2.0], [1.0, 1.0]]).view(1, 1, 1, 2, 2)  # of mean 1
    latents, sigmas = torch.randn(1, 4, 1, 2, 2, generator=torch.Generator().manual_seed(1)), torch.tensor([0.5])

    def loss(latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scale = torch.ones(1, 4, 1, 2, 2, requires_grad=True)
        known = SimpleNamespace(device=torch.device("cpu"), velocity=lambda noisy, *_, training: scale * noisy)
        found = flow_matching_loss(
            known, latents, None, sigmas, torch.Generator().manual_seed(0), mask=mask, training=True
        )
        return found.detach(), torch.autograd.grad(found, scale)[0]

    whole, gradient = loss(latents)
    other = latents.clone()
    other[..., 0, 0] = 100.0
    assert torch.equal(loss(other)[0], whole) and torch.equal(loss(other)[1], gradient)
    assert not gradient[..., 0, 0].any() and gradient[..., 0, 1].all()
    other[..., 0, 1] = 100.0
    assert loss(other)[0] > whole


def test_an_error_that_is_the_same_everywhere_has_the_same_loss_under_a_mask() -> None:
    latents, mask = torch.zeros(1, 4, 1, 2, 2), torch.tensor([[0.0, 4.0], [0.0, 0.0]]).view(1, 1, 1, 2, 2)
    off = SimpleNamespace(device=torch.device("cpu"), velocity=lambda noisy, *_, training: noisy / 0.5 + 2)
    sigmas, draw = torch.tensor([0.5]), torch.Generator().manual_seed(0)
    assert flow_matching_loss(off, latents, None, sigmas, draw, mask=mask, training=True).item() == pytest.approx(4)
