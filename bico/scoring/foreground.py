"""Where the thing that a phrase names stands in frames, and the frames cut out around it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from bico.config.schema import Config
from bico.models.wan.attention_maps import word_maps
from bico.models.wan.backbone import Backbone
from bico.models.wan.components import chosen_dtype, short_of_memory
from bico.models.wan.forward_pass import Contexts
from bico.prompts.words import bound_slots

SIGMA = 0.3
"""Noise level at which attention is measured. On exact renderings of the Toybox, 0.3 finds the subject a little better
than 0.5, 0.7 and their mean."""
SEED = 0


def open_attention(config: Config, device: str) -> Attention:
    """The attention of a config's backbone."""
    dtype = chosen_dtype(config.dtype, device)
    return Attention(Backbone.open(config.models.wan, text_slots=config.text_slots, device=device, dtype=dtype))


class Attention:
    """The cross-attention of a frozen backbone, which finds things by their words."""

    def __init__(self, backbone: Backbone):
        self.backbone = backbone
        self.context = cache(self._context)  # the clips of a case have the same prompt

    def foreground(self, frames: np.ndarray, prompt: str, words: Mapping[str, str]) -> dict[str, np.ndarray]:
        """Key -> bool [T, H, W]: the pixels of uint8 frames [T, H, W, 3] that attend to a phrase.

        The patch tokens of the frames, encoded and at noise level `SIGMA`, attend to the words of the prompt. A phrase
        has the pixels whose attention to its words lies above Otsu's threshold (1979), over all frames.

        Args:
            frames: T as the VAE takes it, 4k + 1.
            prompt: a prompt with the phrases. The more of what is shown it names, the better it tells things apart.
            words: phrases of the prompt by any key. A repeated phrase has its first place, then its second.
        """
        bind = {key: [phrase] for key, phrase in words.items()}
        slots = bound_slots(self.backbone.tokenizer, prompt, bind, self.backbone.text_slots)
        latents = self.backbone.encode_clip(frames)
        maps = word_maps(self.backbone, latents, self.context(prompt), slots, sigmas=[SIGMA], seed=SEED)
        return {key: _above(_at_size(of_phrase, frames)) for key, of_phrase in maps.items()}

    @torch.no_grad()
    def _context(self, prompt: str) -> Contexts:
        prompt_embeds, _ = self.backbone.encode_prompts([prompt])
        if short_of_memory(self.backbone.device):
            self.backbone.offload_text_encoder()  # until the next prompt
        return self.backbone.context(prompt_embeds)


def moving(frames: np.ndarray) -> np.ndarray:
    """bool [T, H, W]: the pixels of uint8 frames [T, H, W, 3] that differ from the median frame, by more than Otsu's
    threshold; all pixels where nothing moves, as in an image."""
    apart = np.abs(frames - np.median(frames, axis=0)).max(axis=-1)
    return _above(apart) if apart.any() else np.ones(frames.shape[:3], bool)


def cut_out(frames: np.ndarray, foreground: np.ndarray) -> list[np.ndarray]:
    """Each of the uint8 frames [T, H, W, 3], cropped to the smallest square around its foreground, bool [T, H, W], that
    stays within the frame. A frame without foreground stays whole."""
    return [frame[_square(shape)] if shape.any() else frame for frame, shape in zip(frames, foreground, strict=True)]


def _square(shape: np.ndarray) -> tuple[slice, slice]:
    """The square around the True pixels of [H, W], as rows and columns; narrower where the frame is."""
    places = [np.flatnonzero(shape.any(axis=axis)) for axis in (1, 0)]
    side = max(place[-1] - place[0] + 1 for place in places)
    return tuple(_span(place, side, size) for place, size in zip(places, shape.shape, strict=True))  # pyright: ignore[reportReturnType]


def _span(place: np.ndarray, side: int, size: int) -> slice:
    start = (place[0] + place[-1] + 1 - side) // 2
    start = max(0, min(start, size - side))
    return slice(start, start + side)


def _at_size(of_phrase: torch.Tensor, frames: np.ndarray) -> np.ndarray:
    """A map [t, h, w] of patch tokens, at the size of the frames."""
    return F.interpolate(of_phrase[None, None].float(), size=frames.shape[:3], mode="trilinear")[0, 0].numpy()


def _above(values: np.ndarray) -> np.ndarray:
    """bool: the values above Otsu's threshold, which is found among 256 levels."""
    low, high = values.min(), values.max()
    levels = np.rint(255 * (values - low) / max(high - low, 1e-12)).astype(np.uint8)
    threshold, _ = cv2.threshold(levels.reshape(1, -1), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return levels > threshold
