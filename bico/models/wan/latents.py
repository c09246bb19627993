"""Converts frames to the VAE's normalised latents and back."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bico.config.settings import Media
from bico.core.errors import InputError
from bico.models.wan.components import Components


class LatentSpace(Components):
    """The VAE side of the backbone. Each clip passes through the VAE separately."""

    @torch.no_grad()
    def encode_clip(self, frames: np.ndarray) -> Tensor:
        """Frames uint8 [T, H, W, 3] to normalised latents [channels, t, h, w] (the mode); in Wan2.1 T = 4t - 3."""
        pixels = torch.tensor(frames).to(self.device).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        latents = self.vae.encode(pixels, return_dict=False)[0].mode()
        mean, inverse_std = self._latent_statistics
        return ((latents - mean) * inverse_std)[0]

    @torch.no_grad()
    def decode_clip(self, latents: Tensor) -> np.ndarray:
        """Normalised latents [clips, channels, t, h, w] to uint8 [clips, T, H, W, 3].

        Raises InputError if the latents, or the output of the decoder, are not finite.
        """
        mean, inverse_std = self._latent_statistics
        latents = latents.to(self.device, torch.float32) / inverse_std + mean
        pixels = torch.cat([self.vae.decode(each, return_dict=False)[0] for each in latents.split(1)])
        if not pixels.isfinite().all():
            raise InputError(
                "a clip has numbers that are not finite: expected finite weights, in a dtype with enough range"
            )
        pixels = (pixels * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 4, 1)
        return (pixels * 255).round().to(torch.uint8).cpu().numpy()

    @cached_property
    def _latent_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and inverse standard deviation of each latent channel, rounded in the same way as in WanPipeline."""
        shape = (1, -1, 1, 1, 1)
        mean = torch.tensor(self.vae.config["latents_mean"], device=self.device).view(shape)
        std = torch.tensor(self.vae.config["latents_std"], device=self.device).view(shape)
        return mean, 1.0 / std

    def latent_shape(self, media: Media) -> tuple[int, int, int, int]:
        """(channels, t, h, w) of a clip of this size."""
        spatial, temporal = self.vae.config["scale_factor_spatial"], self.vae.config["scale_factor_temporal"]
        frames = (media.num_frames - 1) // temporal + 1
        return self.transformer.config["in_channels"], frames, media.height // spatial, media.width // spatial
