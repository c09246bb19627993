"""CLIP as a judge of frames and texts, which several scores share."""

from __future__ import annotations

import logging
import re
from functools import cache
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import open_clip
import torch
import torch.nn.functional as F

from bico.config.schema import Config
from bico.models.clip import Clip
from bico.prompts.text import UNSPACED

log = logging.getLogger("bico")


class Tokenizer(Protocol):
    """What the tokenizers of open_clip have in common: token ids [texts, context], with zeros after each text."""

    context_length: int

    def __call__(self, texts: list[str], context_length: int | None = None) -> torch.Tensor: ...


def open_clip_judge(config: Config, device: str) -> ClipJudge:
    """The CLIP of a config."""
    return ClipJudge(config.models.clip, device=device)


class ClipJudge(Clip):
    """CLIP with its own tokenizer. Args: see `Clip`."""

    def __init__(self, folder: Path, *, device: str = "cpu"):
        super().__init__(folder, device=device)
        self.tokenizer = _tokenizer(folder)

    def features(self, frames: np.ndarray) -> torch.Tensor:
        """Unit features [T, D] of uint8 frames [T, H, W, 3]."""
        return F.normalize(self.image_embeddings(frames), dim=1)

    @torch.no_grad()
    def text_feature(self, text: str) -> torch.Tensor:
        """Unit feature [D] of a text."""
        return F.normalize(self.model.encode_text(self.tokenizer([text]).to(self.device)), dim=1)[0]


def notice_unread_prompts(config: Config) -> None:
    """A notice for each case whose prompt CLIP does not read to its end, or not in its language. It opens the tokenizer
    alone.
    """
    tokenizer = _tokenizer(config.models.clip)
    for case_id, case in config.cases.items():
        if "openai" in config.models.clip.name and re.search(rf"[{UNSPACED}]", case.prompt):
            log.warning(
                "notice: cases.%s: OpenAI's CLIP learned from English texts: CLIP-T and CLIP by segment say little of "
                "a prompt in Chinese or Japanese",
                case_id,
            )
        longer = tokenizer([case.prompt], context_length=4 * tokenizer.context_length)
        if int((longer != 0).sum()) > tokenizer.context_length:
            log.warning(
                "notice: cases.%s: the prompt is longer than the %d tokens that models.clip reads: CLIP-T uses only "
                "these tokens",
                case_id, tokenizer.context_length,
            )  # fmt: skip


@cache  # a job of scores opens the judge and gives the notices
def _tokenizer(folder: Path) -> Tokenizer:
    return cast("Tokenizer", open_clip.get_tokenizer(f"local-dir:{folder}"))
