"""Textual Inversion (Gal et al., 2022): new vectors at the text encoder's input embedding; everything else is frozen.

Kept: initialisation from the class word, short neutral prompts around the placeholder, AdamW. Changed for this
backbone: the loss is flow matching on a video transformer, a video's placeholder stands for its motion word, and a word
of the target prompt that is bound to a source is replaced by that source's vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bico.backbone import Backbone
from bico.config import Case, Media, Sampling, TextualInversionSettings
from bico.encode import EncodedSource
from bico.methods.base import Contexts, Job, compose_with, load_artifact
from bico.prompts import bound_slots
from bico.training import Group, NoiseLevels, Stage, digest_of, fit, flow_matching_loss

LEARNS_PER = "source"

TEMPLATES = {
    "image": ("a {}", "the {}", "a picture of a {}", "a picture of the {}", "a close view of a {}", "one {}"),
    "video": ("a video of {}", "a clip of {}", "something {}", "{}", "this is {}", "a short video of {}"),
}


def learn(
    backbone: Backbone,
    encoded: EncodedSource,
    settings: TextualInversionSettings,
    *,
    shift: float,
    seed: int,
    workdir: Path,
    progress: str = "",
) -> dict[str, Tensor]:
    """Learns {"vectors": [vectors, text width]}, float32, for one source."""
    prompts = [template.format(encoded.class_word) for template in TEMPLATES[encoded.kind]]
    bindings = {"source": [encoded.class_word]}
    templates = [
        (backbone.input_embeddings(prompt), bound_slots(backbone.tokenizer, prompt, bindings, backbone.text_slots))
        for prompt in prompts
    ]
    vectors = nn.Parameter(initial(*templates[0], settings.vectors))
    noise = NoiseLevels(shift)

    def loss(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        sigmas = noise.draw(settings.batch_size, generator)
        picked = torch.randint(len(templates), (settings.batch_size,), generator=generator)
        embeddings = [replaced(*templates[index], {"source": vectors}) for index in picked]
        context = backbone.context(backbone.encode_embeddings(embeddings, length=max(map(len, embeddings))))
        latents = encoded.latents.expand(settings.batch_size, *encoded.latents.shape)
        return flow_matching_loss(backbone, latents, context, sigmas, generator), sigmas

    fit(
        [Group({"vectors": vectors}, settings.learning_rate)],
        [Stage("vectors", settings.steps, loss)],
        settings,
        seed=seed,
        digest=digest_of(settings.learning(), encoded.digest, backbone.fingerprint, shift, seed),
        workdir=workdir,
        progress=progress,
        report=lambda: {"norm": vectors.norm(dim=-1).mean().item()},
    )
    return {"vectors": vectors.detach().cpu()}


def initial(embeddings: Tensor, slots: Mapping[str, list[int]], count: int) -> Tensor:
    """`count` vectors [count, text width]: the embeddings of the class word's tokens, taken in turn."""
    tokens = slots["source"]
    return embeddings[[tokens[index % len(tokens)] for index in range(count)]].float().clone()


def replaced(embeddings: Tensor, slots: Mapping[str, list[int]], vectors: Mapping[str, Tensor]) -> Tensor:
    """Token embeddings [tokens, text width] in which each run of a source's slots has become that source's vectors."""
    owner = {slot: source for source, held in slots.items() for slot in held}
    pieces = []
    for slot, embedding in enumerate(embeddings):
        source = owner.get(slot)
        if source is None:
            pieces.append(embedding[None])
        elif owner.get(slot - 1) != source:
            pieces.append(vectors[source].to(embeddings))
    return torch.cat(pieces)


def compose(
    backbone: Backbone, jobs: Iterable[Job], settings: TextualInversionSettings, sampling: Sampling, media: Media
) -> Iterator[tuple[Job, np.ndarray]]:
    """Clips uint8 [T, H, W, 3] of the prompts with every bound word replaced by its source's vectors."""

    @torch.no_grad()
    def inverted(case: Case, artifacts: Mapping[str, Path]) -> Contexts:
        vectors = {source: load_artifact(artifacts[source])[0]["vectors"] for source in case.bind}
        slots = bound_slots(backbone.tokenizer, case.prompt, case.bind, backbone.text_slots)
        embeddings = replaced(backbone.input_embeddings(case.prompt), slots, vectors)[: backbone.text_slots]
        return backbone.context(backbone.encode_embeddings([embeddings]))

    return compose_with(inverted, backbone, jobs, sampling, media)
