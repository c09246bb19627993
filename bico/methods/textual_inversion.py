"""Textual Inversion (Gal et al., 2022): new vectors at the text encoder's input embedding; everything else is frozen.

Kept: initialisation from class words, short neutral prompts around the placeholders, AdamW. Changed for this backbone:
the loss is flow matching on a video transformer. Changed for compositions of many sources: every key word of a source
gets vectors of its own, all learned together, so that a case can take a clip's motion and leave its subject. In the
target prompt each key word of a source that stands in what is bound to it is replaced by its vectors; a bound phrase
that holds no key word keeps its words, and the vectors of the class word stand before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn

from bico.config.schema import Case, Media, Sampling, TextualInversionSettings
from bico.methods.base import Job, compose_with, load_artifact
from bico.methods.training import Group, NoiseLevels, Stage, fit, flow_matching_loss
from bico.models.wan.backbone import Backbone, Contexts
from bico.prompts.slots import bound_slots, mentions
from bico.sources.encoding import EncodedSource

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
    inversion = Inversion(backbone, encoded, settings.vectors)
    with backbone.compiled():
        fit(
            [Group(inversion.vectors, settings.learning_rate)],
            [Stage("vectors", settings.steps, partial(inversion.loss, NoiseLevels(shift), settings.batch_size))],
            settings,
            seed=seed,
            workdir=workdir,
            progress=progress,
            report=inversion.report,
        )
    return inversion.learned()


class Inversion:
    """The key words of a source as vectors to learn, and neutral prompts that hold them.

    Attributes:
        vectors: "<number> <word>" -> [vectors, text width], the class word first.
        prompts: number of the prompts.
    """

    def __init__(self, backbone: Backbone, encoded: EncodedSource, vectors: int) -> None:
        words = list(dict.fromkeys([encoded.class_word, *encoded.spatial, *encoded.temporal]))
        phrase, bindings = " ".join([*encoded.spatial, *encoded.temporal]), {word: [word] for word in words}
        prompts = [template.format(phrase) for template in TEMPLATES[encoded.kind]]
        self._backbone, self._encoded, self.prompts = backbone, encoded, len(prompts)
        self._templates = [
            (backbone.input_embeddings(prompt), bound_slots(backbone.tokenizer, prompt, bindings, backbone.text_slots))
            for prompt in prompts
        ]
        first = self._templates[0]
        self.vectors = {f"{number} {word}": initial(*first, word, vectors) for number, word in enumerate(words)}
        self._placed = dict(zip(words, self.vectors.values(), strict=True))

    def context(self, picked: Iterable[int]) -> Tensor:
        """The projected prompts of these numbers, [prompts, slots, width]. Differentiable."""
        embeddings = [replaced(*self._templates[index], self._placed) for index in picked]
        prompt_embeds = self._backbone.encode_embeddings(embeddings, length=max(map(len, embeddings)))
        return self._backbone.context(prompt_embeds)

    def loss(self, noise: NoiseLevels, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Loss of the source under prompts drawn with replacement, and its sigmas: what a `Stage` asks for."""
        sigmas = noise.draw(batch_size, generator)
        context = self.context(torch.randint(self.prompts, (batch_size,), generator=generator))
        latents = self._encoded.latents.expand(batch_size, *self._encoded.latents.shape)
        yield flow_matching_loss(self._backbone, latents, context, sigmas, generator), sigmas

    def report(self) -> dict[str, Tensor]:
        return {"norm": torch.cat([*self.vectors.values()]).norm(dim=-1).mean()}

    def learned(self) -> dict[str, Tensor]:
        return {name: vector.detach().cpu() for name, vector in self.vectors.items()}


def initial(embeddings: Tensor, slots: Mapping[str, list[int]], word: str, count: int) -> nn.Parameter:
    """`count` vectors [count, text width]: the embeddings of the word's tokens, taken in turn."""
    tokens = slots[word]
    return nn.Parameter(embeddings[[tokens[index % len(tokens)] for index in range(count)]].float().clone())


def by_word(learned: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A source's vectors by key word, the class word first."""
    numbered = sorted((name.split(" ", 1) for name in learned), key=lambda pair: int(pair[0]))
    return {word: learned[f"{number} {word}"] for number, word in numbered}


def replaced(
    embeddings: Tensor,
    slots: Mapping[str, list[int]],
    vectors: Mapping[str, Tensor],
    before: Mapping[int, Tensor] = MappingProxyType({}),
) -> Tensor:
    """Token embeddings [tokens, text width] in which each owner's run of slots has become that owner's vectors, and
    vectors `before` a slot stand in front of it.
    """
    owners = {slot: owner for owner, held in slots.items() for slot in held}
    pieces = []
    for slot, embedding in enumerate(embeddings):
        owner = owners.get(slot)
        if slot in before:
            pieces.append(before[slot].to(embeddings))
        if owner is None:
            pieces.append(embedding[None])
        elif owners.get(slot - 1) != owner:
            pieces.append(vectors[owner].to(embeddings))
    return torch.cat(pieces)


def compose(
    backbone: Backbone, jobs: Iterable[Job], settings: TextualInversionSettings, sampling: Sampling, media: Media
) -> Iterator[tuple[Job, np.ndarray]]:
    """Clips uint8 [T, H, W, 3] of the prompts with every bound word replaced by its source's vectors."""

    def contexts(case: Case, artifacts: Mapping[str, Path]) -> Contexts:
        return inverted(backbone, case, {source: load_artifact(artifacts[source])[0] for source in case.bind})

    return compose_with(contexts, backbone, jobs, sampling, media)


@torch.no_grad()
def inverted(backbone: Backbone, case: Case, learned: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
    """The projected prompt [1, slots, width], in which what is bound to a source of `learned` holds its vectors."""
    # Each bound phrase is an owner of its own, also where a source has several.
    bound = {str(place): pair for place, pair in enumerate((s, words) for s in case.bind for words in case.bind[s])}
    bindings = {place: [words] for place, (_, words) in bound.items()}
    phrases = bound_slots(backbone.tokenizer, case.prompt, bindings, backbone.text_slots)
    slots, vectors, before = {}, {}, {}
    for place, (source, _) in bound.items():
        if source not in learned:
            continue
        own, phrase = by_word(learned[source]), set(phrases[place])
        for word in own:
            held = mentions(backbone.tokenizer, case.prompt, word, backbone.text_slots)
            if inside := [slot for slot in held if slot in phrase]:
                slots[f"{place} {word}"], vectors[f"{place} {word}"] = inside, own[word]
        if not any(slot in phrase for inside in slots.values() for slot in inside):
            before[min(phrase)] = next(iter(own.values()))
    embeddings = replaced(backbone.input_embeddings(case.prompt), slots, vectors, before)[: backbone.text_slots]
    return backbone.context(backbone.encode_embeddings([embeddings]))
