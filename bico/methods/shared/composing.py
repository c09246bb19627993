"""Code that methods share to compose: clips of compositions, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path

import numpy as np

from bico.config.benchmark import Case
from bico.config.settings import Media, Sampling
from bico.methods.shared.prompts import project
from bico.models.wan.backbone import Backbone
from bico.models.wan.forward_pass import Contexts
from bico.models.wan.sampling import generate
from bico.plan.clips import Job


def compose_with(
    contexts_of: Callable[[Case, Mapping[str, Path]], Contexts],
    backbone: Backbone,
    jobs: Iterable[Job],
    sampling: Sampling,
    media: Media,
) -> Iterator[tuple[Job, np.ndarray]]:
    """Generates the clip of every job. The contexts of a case are computed once for all its seeds."""
    negative = project(backbone, sampling.negative_prompt)
    for first, *rest in compositions(jobs):
        contexts = contexts_of(first.case, first.artifacts)
        for job in (first, *rest):
            yield job, generate(backbone, contexts, negative, [job.seed], sampling, media)[0]


def compositions(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """Groups of neighbouring jobs that differ only in their seeds: one case with the same artifacts."""
    for _, alike in groupby(jobs, key=lambda job: (job.case_id, job.artifacts)):
        yield list(alike)


def guided(sampling: Sampling, guidance_scale: float | None) -> Sampling:
    """`sampling` with a method's own guidance scale, if it has one."""
    return sampling if guidance_scale is None else sampling.model_copy(update={"guidance_scale": guidance_scale})
