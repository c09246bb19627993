"""Reads clips that were made elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from bico.config.settings import Media, Sampling
from bico.core.archives import unpacked
from bico.media.reading import read_clip, read_media
from bico.methods.external.settings import Settings
from bico.methods.external.submission import read_submission
from bico.models.wan.backbone import Backbone
from bico.plan.clips import Job


def compose(
    backbone: Backbone | None, jobs: Iterable[Job], settings: Settings, sampling: Sampling, media: Media
) -> Iterator[tuple[Job, np.ndarray]]:
    """Clips uint8 [T, H, W, 3] of a submission, unchanged or, with `resample` in the row's settings, resampled."""
    files = {clip.key: clip.file for clip in read_submission(settings.clips).clips}
    # All frames of a clip are used, even if only the first ones of a source are.
    fitted = dict(media.model_copy(update={"read": "time"}))
    with unpacked(settings.clips) as folder:
        for job in jobs:
            path = folder / files[job.case_id, job.seed]
            yield job, read_media(path, **fitted) if settings.resample else read_clip(path)
