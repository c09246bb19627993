"""DINO of the foreground: how similar the thing in a clip is to the one in its source, as DINO sees both cut out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from bico.config.scores import Column, ScoreSettings
from bico.scoring.pooling import harmonic_mean, pool
from bico.scoring.protocol import Measured, ScoredClip, ScoredSource, Shared

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Features = Mapping[str, Tensor]
    """Key of a phrase -> feature [D]."""


class Settings(ScoreSettings):
    """DINO of the foreground: similarity of each bound thing, cut out, and that of its source."""

    COLUMNS = (
        Column(
            "dino_foreground",
            "DINO foreground",
            heading="DINO fg.",
            asks="truth_concept",
            description="DINO similarity of what each bound phrase names in the clip and in its source, both cut out; "
            "mean over the phrases of a source, harmonic mean over the sources, x100. Phrases that name a motion do "
            "not count, and there is no score where no other is bound. It cannot see motion, where the thing is or how "
            "large, and sees the background only around the thing",
        ),
    )
    KEY_WORDS = True
    MASKS = True

    foreground: Literal["attention", "motion"] = Field(
        default="attention",
        description=(
            "How the thing is found. attention = where the frozen backbone attends to the words of the phrase; motion "
            "= where pixels move, for all phrases alike, and the whole frame where nothing moves. A source's own "
            "`mask` takes precedence in the source."
        ),
    )

    def models(self) -> tuple[str, ...]:
        return ("dino", "wan") if self.foreground == "attention" else ("dino",)


class Score:
    def __init__(self, settings: Settings, shared: Shared):
        from bico.scoring.dino_judge import open_dino_judge

        self.dino, self.pooling = shared.once(open_dino_judge), shared.config.scoring.pooling
        self.attention = None
        if settings.foreground == "attention":
            from bico.scoring.foreground import open_attention

            self.attention = shared.once(open_attention)
        self.reference = cache(self._reference)  # the clips of a case have the same sources

    def measure(self, clip: ScoredClip) -> Measured:
        visible = {name: _visible(clip, name) for name in clip.bind}
        words = {f"{name} {n}": phrase for name, seen in visible.items() for n, phrase in enumerate(seen)}
        if not words:
            return Measured({})
        shown = self._features(clip.frames, clip.prompt, words)
        similarities = []
        for name, seen in visible.items():
            keys = [f"{name} {n}" for n in range(len(seen))]
            if keys:
                references = self.reference(clip.sources[name], clip.prompt, tuple(words.items()))
                similarities.append(sum((shown[key] @ references[key]).item() for key in keys) / len(keys))
        return Measured({"dino_foreground": 100 * harmonic_mean(similarities)})

    def _reference(self, source: ScoredSource, prompt: str, words: tuple[tuple[str, str], ...]) -> Features:
        if source.masks is not None:
            return dict.fromkeys(dict(words), self._feature(source.frames, source.masks > 0.5))
        if source.kind == "video":
            return self._features(source.frames, prompt, dict(words))
        import torch

        # The VAE takes photographs one by one.
        of_each = [self._features(photograph[None], prompt, dict(words)) for photograph in source.frames]
        return {key: torch.stack([each[key] for each in of_each]).mean(dim=0) for key, _ in words}

    def _features(self, frames: np.ndarray, prompt: str, words: Mapping[str, str]) -> Features:
        """The feature of what each of the words names in frames. `words` are phrases of the prompt by any key."""
        from bico.scoring.foreground import moving

        if self.attention is None:
            return dict.fromkeys(words, self._feature(frames, moving(frames)))
        found = self.attention.foreground(frames, prompt, words)
        return {key: self._feature(frames, shape) for key, shape in found.items()}

    def _feature(self, frames: np.ndarray, foreground: np.ndarray) -> Tensor:
        from bico.scoring.foreground import cut_out

        return pool(self.dino.features(cut_out(frames, foreground)), self.pooling)


def _visible(clip: ScoredClip, name: str) -> list[str]:
    """The phrases of a source that name something in a frame: not those that only have words of its temporal key words.

    A temporal key word may also name what moves, as in "a bird soaring". Words that are in spatial key words, too, do
    not count as motion.
    """
    from bico.prompts.content_words import content_words

    key_words = clip.sources[name].spatial, clip.sources[name].temporal
    spatial, temporal = ({stem for words in kind for stem in content_words(words)} for kind in key_words)
    return [phrase for phrase in clip.bind[name] if not content_words(phrase).keys() <= temporal - spatial]
