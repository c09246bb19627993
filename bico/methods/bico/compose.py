"""Composes clips of prompts whose words pass through the binders of their sources."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bico.config.benchmark import Case
from bico.config.settings import Media, Sampling
from bico.methods.bico.artifact import LearnedBinder
from bico.methods.bico.settings import Settings
from bico.methods.shared.composing import compose_with
from bico.methods.shared.prompts import project
from bico.models.binder import HierarchicalBinder
from bico.models.wan.backbone import Backbone
from bico.models.wan.forward_pass import Contexts
from bico.plan.clips import Job
from bico.prompts.words import bound_slots


def compose(
    backbone: Backbone, jobs: Iterable[Job], settings: Settings, sampling: Sampling, media: Media
) -> Iterator[tuple[Job, np.ndarray]]:
    """Clips uint8 [T, H, W, 3] of the bound prompts."""

    def bound(case: Case, artifacts: Mapping[str, Path]) -> Contexts:
        binders = {source: LearnedBinder.load(artifacts[source]).on(backbone) for source in case.bind}
        return bind(backbone, case, binders, settings.strength)

    return compose_with(bound, backbone, jobs, sampling, media)


@torch.no_grad()
def bind(
    backbone: Backbone, case: Case, binders: Mapping[str, HierarchicalBinder], strength: float = 1.0
) -> list[Tensor]:
    """One context [1, slots, width] for each block: the prompt with each bound word changed by its source's binder.

    The words of different sources share no token, so their order does not matter. If a binder leaves keys plain, the
    contexts are [2, 1, slots, width], for keys and for values.
    """
    context = project(backbone, case.prompt)
    contexts = [context] * backbone.num_blocks
    owned = bound_slots(backbone.tokenizer, case.prompt, case.bind, backbone.text_slots)
    for source, slots in owned.items():
        mask = torch.zeros(context.shape[:2], dtype=torch.bool, device=context.device)
        mask[:, slots] = True
        changed = binders[source].to(context.device)(context, mask, strength=strength)
        contexts = [torch.where(mask[..., None], new, old) for new, old in zip(changed, contexts, strict=True)]
    return contexts
