"""The LoRAs of a case, merged into the transformer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from torch import Tensor, nn

from bico.config.benchmark import Case
from bico.config.settings import Media, Sampling
from bico.methods.db_lora.settings import Settings
from bico.methods.shared.composing import compositions
from bico.methods.shared.prompts import project
from bico.models.wan.backbone import Backbone
from bico.models.wan.sampling import generate
from bico.plan.clips import Job
from bico.prompts.text import clean
from bico.prompts.words import spans
from bico.training.artifacts import load_artifact


def compose(
    backbone: Backbone, jobs: Iterable[Job], settings: Settings, sampling: Sampling, media: Media
) -> Iterator[tuple[Job, np.ndarray]]:
    """Clips uint8 [T, H, W, 3], with the LoRAs of each case merged."""
    for first, *rest in compositions(jobs):
        loras = [load_artifact(first.artifacts[source])[0] for source in first.case.bind]
        context = project(backbone, target_prompt(first.case, settings.rare_token))
        negative = project(backbone, sampling.negative_prompt)
        with merged(backbone.transformer, loras, settings.merge_weight):
            for job in (first, *rest):
                yield job, generate(backbone, context, negative, [job.seed], sampling, media)[0]


@contextmanager
def merged(transformer: nn.Module, loras: Sequence[Mapping[str, Tensor]], weight: float) -> Iterator[None]:
    """Within the context, the transformer has W + weight * sum of B A in every layer. Afterwards the original weights
    are restored exactly."""
    layers = sorted({name.rsplit(".", 1)[0] for lora in loras for name in lora})
    originals = {layer: transformer.get_submodule(layer).get_parameter("weight") for layer in layers}
    try:
        for layer, original in originals.items():
            factors = ([lora[f"{layer}.lora_{name}"].to(original.device) for name in "BA"] for lora in loras)
            changed = original.float() + weight * sum(up @ down for up, down in factors)
            transformer.get_submodule(layer).weight = nn.Parameter(changed.to(original.dtype), requires_grad=False)
        yield
    finally:
        for layer, original in originals.items():
            transformer.get_submodule(layer).weight = original


def target_prompt(case: Case, rare_token: str) -> str:
    """The case's prompt with the rare token once for each source, as in training. It is in the source's first bound
    phrase, after the phrase's leading article ("A sks beagle dog wearing a collar"); without an article, before it."""
    prompt = clean(case.prompt)
    if not rare_token:
        return prompt
    for start in sorted((held[0][0] for held in spans(prompt, case.bind).values()), reverse=True):
        placed = re.sub(r"(?i)^((?:an?|the) )?", rf"\g<1>{rare_token} ", prompt[start:])
        prompt = prompt[:start] + placed
    return re.sub(rf"\b([Aa])n {re.escape(rare_token)}\b", rf"\1 {rare_token}", prompt)
