"""CLIP-T: how well a clip shows what its prompt says, by CLIP's similarity of frames and text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image


def pool(features: torch.Tensor, pooling: str) -> torch.Tensor:
    """Unit frame features [T, D] to one feature [D]: their mean, as is ("mean") or at unit length ("renormalised")."""
    mean = features.mean(dim=0)
    return F.normalize(mean, dim=0) if pooling == "renormalised" else mean


class ClipT:
    """An open_clip model with its own preprocessing and tokenizer.

    Args:
        model: a folder in open_clip's format, or "architecture:tag" of pretrained weights, such as "ViT-B-32:openai".
        pooling: see `pool`.
    """

    def __init__(self, model: Path | str, *, pooling: str = "mean", device: str = "cpu"):
        name, tag = (f"local-dir:{model}", None) if Path(model).is_dir() else str(model).split(":")
        self.model, _, self.preprocess = open_clip.create_model_and_transforms(name, pretrained=tag, device=device)
        self.model.eval()
        self.tokenizer = open_clip.get_tokenizer(name)
        self.pooling, self.device = pooling, device

    @torch.no_grad()
    def features(self, frames: np.ndarray) -> torch.Tensor:
        """Unit features [T, D] of uint8 frames [T, H, W, 3]."""
        pixels = torch.stack([self.preprocess(Image.fromarray(frame)) for frame in frames]).to(self.device)
        return F.normalize(self.model.encode_image(pixels), dim=1)

    @torch.no_grad()
    def text_feature(self, text: str) -> torch.Tensor:
        """Unit feature [D] of a text."""
        return F.normalize(self.model.encode_text(self.tokenizer([text]).to(self.device)), dim=1)[0]

    def score(self, frames: np.ndarray, prompt: str) -> tuple[float, list[float]]:
        """CLIP-T x100 of a clip uint8 [T, H, W, 3], and each frame's own similarity x100."""
        features, text = self.features(frames), self.text_feature(prompt)
        return 100 * (pool(features, self.pooling) @ text).item(), (100 * features @ text).tolist()
