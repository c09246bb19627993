"""Clips with the adapters of all sources of a case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from bico.config.settings import Media, Sampling
from bico.methods.dreamvideo.adapters import Adapters, adapted
from bico.methods.dreamvideo.settings import Settings
from bico.methods.shared.composing import compositions, guided
from bico.methods.shared.prompts import project
from bico.methods.textual_inversion.compose import inverted
from bico.models.adapter import set_condition
from bico.models.wan.backbone import Backbone
from bico.models.wan.sampling import sample
from bico.plan.clips import Job
from bico.training.artifacts import load_artifact


def compose(
    backbone: Backbone, jobs: Iterable[Job], settings: Settings, sampling: Sampling, media: Media
) -> Iterator[tuple[Job, np.ndarray]]:
    """Clips uint8 [T, H, W, 3], with the adapters of all sources of a case and the vectors of its images."""
    for first, *rest in compositions(jobs):
        artifacts = {source: load_artifact(first.artifacts[source])[0] for source in first.case.bind}
        learned = {source: within(tensors, "vectors.") for source, tensors in artifacts.items()}
        context = inverted(backbone, first.case, {source: vectors for source, vectors in learned.items() if vectors})
        negative = project(backbone, sampling.negative_prompt)
        own = guided(sampling, settings.guidance_scale)
        with active(backbone, list(artifacts.values())) as before_pass:
            for job in (first, *rest):
                latents = sample(backbone, context, negative, job.seed, own, media, before_pass=before_pass)
                yield job, backbone.decode_clip(latents)[0]


@contextmanager
def active(backbone: Backbone, artifacts: list[Mapping[str, Tensor]]) -> Iterator[Callable[[bool], None]]:
    """Within the context, the adapters of all sources are active. Yields a function that sets their appearance, for
    conditional passes (True) or unconditional ones."""
    images = [tensors["appearance"] for tensors in artifacts if "appearance" in tensors]
    appearance = torch.stack(images).mean(dim=0, keepdim=True).to(backbone.device) if images else None
    everyone = [restored(backbone, within(tensors, "adapters.")) for tensors in artifacts]

    def before_pass(conditional: bool) -> None:
        for adapters in everyone:
            set_condition(adapters, appearance if conditional else None)

    with adapted(backbone.transformer, everyone):
        yield before_pass


def restored(backbone: Backbone, tensors: Mapping[str, Tensor]) -> Adapters:
    """Adapters from their tensors, whose names show the kind of source."""
    condition = tensors.get("blocks.0.attn1.condition.weight")
    kind, appearance_width = ("image", 0) if condition is None else ("video", condition.shape[1])
    with torch.device("meta"):  # no random weights first
        adapters = Adapters(kind, backbone.width, backbone.num_blocks, appearance_width)
    adapters.load_state_dict(dict(tensors), assign=True)
    return adapters.to(backbone.device).requires_grad_(False)


def within(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
