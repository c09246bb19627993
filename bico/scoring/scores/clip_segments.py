"""CLIP by segment: how well a clip shows each bound phrase, as CLIP's similarity of frames and phrase."""

from __future__ import annotations

from functools import cache

from bico.config.scores import Column, ScoreSettings
from bico.scoring.pooling import pool
from bico.scoring.protocol import Measured, ScoredClip, Shared

TEXT = "a picture of {}"
"""CLIP has learned from sentences. With it, CLIP of the Toybox ranks the exact rendering above another subject in 86 %
of the cases, and with the bare phrase in 64 %."""


class Settings(ScoreSettings):
    """CLIP by segment: similarity of frames and each bound phrase."""

    COLUMNS = (
        Column(
            "clip_segments",
            "CLIP by segment",
            asks="truth_prompt",
            description="CLIP similarity of frames and each bound phrase alone, mean over the phrases, x100. It cannot "
            "see motion or the order of frames, and not whether a thing is the one of its source: any cat is a cat",
        ),
    )

    def models(self) -> tuple[str, ...]:
        return ("clip",)


class Score:
    def __init__(self, settings: Settings, shared: Shared):
        from bico.scoring.clip_judge import open_clip_judge

        self.clip, self.pooling = shared.once(open_clip_judge), shared.config.scoring.pooling
        self.text_feature = cache(self.clip.text_feature)  # the clips of a case have the same phrases

    def measure(self, clip: ScoredClip) -> Measured:
        feature = pool(clip.once(self.clip.features), self.pooling)
        similarities = [(feature @ self.text_feature(TEXT.format(phrase))).item() for phrase in clip.phrases()]
        return Measured({"clip_segments": 100 * sum(similarities) / len(similarities)})
