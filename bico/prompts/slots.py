"""From a prompt and its bindings to the text slots that each source's concept owns.

A case binds words or phrases of its prompt to sources. Slots are found in the whole prompt (the text encoder reads it
in one pass) by character offsets, never by tokenising words on their own: the two differ at the seams, where a leading
space or a comma may share a token with the word.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import ftfy

from bico.core.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Span = tuple[int, int]
"""Characters [start, end) of the cleaned prompt."""


def clean(text: str) -> str:
    """The text as Wan's text encoder reads it: mojibake repaired, HTML entities resolved, white space single."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split())


def spans(prompt: str, bindings: Mapping[str, Sequence[str]]) -> dict[str, list[Span]]:
    """Characters of the cleaned prompt that each source's words occupy.

    A word or phrase must stand there verbatim, as whole words. Longer phrases are placed first, each at the first
    occurrence that no other binding holds: so the nth binding of a repeated word takes its nth occurrence.

    Raises:
        InputError: there is no such place.
    """
    text = clean(prompt)
    words = [(source, clean(word)) for source, bound in bindings.items() for word in bound]
    taken: dict[str, list[Span]] = {source: [] for source in bindings}
    for source, word in sorted(words, key=lambda pair: -len(pair[1])):
        held = [span for placed in taken.values() for span in placed]
        whole = re.sub(r"^\b|\b$", r"\\b", re.escape(word))  # punctuation has no boundary to keep to
        found = [match.span() for match in re.finditer(whole, text)]
        free = [span for span in found if not any(_overlap(span, other) for other in held)]
        if not free:
            reason = "is bound already wherever it stands in" if found else "is not in"
            raise InputError(f"'{word}' (bound to {source}) {reason} the prompt '{text}': expected it there verbatim")
        taken[source].append(free[0])
    return {source: sorted(placed) for source, placed in taken.items()}


def token_offsets(tokenizer: PreTrainedTokenizerFast, prompt: str, text_slots: int) -> list[Span]:
    """Character span of every token of the cleaned prompt, end-of-sequence last (its span is empty).

    Raises:
        InputError: the prompt needs more than `text_slots` slots; WanPipeline would cut it without a word.
    """
    text = clean(prompt)
    offsets = tokenizer(text, return_offsets_mapping=True).offset_mapping
    if len(offsets) > text_slots:
        raise InputError(f"prompt '{text}': {len(offsets)} tokens, at most {text_slots} fit the text slots; shorten it")
    return [tuple(span) for span in offsets]


def slots(prompt: str, bound: Mapping[str, Sequence[Span]], offsets: Sequence[Span]) -> dict[str, list[int]]:
    """Text slots whose tokens carry characters of each source's spans.

    White space is no character of a word: a token that holds the space before the next word belongs to that word alone,
    and a token of white space alone to nobody.

    Args:
        bound: spans by source, from `spans`.
        offsets: one a token, from `token_offsets`.

    Raises:
        InputError: a token carries characters of two sources, so no mask can tell them apart.
    """
    text = clean(prompt)
    tokens = [_without_space(text, span) for span in offsets]
    owned = {
        source: [slot for slot, token in enumerate(tokens) if any(_overlap(token, span) for span in held)]
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


def _overlap(a: Span, b: Span) -> bool:
    return max(a[0], b[0]) < min(a[1], b[1])


def bound_slots(
    tokenizer: PreTrainedTokenizerFast, prompt: str, bindings: Mapping[str, Sequence[str]], text_slots: int
) -> dict[str, list[int]]:
    """The text slots of each source's words in `prompt`: `spans`, `token_offsets` and `slots` in one."""
    return slots(prompt, spans(prompt, bindings), token_offsets(tokenizer, prompt, text_slots))


def mentions(tokenizer: PreTrainedTokenizerFast, text: str, word: str, text_slots: int) -> list[int]:
    """The text slots of a word or phrase, wherever it stands in a text, upper and lower case alike.

    A text of more tokens than slots is cut there, as in WanPipeline: what stands beyond is no mention.
    """
    found = re.finditer(rf"(?<!\w){re.escape(clean(word))}(?!\w)", clean(text), re.IGNORECASE)
    bound = {word: [match.span() for match in found]}
    offsets = tokenizer(clean(text), return_offsets_mapping=True).offset_mapping[: text_slots - 1]
    return slots(text, bound, offsets)[word]
