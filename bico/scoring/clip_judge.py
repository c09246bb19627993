"""CLIP as a judge of frames and texts, which several scores share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F

from bico.config.schema import Config
from bico.models.clip import Clip


def open_clip_judge(config: Config, device: str) -> ClipJudge:
    """The CLIP of a config."""
    return ClipJudge(config.models.clip, device=device)


class ClipJudge(Clip):
    """CLIP with its own tokenizer. Args: see `Clip`."""

    def __init__(self, model: Path | str, *, device: str = "cpu"):
        super().__init__(model, device=device)
        self.tokenizer = open_clip.get_tokenizer(self.name)

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
