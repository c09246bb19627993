"""The adapters of a source, parallel to layers of every block.

As in the original, an adapter reads the residual stream before the layer's normalisation and modulation, and adds to it
directly. A hook in diffusers' block would only see the normalised input and the output before its gate. Therefore the
forward pass of the block is written here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import TYPE_CHECKING

from torch import Tensor, nn

from bico.models.adapter import Adapter, attached
from bico.models.wan.attention import CrossAttentionInput, SelfAttentionInput
from bico.models.wan.components import blocks_of

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel
    from diffusers.models.transformers.transformer_wan import WanTransformerBlock

LAYERS = {"image": ("attn2",), "video": ("attn1", "ffn")}
"""Layers of a block with an adapter, by kind of source. The adapters of a video get the appearance."""


class Adapters(nn.Module):
    """The adapters of one source, in every block. Those of a video get the appearance c."""

    def __init__(self, kind: str, width: int, num_blocks: int, appearance_width: int) -> None:
        super().__init__()
        condition_width = appearance_width if kind == "video" else 0
        self.blocks = nn.ModuleList(
            nn.ModuleDict({layer: Adapter(width, width // 2, condition_width) for layer in LAYERS[kind]})
            for _ in range(num_blocks)
        )

    def places(self, transformer: WanTransformer3DModel) -> Iterator[tuple[nn.Module, nn.Module]]:
        """Pairs of a layer of the transformer and its adapter."""
        for block, adapters in zip(transformer.blocks, self.blocks, strict=True):
            for layer, adapter in adapters.named_children():
                yield block.get_submodule(layer), adapter


@contextmanager
def adapted(transformer: WanTransformer3DModel, everyone: Iterable[Adapters]) -> Iterator[None]:
    """Within the context, the blocks run with the adapters of all these sources, which add up."""
    with attached(pair for adapters in everyone for pair in adapters.places(transformer)):
        for block in blocks_of(transformer):
            block.forward = MethodType(adapted_pass, block)
        try:
            yield
        finally:
            for block in blocks_of(transformer):
                del block.forward


def adapted_pass(
    block: WanTransformerBlock,
    states: Tensor,
    context: CrossAttentionInput,
    modulation: Tensor,
    rotary_emb: SelfAttentionInput,
) -> Tensor:
    """A block's output [batch, tokens, width] with adapters. Without any it equals that of diffusers' block.

    Args:
        states: the residual stream, [batch, tokens, width].
        modulation: of the time embedding, [batch, 6, width]: shift, scale and gate of self-attention and feed-forward.
    """
    parts = (block.scale_shift_table + modulation.float()).chunk(6, dim=1)
    (shift, scale, gate), (ffn_shift, ffn_scale, ffn_gate) = parts[:3], parts[3:]
    normed = (block.norm1(states.float()) * (1 + scale) + shift).type_as(states)
    attended = states.float() + block.attn1(normed, None, None, rotary_emb) * gate
    states = _with_adapters(block.attn1, states, attended)
    normed = block.norm2(states.float()).type_as(states)
    states = _with_adapters(block.attn2, states, states + block.attn2(normed, context, None, None))
    normed = (block.norm3(states.float()) * (1 + ffn_scale) + ffn_shift).type_as(states)
    return _with_adapters(block.ffn, states, states.float() + block.ffn(normed).float() * ffn_gate)


def _with_adapters(layer: nn.Module, before: Tensor, after: Tensor) -> Tensor:
    """The residual stream after a layer, in the dtype of the stream before it, plus the output of each adapter."""
    after = after.type_as(before)
    for adapter in getattr(layer, "adapters", ()):
        after = after + adapter(before)
    return after
