"""Sizes of the Wan pipelines that are measured: the published one, and a small one for a CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bico.config.settings import Media

CAPTION_TOKENS = 60
"""Assumed number of tokens of a source's longest caption where there are no captions yet: before a run, and in
measurements."""


@dataclass(frozen=True)
class Sizes:
    """The settings of the components of a Wan pipeline, and the size of its clips."""

    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]
    text_encoder: Mapping[str, Any]
    text_slots: int
    height: int
    width: int
    frames: tuple[int, ...]
    sampling_steps: int
    compiles: bool

    def media(self, frames: int) -> Media:
        return Media(height=self.height, width=self.width, num_frames=frames, fps=15)

    def latent_shape(self, frames: int) -> tuple[int, int, int, int]:
        """(channels, t, h, w): Wan2.1's VAE packs 4 frames and 8x8 pixels."""
        return self.transformer["in_channels"], (frames - 1) // 4 + 1, self.height // 8, self.width // 8

    def flops(self, count: Callable[[Mapping[str, Any], int, int], float], frames: int) -> float:
        """FLOPs by `count` (`forward_flops` or `training_flops`) for a clip with this number of frames."""
        return count(self.transformer, math.prod(self.latent_shape(frames)[1:]), self.text_slots)


PRESETS = {
    "full": Sizes(  # the published config.json of Wan2.1-T2V-1.3B and its parts
        transformer={
            "num_attention_heads": 12,
            "attention_head_dim": 128,
            "ffn_dim": 8960,
            "num_layers": 30,
            "text_dim": 4096,
            "in_channels": 16,
            "out_channels": 16,
            "patch_size": (1, 2, 2),
        },
        vae={"base_dim": 96, "z_dim": 16},
        text_encoder={
            "vocab_size": 256384,
            "d_model": 4096,
            "d_kv": 64,
            "d_ff": 10240,
            "num_layers": 24,
            "num_heads": 64,
        },
        text_slots=512,
        height=480,
        width=832,
        frames=(1, 49, 81),
        sampling_steps=50,
        compiles=True,
    ),
    "small": Sizes(
        transformer={
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "ffn_dim": 48,
            "num_layers": 3,
            "text_dim": 32,
            "in_channels": 16,
            "out_channels": 16,
            "patch_size": (1, 2, 2),
        },
        vae={"base_dim": 4, "z_dim": 16},
        text_encoder={"vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4},
        text_slots=64,
        height=32,
        width=48,
        frames=(1, 5, 9),
        sampling_steps=2,
        compiles=False,
    ),
}
