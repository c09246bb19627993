"""Control: the plain prompt on the frozen backbone. Also holds what every method's `compose` needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from bico.config.schema import BaseSettings, Case, Media, Sampling
from bico.core.files import replacing
from bico.models.wan.backbone import Backbone, Contexts


@dataclass(frozen=True)
class Job:
    """One clip to make."""

    case_id: str
    case: Case
    seed: int
    artifacts: dict[str, Path] = field(default_factory=dict)
    """What was learned, by source id; methods that learn per case: {"case": path}."""
    media: dict[str, Path] = field(default_factory=dict)
    """The sources' files, by source id."""


def compose(
    backbone: Backbone, jobs: Iterable[Job], settings: BaseSettings, sampling: Sampling, media: Media
) -> Iterator[tuple[Job, np.ndarray]]:
    """Clips uint8 [T, H, W, 3] of the unbound prompts."""

    def plain(case: Case, artifacts: Mapping[str, Path]) -> Contexts:
        return project(backbone, case.prompt)

    return compose_with(plain, backbone, jobs, sampling, media)


def compose_with(
    contexts_of: Callable[[Case, Mapping[str, Path]], Contexts],
    backbone: Backbone,
    jobs: Iterable[Job],
    sampling: Sampling,
    media: Media,
) -> Iterator[tuple[Job, np.ndarray]]:
    """Generates every job from the contexts of its case, which are made once for `compositions`."""
    negative = project(backbone, sampling.negative_prompt)
    for first, *rest in compositions(jobs):
        contexts = contexts_of(first.case, first.artifacts)
        for job in (first, *rest):
            yield job, backbone.generate(contexts, negative, [job.seed], sampling, media)[0]


def compositions(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """Neighbouring jobs that differ in their seeds alone: one case, made with the same artifacts."""
    for _, alike in groupby(jobs, key=lambda job: (job.case_id, job.artifacts)):
        yield list(alike)


def project(backbone: Backbone, prompt: str) -> Tensor:
    """Projected prompt [1, slots, width]."""
    prompt_embeds, _ = backbone.encode_prompts([prompt])
    return backbone.context(prompt_embeds)


def guided(sampling: Sampling, guidance_scale: float | None) -> Sampling:
    """`sampling` with a method's own guidance scale, if it has one."""
    return sampling if guidance_scale is None else sampling.model_copy(update={"guidance_scale": guidance_scale})


def save_artifact(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Writes what a method learned, atomically. Metadata: what it was learned from, by which method and settings.

    The metadata is one JSON value: safetensors writes several in an order that changes from run to run.
    """
    described = {"bico": json.dumps(metadata, sort_keys=True)}
    with replacing(path) as unfinished:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, unfinished, metadata=described)


def load_artifact(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of `save_artifact`."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        return tensors, json.loads(file.metadata()["bico"])
