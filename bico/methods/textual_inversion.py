"""Textual Inversion (Gal et al., 2022): new vectors at the text encoder's input embedding; everything else is frozen.

Kept: initialisation from class words, short neutral prompts around the placeholders, AdamW. Changed for this backbone:
the loss is flow matching on a video transformer. Changed for compositions of many sources: every key word of a source
gets vectors of its own, all learned together, so that a case can take a clip's motion and leave its subject; a word of
the target prompt that is bound to a source is replaced by that source's vectors for it.
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
    """Learns "<number> <word>": [vectors, text width], float32, for each key word of a source, its class word first."""
    words = list(dict.fromkeys([encoded.class_word, *encoded.spatial, *encoded.temporal]))
    phrase, bindings = " ".join([*encoded.spatial, *encoded.temporal]), {word: [word] for word in words}
    prompts = [template.format(phrase) for template in TEMPLATES[encoded.kind]]
    templates = [
        (backbone.input_embeddings(prompt), bound_slots(backbone.tokenizer, prompt, bindings, backbone.text_slots))
        for prompt in prompts
    ]
    vectors = {f"{number} {word}": initial(*templates[0], word, settings.vectors) for number, word in enumerate(words)}
    placed = dict(zip(words, vectors.values(), strict=True))
    noise = NoiseLevels(shift)

    def loss(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        sigmas = noise.draw(settings.batch_size, generator)
        picked = torch.randint(len(templates), (settings.batch_size,), generator=generator)
        embeddings = [replaced(*templates[index], placed) for index in picked]
        context = backbone.context(backbone.encode_embeddings(embeddings, length=max(map(len, embeddings))))
        latents = encoded.latents.expand(settings.batch_size, *encoded.latents.shape)
        return flow_matching_loss(backbone, latents, context, sigmas, generator), sigmas

    fit(
        [Group(vectors, settings.learning_rate)],
        [Stage("vectors", settings.steps, loss)],
        settings,
        seed=seed,
        digest=digest_of(settings.learning(), encoded.digest, backbone.fingerprint, shift, seed),
        workdir=workdir,
        progress=progress,
        report=lambda: {"norm": torch.cat([*vectors.values()]).norm(dim=-1).mean().item()},
    )
    return {name: vector.detach().cpu() for name, vector in vectors.items()}


def initial(embeddings: Tensor, slots: Mapping[str, list[int]], word: str, count: int) -> nn.Parameter:
    """`count` vectors [count, text width]: the embeddings of the word's tokens, taken in turn."""
    tokens = slots[word]
    return nn.Parameter(embeddings[[tokens[index % len(tokens)] for index in range(count)]].float().clone())


def vectors_for(word: str, learned: Mapping[str, Tensor]) -> Tensor:
    """A source's vectors for a bound word; those of its class word where the word is none of its key words."""
    by_word = {name.partition(" ")[2]: vectors for name, vectors in sorted(learned.items(), key=_number)}
    return by_word.get(word, next(iter(by_word.values())))


def _number(item: tuple[str, Tensor]) -> int:
    return int(item[0].partition(" ")[0])


def replaced(embeddings: Tensor, slots: Mapping[str, list[int]], vectors: Mapping[str, Tensor]) -> Tensor:
    """Token embeddings [tokens, text width] in which each owner's run of slots has become that owner's vectors."""
    owners = {slot: owner for owner, held in slots.items() for slot in held}
    pieces = []
    for slot, embedding in enumerate(embeddings):
        owner = owners.get(slot)
        if owner is None:
            pieces.append(embedding[None])
        elif owners.get(slot - 1) != owner:
            pieces.append(vectors[owner].to(embeddings))
    return torch.cat(pieces)


def compose(
    backbone: Backbone, jobs: Iterable[Job], settings: TextualInversionSettings, sampling: Sampling, media: Media
) -> Iterator[tuple[Job, np.ndarray]]:
    """Clips uint8 [T, H, W, 3] of the prompts with every bound word replaced by its source's vectors."""

    @torch.no_grad()
    def inverted(case: Case, artifacts: Mapping[str, Path]) -> Contexts:
        bound = [(source, word) for source, words in case.bind.items() for word in words]
        learned = {source: load_artifact(artifacts[source])[0] for source in case.bind}
        # Each bound word is an owner of its own, also where a source has several.
        vectors = {str(place): vectors_for(word, learned[source]) for place, (source, word) in enumerate(bound)}
        bindings = {str(place): [word] for place, (_, word) in enumerate(bound)}
        slots = bound_slots(backbone.tokenizer, case.prompt, bindings, backbone.text_slots)
        embeddings = replaced(backbone.input_embeddings(case.prompt), slots, vectors)[: backbone.text_slots]
        return backbone.context(backbone.encode_embeddings([embeddings]))

    return compose_with(inverted, backbone, jobs, sampling, media)
