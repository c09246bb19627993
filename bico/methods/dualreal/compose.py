"""Clips of the plain prompts, with the adapters of each case."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from bico.config.settings import Media, Sampling
from bico.methods.dualreal.adapters import JointAdapters
from bico.methods.dualreal.settings import Settings
from bico.methods.shared.composing import compositions, guided
from bico.methods.shared.prompts import project
from bico.models.adapter import set_condition
from bico.models.wan.backbone import Backbone
from bico.models.wan.sampling import generate
from bico.plan.clips import Job
from bico.training.artifacts import load_artifact


def compose(
    backbone: Backbone, jobs: Iterable[Job], settings: Settings, sampling: Sampling, media: Media
) -> Iterator[tuple[Job, np.ndarray]]:
    """Clips uint8 [T, H, W, 3] of the plain prompts, with the adapters of each case."""
    negative, own = project(backbone, sampling.negative_prompt), guided(sampling, settings.guidance_scale)
    for first, *rest in compositions(jobs):
        adapters = restored(backbone, load_artifact(first.artifacts["case"])[0], settings)
        context = project(backbone, first.case.prompt)
        with adapters.beside(backbone.transformer):
            for job in (first, *rest):
                yield job, generate(backbone, context, negative, [job.seed], own, media)[0]


def restored(backbone: Backbone, tensors: Mapping[str, Tensor], settings: Settings) -> JointAdapters:
    """The networks from the tensors that `learn` returned, with the appearance of the image."""
    appearance = tensors["appearance"][None]
    with torch.device("meta"):  # no random weights first
        adapters = JointAdapters(backbone.width, backbone.num_blocks, appearance.shape[1], settings)
    learned = {name: tensor for name, tensor in tensors.items() if name != "appearance"}
    adapters.load_state_dict(learned, assign=True)
    set_condition(adapters.motion, appearance.to(backbone.device))
    return adapters.to(backbone.device).requires_grad_(False)
