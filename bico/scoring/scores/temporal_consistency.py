"""Temporal consistency: how similar neighbouring frames are for CLIP (Esser et al., "Structure and Content-Guided Video
Synthesis with Diffusion Models", ICCV 2023, frame consistency)."""

from __future__ import annotations

from bico.config.scores import Column, ScoreSettings
from bico.scoring.protocol import Measured, ScoredClip, Shared


class Settings(ScoreSettings):
    """Temporal consistency: similarity of neighbouring frames."""

    COLUMNS = (
        Column(
            "temporal_consistency",
            "temporal consistency",
            description="CLIP similarity of each frame and the next, mean x100. 100 for a still clip, so it cannot see "
            "whether anything moves as it should, nor what the clip shows",
        ),
    )

    def models(self) -> tuple[str, ...]:
        return ("clip",)


class Score:
    def __init__(self, settings: Settings, shared: Shared):
        from bico.scoring.clip_judge import open_clip_judge

        self.clip = shared.once(open_clip_judge)

    def measure(self, clip: ScoredClip) -> Measured:
        features = clip.once(self.clip.features)
        similar = 100 * (features[:-1] * features[1:]).sum(dim=1)
        return Measured({"temporal_consistency": similar.mean().item() if len(similar) else 100.0})
