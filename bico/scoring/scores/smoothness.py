"""Smoothness: how evenly the points of a clip move (`bico.scoring.motion.smoothness`)."""

from __future__ import annotations

from bico.config.scores import Column, ScoreSettings
from bico.scoring.protocol import Measured, ScoredClip, Shared


class Settings(ScoreSettings):
    """Smoothness: evenness of motion."""

    COLUMNS = (
        Column(
            "smoothness",
            "smoothness",
            description="how evenly tracked points move from frame to frame: 100 = each goes on as it came, 0 = each "
            "returns, starts or stops. 100 for a still clip, so it cannot see whether anything moves as it should. "
            "Motion that turns back, such as bouncing, lowers it too",
        ),
    )


class Score:
    def __init__(self, settings: Settings, shared: Shared):
        pass

    def measure(self, clip: ScoredClip) -> Measured:
        from bico.scoring.motion import smoothness, tracks

        return Measured({"smoothness": 100 * smoothness(clip.once(tracks))})
