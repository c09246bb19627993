"""DreamBooth-LoRA (Ruiz et al., 2023; Hu et al., 2022): a LoRA of the whole transformer for each source.

Kept: prompts of a rare token and the class word, alpha = rank, all attention and feed-forward layers. Changed for this
backbone: a video's rare token goes before its motion word; no prior preservation. The LoRAs of a case are merged into
the weights by `merge_weight`, and its bound words carry the rare token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bico.config.schema import Case, DbLoraSettings, Media, Sampling
from bico.methods.base import Job, compositions, load_artifact, project
from bico.methods.training import Group, NoiseLevels, Stage, fit, flow_matching_loss, seeded
from bico.models.wan.backbone import Backbone
from bico.prompts.slots import clean, spans
from bico.sources.encoding import EncodedSource

ADAPTER = "db_lora"
LAYERS = r"blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ffn\.net\.(0\.proj|2))"


def learn(
    backbone: Backbone,
    encoded: EncodedSource,
    settings: DbLoraSettings,
    *,
    shift: float,
    seed: int,
    workdir: Path,
    progress: str = "",
) -> dict[str, Tensor]:
    """Learns one source's LoRA: "<layer>.lora_A" [rank, in] and "<layer>.lora_B" [out, rank] of each layer, float32."""
    context = project(backbone, instance_prompt(encoded, settings.rare_token))
    del backbone.text_encoder  # needed no more, and larger than the transformer
    noise = NoiseLevels(shift)

    def loss(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        sigmas = noise.draw(settings.batch_size, generator)
        latents = encoded.latents.expand(settings.batch_size, *encoded.latents.shape)
        contexts = context.expand(settings.batch_size, *context.shape[1:])
        yield flow_matching_loss(backbone, latents, contexts, sigmas, generator), sigmas

    rank = settings.video_rank if encoded.kind == "video" else settings.rank
    with adapter(backbone.transformer, rank, seed) as parameters, backbone.compiled():
        fit(
            [Group(parameters, settings.learning_rate)],
            [Stage("lora", settings.steps, loss)],
            settings,
            seed=seed,
            workdir=workdir,
            progress=progress,
        )
        return {name: parameter.detach().cpu() for name, parameter in parameters.items()}


def instance_prompt(encoded: EncodedSource, rare_token: str) -> str:
    """What training calls the source: "a sks cat" for an image, "a cat sks bouncing" for a video."""
    if encoded.temporal:
        return f"a {encoded.spatial[0]} {rare_token} {encoded.temporal[0]}"
    return f"a {rare_token} {encoded.spatial[0]}"


@contextmanager
def adapter(transformer: nn.Module, rank: int, seed: int) -> Iterator[dict[str, nn.Parameter]]:
    """peft's LoRA layers in the transformer, for as long as the context lasts; yields their parameters by name."""
    from peft import LoraConfig

    with seeded(seed):
        transformer.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=LAYERS), ADAPTER)
    try:
        found = ((name, weight) for name, weight in transformer.named_parameters() if weight.requires_grad)
        parameters = {name.removesuffix(f".{ADAPTER}.weight"): weight for name, weight in found}
        for weight in parameters.values():
            weight.data = weight.data.float()
        yield parameters
    finally:
        transformer.unload_lora()


@contextmanager
def merged(transformer: nn.Module, loras: Sequence[Mapping[str, Tensor]], weight: float) -> Iterator[None]:
    """The transformer with W + weight * sum of B A in every layer; the very same weights come back afterwards."""
    layers = sorted({name.rsplit(".", 1)[0] for lora in loras for name in lora})
    originals = {layer: transformer.get_submodule(layer).weight for layer in layers}
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
    """The case's prompt with the rare token before every bound word or phrase."""
    prompt = clean(case.prompt)
    if not rare_token:
        return prompt
    starts = sorted({start for held in spans(prompt, case.bind).values() for start, _ in held}, reverse=True)
    for start in starts:
        prompt = f"{prompt[:start]}{rare_token} {prompt[start:]}"
    return re.sub(rf"\b([Aa])n {re.escape(rare_token)}\b", rf"\1 {rare_token}", prompt)


def compose(
    backbone: Backbone, jobs: Iterable[Job], settings: DbLoraSettings, sampling: Sampling, media: Media
) -> Iterator[tuple[Job, np.ndarray]]:
    """Clips uint8 [T, H, W, 3] of the merged LoRAs."""
    for first, *rest in compositions(jobs):
        loras = [load_artifact(first.artifacts[source])[0] for source in first.case.bind]
        context = project(backbone, target_prompt(first.case, settings.rare_token))
        negative = project(backbone, sampling.negative_prompt)
        with merged(backbone.transformer, loras, settings.merge_weight):
            for job in (first, *rest):
                yield job, backbone.generate(context, negative, [job.seed], sampling, media)[0]
