"""The text slots of the words of a prompt.

Slots are found by character offsets in the whole prompt, which the text encoder reads in one pass. Words are never
tokenised separately, because the result can differ at their edges: a leading space or a comma may share a token with
the word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from bico.core.errors import InputError
from bico.prompts.text import clean, whole

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerFast

SPACE = "▁"
"""SentencePiece's sign for a space: U+2581, which is not an underscore."""

Span = tuple[int, int]
"""Characters [start, end) of the cleaned prompt."""


def token_offsets(tokenizer: PreTrainedTokenizerFast, prompt: str, text_slots: int) -> list[Span]:
    """Character span of every token of the cleaned prompt, end-of-sequence last (its span is empty).

    Raises:
        InputError: the prompt needs more than `text_slots` slots; WanPipeline would cut it silently.
    """
    text = clean(prompt)
    offsets = word_offsets(_encoded(tokenizer, text))
    if len(offsets) > text_slots:
        raise InputError(f"prompt '{text}': {len(offsets)} tokens, at most {text_slots} fit the text slots; shorten it")
    return offsets


def _encoded(tokenizer: PreTrainedTokenizerFast, text: str) -> Encoding:
    return cast("list[Encoding]", tokenizer(text).encodings)[0]


def word_offsets(encoding: Encoding) -> list[Span]:
    """Character span of every token of an encoded text; empty if the token has no character of a word.

    "▁" means the space before a word. If it is a separate token, before a quote or before a character without a token
    such as "▁中", its offsets may be those of the word's first character, because the tokeniser inserts it.
    """
    pairs = zip(encoding.tokens, encoding.offsets, strict=True)
    return [(start, start if token == SPACE else end) for token, (start, end) in pairs]


def slots(prompt: str, bound: Mapping[str, Sequence[Span]], offsets: Sequence[Span]) -> dict[str, list[int]]:
    """Text slots whose tokens contain characters of each source's spans.

    White space does not belong to words. A token with the space before the next word belongs only to that word, and a
    token with only white space belongs to no word.

    Args:
        bound: spans by source, from `spans`.
        offsets: one per token, from `token_offsets` or `word_offsets`.

    Raises:
        InputError: a token contains characters of two sources, so no mask can separate them.
    """
    text = clean(prompt)
    tokens = [_without_space(text, span) for span in offsets]
    owned = {
        source: [slot for slot, token in enumerate(tokens) if any(overlap(token, span) for span in held)]
        for source, held in bound.items()
    }
    for slot, (start, end) in enumerate(tokens):
        if sum(slot in held for held in owned.values()) > 1:
            raise InputError(f"prompt '{text}': '{text[start:end]}' is one token and bound twice; put a space between")
    return owned


def _without_space(text: str, span: Span) -> Span:
    """`span` without white space at its ends; an empty span if it has only white space."""
    piece = text[span[0] : span[1]]
    start = span[0] + len(piece) - len(piece.lstrip())
    return start, max(start, span[0] + len(piece.rstrip()))


def mentions(tokenizer: PreTrainedTokenizerFast, text: str, word: str, text_slots: int) -> list[int]:
    """The text slots of all occurrences of a word or phrase in a text; upper and lower case count as the same.

    A text with more tokens than slots is cut, as in WanPipeline. Occurrences after the cut do not count.
    """
    found = re.finditer(whole(clean(word)), clean(text), re.IGNORECASE)
    bound = {word: [match.span() for match in found]}
    return slots(text, bound, word_offsets(_encoded(tokenizer, clean(text)))[: text_slots - 1])[word]


def overlap(a: Span, b: Span) -> bool:
    """Whether two spans share a character."""
    return max(a[0], b[0]) < min(a[1], b[1])
