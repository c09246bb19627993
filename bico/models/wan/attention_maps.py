"""Where words act: cross-attention maps of the frozen transformer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend

from bico.models.wan.backbone import TRAIN_TIMESTEPS, AttentionProcessor, Backbone, Contexts, KeyValue

MID_SIGMAS = (0.3, 0.5, 0.7)
"""Noise levels at which a clip's layout shows and its details do not."""


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
    """How much each place of a clip looks at each word: weights summed over its slots, mean over heads, blocks, sigmas.

    Args:
        latents: normalised, [channels, t, h, w].
        contexts: a projected prompt.
        slots: word -> its text slots.
        sigmas: noise levels to which the latents are brought.
        seed: of that noise.

    Returns:
        word -> [t, h', w'] in 0..1, a value for each token of the transformer.
    """
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
    latents = latents.cpu()
    with recorded(backbone) as weights:
        for sigma in sigmas:
            noisy = torch.lerp(latents, noise, sigma)[None].to(backbone.device)
            backbone.velocity(noisy, torch.tensor([sigma * TRAIN_TIMESTEPS], device=backbone.device), contexts)
    mean = torch.stack(weights).mean(dim=0)[0].cpu()  # [tokens, slots]
    patch = backbone.transformer.config.patch_size
    grid = [size // part for size, part in zip(latents.shape[1:], patch, strict=True)]
    return {word: mean[:, list(held)].sum(dim=-1).view(grid) for word, held in slots.items()}


@contextmanager
def recorded(backbone: Backbone) -> Iterator[list[Tensor]]:
    """Yields a list that gets the cross-attention weights of every block in every pass made inside: float32 [batch,
    tokens, slots], mean over heads.
    """
    weights: list[Tensor] = []
    layers = [block.attn2 for block in backbone.transformer.blocks]
    before = [layer.processor for layer in layers]
    for layer, processor in zip(layers, before, strict=True):
        layer.set_processor(_Recorder(processor.kernels, weights))
    try:
        yield weights
    finally:
        for layer, processor in zip(layers, before, strict=True):
            layer.set_processor(processor)


class _Recorder(AttentionProcessor):
    """Attention as ever, whose weights are written down on the side."""

    def __init__(self, kernels: Sequence[SDPBackend], weights: list[Tensor]) -> None:
        super().__init__(kernels)
        self.weights = weights

    def __call__(
        self, attn: nn.Module, hidden_states: Tensor, encoder_hidden_states: KeyValue, *others: object
    ) -> Tensor:
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        key = encoder_hidden_states[0].transpose(1, 2)
        scores = query.float() @ key.float().transpose(-1, -2) * query.shape[-1] ** -0.5
        self.weights.append(scores.softmax(dim=-1).mean(dim=1))
        return super().__call__(attn, hidden_states, encoder_hidden_states, *others)
