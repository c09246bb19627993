"""Captions as tensors: their tokens, the regions that tokens describe, and the names to which they refer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from bico.toybox.captions import BACKDROP, EVERYWHERE, GROUND, NOWHERE, SKY, Phrase, words
from bico.toybox.words import MOTIONS, SCENES, SUBJECTS
from bico.zoo.wan import settings

NAMED_HUES = ("hue_a", "hue_b", "sky", "ground")  # hues that captions name, see `bico.toybox.captions.Word`
FUNCTION_WORDS = (
    "a",
    "an",
    "the",
    "one",
    "this",
    "that",
    "which",
    "at",
    "in",
    "on",
    "of",
    "is",
    "with",
    "to",
    "from",
    "by",
    "out",
    "over",
    "under",
    "inside",
    "within",
    "across",
    "through",
    "during",
    "around",
    "amid",
    "deep",
    "down",
    "far",
    "late",
    "middle",
    "somewhere",
    "keeps",
    "goes",
    "seen",
    "shows",
)
# The rows of `Captions.about` that a phrase about an actor, by its number, or about a part of the scene fills.
ROWS = {
    **{actor: [actor] for actor in range(settings.ACTORS)},
    GROUND: [settings.ACTORS],
    SKY: [settings.ACTORS + 1],
    BACKDROP: [settings.ACTORS, settings.ACTORS + 1],
    EVERYWHERE: list(range(settings.REGIONS)),
    NOWHERE: [],
}


class Captions(NamedTuple):
    """Tokenised captions; all tensors but `about` are [N, L].

    Attributes:
        tokens: token ids, at least one slot of padding in each caption.
        mask: 1 for tokens, 0 for padding.
        about: [N, REGIONS, L], 1 in the rows of the regions that a token describes.
        said_of: slot of the name that a token describes; names, and words that describe no name, have their own slot.
        role: of that name: 0 subject, 1 motion, 2 scene, -1 none of them.
        says: 1 where a word describes a name, 0 for function words.
        meaning: row of the token in `words.Words.meaning`.
    """

    tokens: torch.Tensor
    mask: torch.Tensor
    about: torch.Tensor
    said_of: torch.Tensor
    role: torch.Tensor
    says: torch.Tensor
    meaning: torch.Tensor

    @property
    def stands(self) -> torch.Tensor:
        """float32 [N, L]: 1 for tokens that describe no other token."""
        return (self.said_of == torch.arange(self.said_of.shape[1], device=self.said_of.device)) * self.mask.float()

    @property
    def said(self) -> torch.Tensor:
        """float32 [N, L, L]: 1 where the word of the column describes the name of the row."""
        rows = torch.nn.functional.one_hot(self.said_of.long(), self.said_of.shape[1]).transpose(1, 2)
        return rows * self.says[:, None].float()

    @classmethod
    def joined(cls, parts: Iterable[Captions]) -> Captions:
        """The captions of all parts, one after the other."""
        return cls(*map(torch.cat, zip(*parts, strict=True)))

    def at(self, rows: torch.Tensor) -> Captions:
        """The captions of these rows."""
        return Captions(*(each[rows] for each in self))


def tokenize(tokenizer: PreTrainedTokenizerFast, captions: list[list[Phrase]]) -> Captions:
    """The captions as tokens, in small integers. Function words describe neither regions nor names."""
    texts = [" ".join(part.text for part in parts) for parts in captions]
    encoded = tokenizer(
        texts, padding="max_length", max_length=settings.TOKENS, return_offsets_mapping=True, return_tensors="np"
    )
    shape = encoded.input_ids.shape
    about = np.zeros((shape[0], settings.REGIONS, shape[1]), np.uint8)
    said_of = np.tile(np.arange(shape[1], dtype=np.uint8), (shape[0], 1))
    meaning = encoded.input_ids.astype(np.int16)
    for number, (parts, offsets) in enumerate(zip(captions, encoded.offset_mapping, strict=True)):
        _mark_regions(about[number], parts, offsets)
        _mark_names(said_of[number], meaning[number], parts, offsets, len(tokenizer))
    empty, *kinds = (
        tokenizer.convert_tokens_to_ids([*(f"▁{word}" for word in known), *marks])
        for known, marks in ((FUNCTION_WORDS, [","]), (SUBJECTS, []), (MOTIONS, []), (SCENES, []))
    )
    names = np.take_along_axis(encoded.input_ids, said_of.astype(np.int64), axis=1)
    role = np.select([np.isin(names, kind) for kind in kinds], range(len(kinds)), -1).astype(np.int8)
    content = ~np.isin(encoded.input_ids, empty)
    says = content & (said_of != np.arange(shape[1]))
    tokens, mask = encoded.input_ids.astype(np.int16), encoded.attention_mask.astype(np.uint8)
    arrays = tokens, mask, about * content[:, None], said_of, role, says.astype(np.uint8), meaning
    return Captions(*map(torch.from_numpy, arrays))


def _mark_regions(about: np.ndarray, parts: list[Phrase], offsets: np.ndarray) -> None:
    """Adds to `about` [REGIONS, L] what the tokens of each part describe.

    Args:
        offsets: [L, 2] first and last character of each token, equal where it has none.
    """
    start = 0
    for part in parts:
        end = start + len(part.text)
        held = (offsets[:, 1] > start) & (offsets[:, 1] <= end) & (offsets[:, 1] > offsets[:, 0])
        for row in ROWS[part.about]:
            about[row] += held
        start = end + 1


def _mark_names(
    said_of: np.ndarray, meaning: np.ndarray, parts: list[Phrase], offsets: np.ndarray, vocabulary: int
) -> None:
    """Writes into `said_of` [L] the slots of names, and moves `meaning` [L] of colours to the rows of their hue."""
    slot_of = {int(end): slot for slot, (start, end) in enumerate(offsets) if end > start}
    spoken = words(parts)
    slots = {word.start: slot_of[word.end] for word in spoken}
    for word in spoken:
        said_of[slots[word.start]] = slots[word.said_of]
        if word.hue is not None:
            meaning[slots[word.start]] += vocabulary * (1 + NAMED_HUES.index(word.hue))
