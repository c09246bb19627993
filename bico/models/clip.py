"""CLIP, which scores and some methods use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import open_clip
import torch
from PIL import Image

from bico.models.weights import check_activation, one_line

Transform = Callable[[Image.Image], torch.Tensor]
"""From an image to the input of a model."""


class Clip:
    """An open_clip model with its own preprocessing.

    Args:
        folder: in open_clip's format.

    Raises:
        InputError: it is incomplete, or has OpenAI's weights without their activation.
    """

    def __init__(self, folder: Path, *, device: str = "cpu"):
        with one_line(folder):
            check_activation(folder)
            created = open_clip.create_model_and_transforms(
                f"local-dir:{folder}", device=device, require_pretrained=True
            )
        self.model, _, self.preprocess = cast("tuple[open_clip.CLIP, Transform, Transform]", created)
        self.model.eval()
        self.device = device

    @torch.no_grad()
    def image_embeddings(self, frames: np.ndarray) -> torch.Tensor:
        """Embeddings [T, D] of uint8 frames [T, H, W, 3], as the image tower gives them, not normalised."""
        pixels = torch.stack([self.preprocess(Image.fromarray(frame)) for frame in frames]).to(self.device)
        return self.model.encode_image(pixels)
