"""Useful work of Wan's transformer: what its shapes need, with two FLOPs per multiplication of its matrix products.

At 480x832 Wan2.1-T2V-1.3B takes 4.65 TFLOP forward for one frame, 129 for 49 and 283 for 81.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def forward_flops(transformer: Mapping[str, Any], cells: int, slots: int) -> float:
    """FLOPs of one forward pass.

    Args:
        transformer: settings of `WanTransformer3DModel`.
        cells: number of cells of the latents, t * h * w.
        slots: number of text slots of the prompt.
    """
    return sum(_work(transformer, cells, slots))


def training_flops(transformer: Mapping[str, Any], cells: int, slots: int) -> float:
    """FLOPs of one training step with a frozen transformer, without recomputed activations; see `forward_flops`.

    It counts the forward pass, and the gradient of every layer's input, but not of its weights. The gradient needs as
    much as the forward pass for linear layers, and 2.5 times as much for attention, whose fused backward pass has five
    matrix products where the forward pass has two. Binders are left out: they need less than 1 % from 49 frames on.
    """
    linear, attention = _work(transformer, cells, slots)
    return 2 * linear + 3.5 * attention


def _work(transformer: Mapping[str, Any], cells: int, slots: int) -> tuple[float, float]:
    """FLOPs of a forward pass in linear layers, and in attention."""
    width, hidden = transformer["num_attention_heads"] * transformer["attention_head_dim"], transformer["ffn_dim"]
    patch = math.prod(transformer["patch_size"])
    tokens = cells // patch
    projections = 2 * tokens * (6 * width**2 + 2 * width * hidden)  # self q k v o, cross q o; feed-forward
    text = 2 * slots * 2 * width**2  # cross k v
    attention = 4 * tokens * (tokens + slots) * width
    ends = 4 * tokens * patch * transformer["in_channels"] * width
    ends += 2 * slots * (transformer["text_dim"] * width + width**2)
    blocks = transformer["num_layers"]
    return blocks * (projections + text) + ends, blocks * attention
