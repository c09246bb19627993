"""Attention of the transformer's blocks: its kernels, and a diffusers attention processor.

Attention has to know whether a forward pass is for training. diffusers' block passes two of its inputs unchanged to its
attention, so these carry the flag: `SelfAttentionInput` and `CrossAttentionInput`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

if TYPE_CHECKING:
    from diffusers.models.transformers.transformer_wan import WanAttention

KeyValue = tuple[Tensor, Tensor]
"""Keys and values of the cross-attention of one block, [batch, slots, heads, head width] each."""


class SelfAttentionInput(NamedTuple):
    """The rotary embedding of all patch tokens, [1, tokens, 1, head width] each, and whether this is training."""

    cos: Tensor
    sin: Tensor
    training: bool


class CrossAttentionInput(NamedTuple):
    """Keys and values of the block's context, [batch, slots, heads, head width], and whether this is training."""

    key: Tensor
    value: Tensor
    training: bool


def attention_kernels(capability: tuple[int, int] | None, dtype: torch.dtype) -> list[SDPBackend]:
    """Kernels that attention may use on a GPU of this compute capability, fastest first; empty on a CPU.

    If flash attention is not among them (before Ampere, or in float32), one line on stderr says so.
    """
    if capability is None:
        return []
    fallbacks = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    if capability < (8, 0) or dtype == torch.float32:
        reason = f"{str(dtype).removeprefix('torch.')} on a GPU of compute capability {capability[0]}.{capability[1]}"
        print(f"no flash attention in {reason}: attention uses a slower kernel", file=sys.stderr)
        return fallbacks
    hopper = [SDPBackend.CUDNN_ATTENTION] if capability >= (9, 0) else []
    return [*hopper, SDPBackend.FLASH_ATTENTION, *fallbacks]


class AttentionProcessor:
    """diffusers' Wan attention, but cross-attention receives finished keys and values as its encoder states."""

    def __init__(self, kernels: Sequence[SDPBackend]) -> None:
        self.kernels = list(kernels)

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: CrossAttentionInput | None = None,
        attention_mask: None = None,
        rotary_emb: SelfAttentionInput | None = None,
    ) -> Tensor:
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        if encoder_hidden_states is not None:
            key, value, training = encoder_hidden_states
        else:
            assert rotary_emb is not None  # self-attention has it
            key, value = keys_values(attn, hidden_states, hidden_states)
            cos, sin, training = rotary_emb
            query, key = (rotated(states, cos, sin, in_place=not training) for states in (query, key))
        written_out = training and query.device.type == "cpu"
        with sdpa_kernel(self.kernels, set_priority=True) if self.kernels else nullcontext():
            attended = attention(query, key, value, written_out=written_out).flatten(2, 3).type_as(query)
        return attn.to_out[1](attn.to_out[0](attended))


def keys_values(attn: WanAttention, for_keys: Tensor, for_values: Tensor) -> KeyValue:
    """Keys and values [batch, tokens, heads, head width] of states [batch, tokens, width]."""
    heads = (attn.heads, -1)
    return attn.norm_k(attn.to_k(for_keys)).unflatten(2, heads), attn.to_v(for_values).unflatten(2, heads)


def rotated(states: Tensor, cos: Tensor, sin: Tensor, *, in_place: bool) -> Tensor:
    """Rotary position embedding on neighbouring pairs of channels. Both of a pair have the same `cos` and `sin`.

    Args:
        states: [batch, tokens, heads, head width]; they are not changed.
        cos, sin: [1, tokens, 1, head width].
        in_place: whether the result is computed with in-place operations: the same bits in a third of the time, but
            only for passes without a gradient.
    """
    if in_place:
        turned, crossed = states.float() * cos, states.float() * sin
        turned[..., 0::2] -= crossed[..., 1::2]
        turned[..., 1::2] += crossed[..., 0::2]
        return turned.type_as(states)
    even, odd = states.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[..., 0::2], sin[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).type_as(states)


def attention(query: Tensor, key: Tensor, value: Tensor, *, written_out: bool) -> Tensor:
    """Attention over [batch, tokens, heads, head width].

    With `written_out` it is computed by separate operations. Training on a CPU does this, because the backward pass of
    the fused kernel is slow there (a step at Toybox size takes 144 ms with it, 113 ms without).
    """
    query, key, value = (states.transpose(1, 2) for states in (query, key, value))
    if written_out:
        weights = (query * (1 / math.sqrt(query.shape[-1])) @ key.transpose(-1, -2)).softmax(dim=-1)
        return (weights @ value).transpose(1, 2)
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
