"""The plain prompt on the frozen backbone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from bico.config.benchmark import Case
from bico.config.settings import Media, Sampling
from bico.methods.base.settings import Settings
from bico.methods.shared.composing import compose_with
from bico.methods.shared.prompts import project
from bico.models.wan.backbone import Backbone
from bico.models.wan.forward_pass import Contexts
from bico.plan.clips import Job


def compose(
    backbone: Backbone, jobs: Iterable[Job], settings: Settings, sampling: Sampling, media: Media
) -> Iterator[tuple[Job, np.ndarray]]:
    """Clips uint8 [T, H, W, 3] of the plain prompts."""

    def plain(case: Case, artifacts: Mapping[str, Path]) -> Contexts:
        return project(backbone, case.prompt)

    return compose_with(plain, backbone, jobs, sampling, media)
