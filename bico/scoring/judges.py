"""The scores that need no exact rendering, opened once for any number of clips."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np

from bico.config.benchmark import Kind, Source
from bico.config.schema import Config
from bico.config.scores import ScoreSettings, module_of_score, need_key_words, need_masks
from bico.core.errors import InputError
from bico.core.records import load_json
from bico.media.reading import read_mask, read_source
from bico.scoring.protocol import Measured, Score, ScoredClip, ScoredSource, Shared


class Judges:
    """These scores of a benchmark. Models are opened once for all scores, and sources are read once for all clips.

    Args:
        scores: name -> settings.
        device: of all models.
    """

    def __init__(self, config: Config, scores: Mapping[str, ScoreSettings], device: str):
        self.config, self.scores = config, scores
        shared = Shared(config, device)
        self.opened: dict[str, Score] = {
            name: import_module(module_of_score(name)).Score(settings, shared) for name, settings in scores.items()
        }
        self.source = cache(self._source)
        self.file = cache(self._file)

    def score(self, clip: ScoredClip, where: str) -> Measured:
        """All scores of one clip.

        Args:
            where: which clip it is, for the message of an error.

        Raises:
            InputError: one line: a score is not finite, or has no such column.
        """
        values, frames = dict[str, float](), dict[str, object]()
        for name, score in self.opened.items():
            measured, columns = score.measure(clip), [column.name for column in self.scores[name].COLUMNS]
            for column, value in measured.values.items():
                if column not in columns:
                    raise InputError(
                        f"bico/scoring/scores/{name}.py: it gives '{column}': expected one of its COLUMNS "
                        f"({', '.join(columns)})"
                    )
                if not math.isfinite(value):
                    raise InputError(
                        f"scoring.scores.{name}: {where}: {column} is {value}: expected a finite number, look at the "
                        "clip and at the score's model, or take the score out of the config"
                    )
            values |= measured.values
            frames |= measured.frames
        return Measured(values, frames)

    def _source(self, name: str) -> ScoredSource:
        """A source of the config. Several photographs are its frames."""
        entry, media = self.config.sources[name], self.config.media
        masks = entry.own_masks if need_masks(self.scores) else []
        spatial, temporal = self._key_words(name, entry)
        return ScoredSource(
            frames=read_source(self.config.media_paths(name), media, entry.start),
            kind=entry.kind,
            masks=np.stack([read_mask(mask, media) for mask in masks]) if masks else None,
            spatial=spatial,
            temporal=temporal,
        )

    def _key_words(self, name: str, entry: Source) -> tuple[Sequence[str], Sequence[str]]:
        if entry.kind == "image" or not need_key_words(self.scores):
            return (), ()
        concepts = load_json(self.config.paths.concepts(name))
        return concepts["spatial"], concepts["temporal"]

    def _file(self, path: Path, kind: Kind) -> ScoredSource:
        """A source that is not in the config."""
        return ScoredSource(frames=read_source([path], self.config.media), kind=kind)
