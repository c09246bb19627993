"""The adapters of a source, beside layers of every block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import nn

from bico.models.adapter import Adapter

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

LAYERS = {"image": ("attn2",), "video": ("attn1", "ffn")}
"""Layers of a block beside which the adapters of a source stand. Those of a video see the appearance."""


class Adapters(nn.Module):
    """The adapters of one source, in every block. Those of a video are told the appearance, c."""

    def __init__(self, kind: str, width: int, num_blocks: int, appearance_width: int) -> None:
        super().__init__()
        condition_width = appearance_width if kind == "video" else 0
        self.blocks = nn.ModuleList(
            nn.ModuleDict({layer: Adapter(width, width // 2, condition_width) for layer in LAYERS[kind]})
            for _ in range(num_blocks)
        )

    def places(self, transformer: WanTransformer3DModel) -> Iterator[tuple[nn.Module, nn.Module]]:
        """Each layer of the transformer and the adapter beside it."""
        for block, adapters in zip(transformer.blocks, self.blocks, strict=True):
            for layer, adapter in adapters.named_children():
                yield block.get_submodule(layer), adapter
