"""Motion fidelity: does a clip move like the videos that it is composed of?"""

from __future__ import annotations

from bico.config.scores import Column, ScoreSettings
from bico.scoring.protocol import Measured, ScoredClip, Shared


class Settings(ScoreSettings):
    """Motion fidelity: similarity of the directions of motion."""

    COLUMNS = (
        Column(
            "motion_fidelity",
            "motion fidelity",
            heading="Motion fid.",
            asks="truth_motion",
            description="similarity of the directions of tracked points to those of the bound videos: -100 to 100, 0 "
            "if nothing that moves can be followed. There is no score where no video is bound, or none of its points "
            "can be tracked. It cannot see speed, or what it is that moves",
        ),
    )


class Score:
    def __init__(self, settings: Settings, shared: Shared):
        pass

    def measure(self, clip: ScoredClip) -> Measured:
        """The mean over the videos is arithmetic, because fidelity can be negative."""
        import numpy as np

        from bico.scoring.motion import motion_fidelity, tracks

        found = clip.once(tracks)
        videos = [source for source in clip.sources.values() if source.kind == "video"]
        fidelities = [motion_fidelity(found, video.once(tracks)) for video in videos]
        defined = [fidelity for fidelity in fidelities if np.isfinite(fidelity)]
        return Measured({"motion_fidelity": 100 * float(np.mean(defined))} if defined else {})
