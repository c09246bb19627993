"""Control: the frames of a source in place of a composition, which show how a score rewards copying."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from bico.config.settings import Media, Sampling
from bico.media.inspecting import media_kind
from bico.media.reading import read_media
from bico.methods.copy.settings import Settings
from bico.models.wan.backbone import Backbone
from bico.plan.clips import Job


def compose(
    backbone: Backbone | None, jobs: Iterable[Job], settings: Settings, sampling: Sampling, media: Media
) -> Iterator[tuple[Job, np.ndarray]]:
    """Clips uint8 [T, H, W, 3]: the first video source of a case; without one, its first image as a still clip."""
    for job in jobs:
        sources = list(job.case.bind)
        source = next((source for source in sources if media_kind(job.media[source]) == "video"), sources[0])
        frames = read_media(job.media[source], **dict(media), start=job.starts.get(source, 0))
        yield job, frames if len(frames) > 1 else np.repeat(frames, media.num_frames, axis=0)
