"""Composes clips of prompts whose bound words are replaced by learned vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bico.config.benchmark import Case
from bico.config.settings import Media, Sampling
from bico.methods.shared.composing import compose_with
from bico.methods.textual_inversion.inversion import replaced
from bico.methods.textual_inversion.settings import Settings
from bico.models.wan.backbone import Backbone
from bico.models.wan.forward_pass import Contexts
from bico.plan.clips import Job
from bico.prompts.slots import mentions
from bico.prompts.words import bound_slots
from bico.training.artifacts import load_artifact


def compose(
    backbone: Backbone, jobs: Iterable[Job], settings: Settings, sampling: Sampling, media: Media
) -> Iterator[tuple[Job, np.ndarray]]:
    """Clips uint8 [T, H, W, 3] of the prompts with every bound word replaced by its source's vectors."""

    def contexts(case: Case, artifacts: Mapping[str, Path]) -> Contexts:
        return inverted(backbone, case, {source: load_artifact(artifacts[source])[0] for source in case.bind})

    return compose_with(contexts, backbone, jobs, sampling, media)


@torch.no_grad()
def inverted(backbone: Backbone, case: Case, learned: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
    """The projected prompt [1, slots, width], with vectors in the phrases that are bound to a source of `learned`."""
    # Each bound phrase is a separate owner, even if a source has several.
    bound = {str(place): pair for place, pair in enumerate((s, words) for s in case.bind for words in case.bind[s])}
    bindings = {place: [words] for place, (_, words) in bound.items()}
    phrases = bound_slots(backbone.tokenizer, case.prompt, bindings, backbone.text_slots)
    slots, vectors, before = {}, {}, {}
    for place, (source, _) in bound.items():
        if source not in learned:
            continue
        own, free = by_word(learned[source]), set(phrases[place])
        for word in sorted(own, key=len, reverse=True):  # "striped cat" before the "cat" in it
            held = mentions(backbone.tokenizer, case.prompt, word, backbone.text_slots)
            if inside := [slot for slot in held if slot in free]:
                slots[f"{place} {word}"], vectors[f"{place} {word}"] = inside, own[word]
                free.difference_update(inside)
        if free == set(phrases[place]):
            before[min(free)] = next(iter(own.values()))
    embeddings = replaced(backbone.input_embeddings(case.prompt), slots, vectors, before)[: backbone.text_slots]
    return backbone.context(backbone.encode_embeddings([embeddings]))


def by_word(learned: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A source's vectors by key word, the class word first."""
    numbered = sorted((name.split(" ", 1) for name in learned), key=lambda pair: int(pair[0]))
    return {word: learned[f"{number} {word}"] for number, word in numbered}
