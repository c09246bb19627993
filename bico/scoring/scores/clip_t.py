"""CLIP-T: how well a clip shows its prompt, as CLIP's similarity of frames and text."""

from __future__ import annotations

from bico.config.scores import Column, ScoreSettings
from bico.scoring.pooling import pool
from bico.scoring.protocol import Measured, ScoredClip, Shared


class Settings(ScoreSettings):
    """CLIP-T: similarity of frames and prompt."""

    COLUMNS = (
        Column(
            "clip_t",
            "CLIP-T",
            heading="CLIP-T",
            asks="truth_prompt",
            description="CLIP similarity of frames and prompt, x100. It cannot see motion or the order of frames",
        ),
    )

    def models(self) -> tuple[str, ...]:
        return ("clip",)


class Score:
    def __init__(self, settings: Settings, shared: Shared):
        from bico.scoring.clip_judge import notice_unread_prompts, open_clip_judge

        self.clip, self.pooling = shared.once(open_clip_judge), shared.config.scoring.pooling
        notice_unread_prompts(shared.config)

    def measure(self, clip: ScoredClip) -> Measured:
        features, text = clip.once(self.clip.features), self.clip.text_feature(clip.prompt)
        similarity = 100 * (pool(features, self.pooling) @ text).item()
        return Measured({"clip_t": similarity}, {"clip_t": (100 * features @ text).tolist()})
