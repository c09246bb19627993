"""Dynamic degree: how fast a clip moves."""

from __future__ import annotations

from bico.config.scores import Column, ScoreSettings
from bico.scoring.protocol import Measured, ScoredClip, Shared


class Settings(ScoreSettings):
    """Dynamic degree: speed of the fastest points."""

    COLUMNS = (
        Column(
            "dynamic_degree",
            "dynamic degree",
            ordered=False,
            description="speed of the fastest 5 % of tracked points, in % of the shorter side per second. Higher is "
            "not better. It cannot see whether it is the right thing that moves",
        ),
    )


class Score:
    def __init__(self, settings: Settings, shared: Shared):
        pass

    def measure(self, clip: ScoredClip) -> Measured:
        from bico.scoring.motion import dynamic_degree

        return Measured({"dynamic_degree": 100 * dynamic_degree(clip.frames, clip.fps)})
