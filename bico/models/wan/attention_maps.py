"""Cross-attention maps of the words of a prompt, in the frozen transformer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from bico.models.wan.attention import AttentionProcessor, CrossAttentionInput
from bico.models.wan.backbone import Backbone
from bico.models.wan.components import blocks_of, process_with
from bico.models.wan.forward_pass import TRAIN_TIMESTEPS, Contexts

if TYPE_CHECKING:
    from diffusers.models.transformers.transformer_wan import WanAttention

MID_SIGMAS = (0.3, 0.5, 0.7)
"""Noise levels at which a clip's layout is visible and its details are not."""


@torch.no_grad()
def word_maps(
    backbone: Backbone,
    latents: Tensor,
    contexts: Contexts,
    slots: Mapping[str, Sequence[int]],
    *,
    sigmas: Sequence[float] = MID_SIGMAS,
    seed: int = 0,
) -> dict[str, Tensor]:
    """How much each patch token of a clip attends to each word.

    Attention weights are summed over the slots of a word; the mean is over heads, blocks and noise levels.

    Args:
        latents: normalised, [channels, t, h, w].
        contexts: a projected prompt.
        slots: word -> its text slots.
        sigmas: noise levels of the noisy latents.
        seed: seed of the noise.

    Returns:
        word -> [t, h', w'] in 0..1, a value for each patch token.
    """
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
    latents = latents.cpu()
    with recorded(backbone) as weights:
        for sigma in sigmas:
            noisy = torch.lerp(latents, noise, sigma)[None].to(backbone.device)
            backbone.velocity(noisy, torch.tensor([sigma * TRAIN_TIMESTEPS], device=backbone.device), contexts)
    total = reduce(torch.add, weights)  # not stacked, which would take 2 GB more at full size
    mean = (total[0] / len(weights)).cpu()  # [tokens, slots]
    grid = backbone.patch_grid(latents.shape)
    return {word: mean[:, list(held)].sum(dim=-1).view(grid) for word, held in slots.items()}


@contextmanager
def recorded(backbone: Backbone) -> Iterator[list[Tensor]]:
    """Yields a list that gets the cross-attention weights of every block in every pass made inside: float32 [batch,
    tokens, slots], mean over heads.
    """
    weights: list[Tensor] = []
    layers = [block.attn2 for block in blocks_of(backbone.transformer)]
    before = [cast(AttentionProcessor, layer.processor) for layer in layers]
    for layer, processor in zip(layers, before, strict=True):
        process_with(_Recorder(processor, weights), layer)
    try:
        yield weights
    finally:
        for layer, processor in zip(layers, before, strict=True):
            process_with(processor, layer)


class _Recorder:
    """Unchanged cross-attention that also records its weights."""

    def __init__(self, processor: AttentionProcessor, weights: list[Tensor]) -> None:
        self.processor, self.weights = processor, weights

    def __call__(
        self, attn: WanAttention, hidden_states: Tensor, encoder_hidden_states: CrossAttentionInput, *others: None
    ) -> Tensor:
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        key = encoder_hidden_states.key.transpose(1, 2)
        scores = query.float() @ key.float().transpose(-1, -2) * query.shape[-1] ** -0.5
        self.weights.append(scores.softmax(dim=-1).mean(dim=1))
        return self.processor(attn, hidden_states, encoder_hidden_states)
