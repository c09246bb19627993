"""A loss of ours against leaks: it penalises what a bound word changes where the backbone does not attend to it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bico.core.transfer import to_device
from bico.models.wan.attention_maps import recorded
from bico.models.wan.backbone import Backbone
from bico.models.wan.forward_pass import TRAIN_TIMESTEPS
from bico.sources.encoding import Batch


def isolation_loss(
    backbone: Backbone,
    batch: Batch,
    context: Tensor,
    binder: Callable[[Tensor, Tensor], list[Tensor]],
    sigmas: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """How much one bound key word changes the velocity at places that do not attend to it (ours, not the paper's).

    Each clip binds one of its words, drawn at random. The weight of a place is higher the less the frozen backbone
    attends to that word there, relative to the place with the most attention. A mask of the source has no effect,
    because this loss does not learn what the source shows.

    Args:
        context: projected captions, [batch, slots, width].
        binder: from a context and a mask to one context for each block.
    """
    draws = torch.rand(len(sigmas), generator=generator)
    mask = torch.stack([_one_word(slots, draw) for slots, draw in zip(batch.key_slots, draws, strict=True)])
    noise = torch.randn(batch.latents.shape, generator=generator)
    latents, noise, sigmas = (to_device(each, backbone.device) for each in (batch.latents, noise, sigmas))
    noisy, timesteps = torch.lerp(latents, noise, sigmas.view(-1, 1, 1, 1, 1)), sigmas * TRAIN_TIMESTEPS
    with torch.no_grad(), recorded(backbone) as weights:
        before = backbone.velocity(noisy, timesteps, context)
    on_word = to_device(mask, backbone.device)[:, None]
    looks = (torch.stack(weights).mean(dim=0) * on_word).sum(dim=-1)  # [batch, places]
    weights.clear()  # 2 GB at full size
    elsewhere = backbone.at_places(1 - looks / looks.amax(dim=1, keepdim=True).clamp(min=1e-6), noisy.shape)
    after = backbone.velocity(noisy, timesteps, binder(context, mask), training=True)
    return ((after - before).float().square() * elsewhere).mean()


def _one_word(slots: Tensor, draw: Tensor) -> Tensor:
    """bool [slots]: the slots of one of the key words that have any. A word that is a part of another has none."""
    words = slots.unique()
    words = words[words > 0]
    return slots == words[(draw * len(words)).long()] if len(words) else slots > 0
