"""Which text slots hold which words of a prompt.

Slots are found in the whole prompt, which the text encoder reads in one pass, by character offsets. Words are never
tokenised on their own: at the seams the two differ, where a leading space or a comma may share a token with the word.
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
"""SentencePiece's sign for a space: U+2581, no underscore."""

Span = tuple[int, int]
"""Characters [start, end) of the cleaned prompt."""


def token_offsets(tokenizer: PreTrainedTokenizerFast, prompt: str, text_slots: int) -> list[Span]:
    """Character span of every token of the cleaned prompt, end-of-sequence last (its span is empty).

    Raises:
        InputError: the prompt needs more than `text_slots` slots; WanPipeline would cut it without a word.
    """
    text = clean(prompt)
    offsets = word_offsets(_encoded(tokenizer, text))
    if len(offsets) > text_slots:
        raise InputError(f"prompt '{text}': {len(offsets)} tokens, at most {text_slots} fit the text slots; shorten it")
    return offsets


def _encoded(tokenizer: PreTrainedTokenizerFast, text: str) -> Encoding:
    return cast("list[Encoding]", tokenizer(text).encodings)[0]


def word_offsets(encoding: Encoding) -> list[Span]:
    """Character span of every token of an encoded text, empty where it holds no character of a word.

    "▁" stands for the space before a word. Where it is a token of its own, before a quote or a character without a
    token such as "▁中", its offsets may be those of the word's first character, because the tokeniser puts it in.
    """
    pairs = zip(encoding.tokens, encoding.offsets, strict=True)
    return [(start, start if token == SPACE else end) for token, (start, end) in pairs]


def slots(prompt: str, bound: Mapping[str, Sequence[Span]], offsets: Sequence[Span]) -> dict[str, list[int]]:
    """Text slots whose tokens carry characters of each source's spans.

    White space is no character of a word: a token that holds the space before the next word belongs to that word alone,
    and a token of white space alone to nobody.

    Args:
        bound: spans by source, from `spans`.
        offsets: one a token, from `token_offsets` or `word_offsets`.

    Raises:
        InputError: a token carries characters of two sources, so no mask can tell them apart.
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
    """`span` without white space at its ends; an empty span where nothing else is in it."""
    piece = text[span[0] : span[1]]
    start = span[0] + len(piece) - len(piece.lstrip())
    return start, max(start, span[0] + len(piece.rstrip()))


def mentions(tokenizer: PreTrainedTokenizerFast, text: str, word: str, text_slots: int) -> list[int]:
    """The text slots of a word or phrase, wherever it stands in a text, upper and lower case alike.

    A text of more tokens than slots is cut there, as in WanPipeline: what stands beyond is no mention.
    """
    found = re.finditer(whole(clean(word)), clean(text), re.IGNORECASE)
    bound = {word: [match.span() for match in found]}
    return slots(text, bound, word_offsets(_encoded(tokenizer, clean(text)))[: text_slots - 1])[word]


def overlap(a: Span, b: Span) -> bool:
    """Whether two spans share a character."""
    return max(a[0], b[0]) < min(a[1], b[1])
