"""CLIP-T: how well a clip shows its prompt, as CLIP's similarity of frames and text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F

from bico.models.clip import Clip


def pool(features: torch.Tensor, pooling: str) -> torch.Tensor:
    """Pools unit frame features [T, D] to one feature [D]: their mean ("mean"), or scaled to length 1
    ("renormalised")."""
    mean = features.mean(dim=0)
    return F.normalize(mean, dim=0) if pooling == "renormalised" else mean


class ClipT(Clip):
    """CLIP with its own tokenizer. Args: `model`, see `Clip`; `pooling`, see `pool`."""

    def __init__(self, model: Path | str, *, pooling: str = "mean", device: str = "cpu"):
        super().__init__(model, device=device)
        self.tokenizer = open_clip.get_tokenizer(self.name)
        self.pooling = pooling

    def features(self, frames: np.ndarray) -> torch.Tensor:
        """Unit features [T, D] of uint8 frames [T, H, W, 3]."""
        return F.normalize(self.image_embeddings(frames), dim=1)

    @torch.no_grad()
    def text_feature(self, text: str) -> torch.Tensor:
        """Unit feature [D] of a text."""
        return F.normalize(self.model.encode_text(self.tokenizer([text]).to(self.device)), dim=1)[0]

    def reads_whole(self, text: str) -> bool:
        """Whether a text fits into CLIP's context. CLIP reads only the start of a longer text."""
        context = self.model.context_length
        return int((self.tokenizer([text], context_length=4 * context) != 0).sum()) <= context

    def score(self, frames: np.ndarray, prompt: str) -> tuple[float, list[float]]:
        """CLIP-T x100 of a clip uint8 [T, H, W, 3], and the similarity x100 of each frame."""
        features, text = self.features(frames), self.text_feature(prompt)
        return 100 * (pool(features, self.pooling) @ text).item(), (100 * features @ text).tolist()
