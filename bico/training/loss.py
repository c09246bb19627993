"""The flow-matching loss (Lipman et al., ICLR 2023).

x_sigma = (1 - sigma) x_0 + sigma noise. The target of the transformer's velocity is noise - x_0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bico.core.transfer import to_device
from bico.models.wan.backbone import Backbone
from bico.models.wan.forward_pass import TRAIN_TIMESTEPS, Contexts


def flow_matching_loss(
    backbone: Backbone,
    latents: Tensor,
    contexts: Contexts,
    sigmas: Tensor,
    generator: torch.Generator,
    weights: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    training: bool,
) -> Tensor:
    """Mean squared error of the velocity, a scalar in float32; with a mask m it is mean(m error^2).

    Args:
        latents: clean, [batch, channels, t, h, w].
        contexts: projected prompts.
        sigmas: [batch].
        generator: draws the noise.
        weights: weight of each clip in the mean, [batch].
        mask: weight of each place in the mean, [batch, 1, 1, h, w], with mean 1 for each clip; None = 1 everywhere. The
            transformer sees the whole clip: masked places affect the prediction elsewhere, but their error has no
            weight.
        training: whether a gradient is needed.
    """
    noise = torch.randn(latents.shape, generator=generator)
    latents, noise, sigmas = (to_device(each, backbone.device) for each in (latents, noise, sigmas))
    level = sigmas.view(-1, 1, 1, 1, 1)
    noisy, timesteps = (1 - level) * latents + level * noise, sigmas * TRAIN_TIMESTEPS
    velocity = backbone.velocity(noisy, timesteps, contexts, training=training)
    errors = (velocity.float() - (noise - latents)).square()
    errors = errors if mask is None else errors * to_device(mask, backbone.device)
    errors = errors.flatten(1).mean(dim=1)
    return errors.mean() if weights is None else (errors * to_device(weights, backbone.device)).mean()
