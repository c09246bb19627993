"""The DiT, and its forward pass in training."""

from __future__ import annotations

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttention

from bico.models.wan.components import blocks_of, process_with
from bico.models.wan.forward_pass import TRAIN_TIMESTEPS
from bico.zoo.wan import settings


def build_transformer(channels: int) -> WanTransformer3DModel:
    """An untrained DiT for latents of so many channels."""
    return WanTransformer3DModel(
        patch_size=settings.PATCHES,
        num_attention_heads=settings.HEADS,
        attention_head_dim=settings.WIDTH // settings.HEADS,
        in_channels=channels,
        out_channels=channels,
        text_dim=settings.TEXT_WIDTH,
        freq_dim=128,
        ffn_dim=settings.FFN,
        num_layers=settings.BLOCKS,
        rope_max_seq_len=64,
    )


class PlainAttention:
    """Explicit softmax attention, whose backward pass is much faster on a CPU than that of fused attention. On a GPU
    self-attention is fused.

    Cross-attention adds `bias` [B, 1, 1, S] to its scores, so that one padding slot can stand for many. It adds to
    `focus` [B] the loss on its attention maps, see `attention_loss`, for which `own` [B, places, S] holds the share of
    each place that each word describes.
    """

    bias: torch.Tensor
    own: torch.Tensor
    focus: torch.Tensor

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        key = attn.norm_k(attn.to_k(source)).unflatten(2, (attn.heads, -1))
        value = attn.to_v(source).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        if rotary_emb is not None:
            query, key = _rotate(query, *rotary_emb), _rotate(key, *rotary_emb)
        if encoder_hidden_states is None and query.device.type == "cuda":
            query, key = (x.transpose(1, 2).to(value.dtype) for x in (query, key))
            mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value)
            return attn.to_out[0](mixed.transpose(1, 2).flatten(2))
        scores = query.permute(0, 2, 1, 3) @ key.permute(0, 2, 3, 1) * query.shape[-1] ** -0.5
        if encoder_hidden_states is None:
            weights = scores.softmax(-1)
        else:
            weights = (scores + self.bias).softmax(-1)
            self.focus = self.focus + attention_loss(weights.mean(1), self.own)
        mixed = (weights.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        return attn.to_out[0](mixed)


def attention_loss(weights: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """-log of the attention [B, places, S] that a place gives to the words that describe it, mean over described
    places: [B].
    """
    described = own.amax(-1)
    missed = -torch.log((weights.float() * own).sum(-1) + 0.02)
    return (missed * described).sum(-1) / (described.sum(-1) + 1e-6)


def own_words(regions: torch.Tensor, about: torch.Tensor) -> torch.Tensor:
    """`own` of `PlainAttention`, [B, places, L], from shares of cells [B, REGIONS, t, h, w] and the regions that tokens
    describe, [B, REGIONS, L].
    """
    return (regions.flatten(2).transpose(1, 2) @ about).clamp(max=1)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[..., 0::2], sin[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


class Trainee(torch.nn.Module):
    """The DiT in training: noisy latents, noise levels and projected words in, velocity out."""

    def __init__(self, transformer: WanTransformer3DModel) -> None:
        super().__init__()
        self.transformer = transformer
        # Words come projected; diffusers' annotation knows its own projection only.
        transformer.condition_embedder.text_embedder = torch.nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
        self.words = PlainAttention()
        for block in blocks_of(transformer):
            process_with(PlainAttention(), block.attn1)
            process_with(self.words, block.attn2)

    def forward(
        self,
        noisy: torch.Tensor,
        sigmas: torch.Tensor,
        context: torch.Tensor,
        padding: torch.Tensor,
        mask: torch.Tensor,
        own: torch.Tensor,
        slots: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Velocity, like `noisy`, and the loss on each clip's cross-attention, [B], mean over blocks.

        Args:
            noisy: [B, C, t, h, w] latents.
            sigmas: [B] noise levels in 0..1.
            context: [B, L, WIDTH] projected words.
            padding: [1, WIDTH] the projected padding, which stands where `mask` is 0.
            mask: [B, L], 1 where a word is seen; at least one slot of each caption is 0.
            own: [B, t * h * w, L], see `PlainAttention`.
            slots: the number of text slots for which the L slots stand, as a scalar tensor.
        """
        seen = mask.sum(1, keepdim=True)
        weight = torch.log((slots - seen) / (mask.shape[1] - seen))
        self.words.bias, self.words.own = ((1 - mask) * weight)[:, None, None], own
        self.words.focus = torch.zeros_like(sigmas)
        context = torch.where(mask[..., None] > 0, context, padding)
        velocity = self.transformer(noisy, sigmas * TRAIN_TIMESTEPS, context, return_dict=False)[0]
        return velocity, self.words.focus / len(self.transformer.blocks)
