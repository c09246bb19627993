"""The forward pass of the vision tower in training, for frames that all have the Toybox's size."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, cast

import torch
from torch.nn import functional as F
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from bico.toybox.world import NUM_FRAMES, SIZE

if TYPE_CHECKING:
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
        Qwen2_5_VisionTransformerPretrainedModel,
        Qwen2_5_VLVisionAttention,
        Qwen2_5_VLVisionBlock,
    )

PATCH = 6  # pixels of a patch along a frame; small, because subjects that grow start out nine pixels wide
MERGE = 2  # patches along a frame that are merged into a token
GRID = SIZE // PATCH  # patches along a frame
SIDE, CLIP_PAIRS = GRID // MERGE, -(-NUM_FRAMES // 2)  # tokens along a frame, pairs of frames in a clip


def patches(frames: torch.Tensor) -> torch.Tensor:
    """The patches that the processor makes of frames: uint8 [B, T, H, W, 3] to float32 [B * pairs, patches, values].

    Two frames make a pair. If their number is odd, the last one is repeated.
    """
    if frames.shape[1] % 2:
        frames = torch.cat([frames, frames[:, -1:]], dim=1)
    side = GRID // MERGE
    shape = (-1, 2, side, MERGE, PATCH, side, MERGE, PATCH, 3)
    mean, std = _scale(frames.device)
    return ((frames.float() - mean) / std).view(shape).permute(0, 2, 5, 3, 6, 8, 1, 4, 7).flatten(5).flatten(1, 4)


@cache
def _scale(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each colour channel in 0..255, as the processor has them."""
    mean, std = ((255 * torch.tensor(values)).to(device) for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return mean, std


def see(visual: Qwen2_5_VisionTransformerPretrainedModel, frames: torch.Tensor) -> torch.Tensor:
    """Output of the vision tower for frames: uint8 [B, T, H, W, 3] to [B, tokens, width].

    It computes what the tower's own forward pass computes, but in one batch, because all pictures have the same size.
    """
    seen = F.linear(patches(frames), visual.patch_embed.proj.weight.flatten(1))
    config = visual.config
    theta = cast("dict[str, float]", config.rope_parameters)["rope_theta"]
    turns = _turns(config.hidden_size // config.num_heads, theta, seen.device)
    for block in cast("Iterable[Qwen2_5_VLVisionBlock]", visual.blocks):
        seen = seen + _attend(block.attn, block.norm1(seen), turns)
        seen = seen + block.mlp(block.norm2(seen))
    return visual.merger(seen).view(len(frames), -1, config.out_hidden_size)


@cache
def _turns(width: int, theta: float, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines [patches, 1, width] of the rotary position embedding of each patch."""
    axis = torch.arange(GRID).view(-1, MERGE)
    places = torch.stack(torch.meshgrid(axis.flatten(), axis.flatten(), indexing="ij"), dim=-1)
    blocks = places.unflatten(1, (-1, MERGE)).unflatten(0, (-1, MERGE)).transpose(1, 2).reshape(-1, 2)
    waves = theta ** -(torch.arange(width // 4) / (width // 4))
    angles = (blocks[..., None] * waves).flatten(1).repeat(1, 2)[:, None].to(device)
    return angles.cos(), angles.sin()


def _attend(
    attn: Qwen2_5_VLVisionAttention, seen: torch.Tensor, turns: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """Attention inside each picture, [pictures, patches, width] to the same shape."""
    query, key, value = attn.qkv(seen).unflatten(2, (3, attn.num_heads, -1)).unbind(2)
    query, key = (_turned(x, *turns).to(value.dtype).transpose(1, 2) for x in (query, key))
    weights = (query @ key.transpose(2, 3) * attn.scaling).softmax(-1)
    return attn.proj((weights.to(value.dtype) @ value.transpose(1, 2)).transpose(1, 2).flatten(2))


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Queries or keys [pictures, patches, heads, width], rotated by their position."""
    one, other = x.float().chunk(2, dim=-1)
    return torch.cat([one, other], -1) * cos + torch.cat([-other, one], -1) * sin
