"""Clips that bind a single source, to measure what was learned from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from bico.config.benchmark import Case
from bico.config.schema import Config
from bico.config.settings import Media
from bico.methods.base.settings import Settings as PlainPrompt
from bico.methods.shared.protocol import compose_of
from bico.models.wan.backbone import Backbone
from bico.plan.clips import Job
from bico.plan.trainings import artifact_path, learning_seed


def of_one_source(
    config: Config, row: str | None, backbone: Backbone, source: str, cases: Mapping[str, Case], media: Media
) -> Iterator[tuple[Job, np.ndarray]]:
    """Clips uint8 [T, H, W, 3] of cases that bind only this source, for all seeds; row None = nothing is bound."""
    settings = PlainPrompt() if row is None else config.methods[row]
    files, planned = {source: config.media_path(source)}, []
    for name, case in cases.items():
        for seed in config.seeds:
            trained = learning_seed(config, seed)
            learned = {source: artifact_path(config, row, source, trained)} if row is not None else {}
            planned.append(Job(name, case, seed, learned, files))
    return compose_of(settings.method)(backbone, planned, settings, config.sampling, media)
