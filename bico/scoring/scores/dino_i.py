"""DINO-I: how similar a clip is to each of its visual inputs, as DINO's similarity of frames."""

from __future__ import annotations

from bico.config.scores import Column, ScoreSettings
from bico.scoring.pooling import harmonic_mean, pool
from bico.scoring.protocol import Measured, ScoredClip, Shared


class Settings(ScoreSettings):
    """DINO-I: similarity of frames and each visual input."""

    COLUMNS = (
        Column(
            "dino_i",
            "DINO-I",
            heading="DINO-I",
            asks="truth_concept",
            description="DINO similarity of frames and each visual input, harmonic mean over the inputs, x100. It "
            "compares whole frames, so it also rewards the backgrounds of the inputs, and cannot see motion",
        ),
    )

    def models(self) -> tuple[str, ...]:
        return ("dino",)


class Score:
    def __init__(self, settings: Settings, shared: Shared):
        from bico.scoring.dino_judge import open_dino_judge

        self.dino, self.pooling = shared.once(open_dino_judge), shared.config.scoring.pooling

    def measure(self, clip: ScoredClip) -> Measured:
        features = clip.once(self.dino.features)
        pooled = pool(features, self.pooling)
        inputs = {name: pool(each.once(self.dino.features), self.pooling) for name, each in clip.sources.items()}
        similarity = harmonic_mean([(pooled @ reference).item() for reference in inputs.values()])
        by_frame = {name: (100 * features @ reference).tolist() for name, reference in inputs.items()}
        return Measured({"dino_i": 100 * similarity}, {"dino_i": by_frame})
