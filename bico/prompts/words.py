"""The words of a prompt that are bound to each source, and the words that an edit keeps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bico.core.errors import InputError
from bico.prompts.slots import Span, overlap, slots, token_offsets
from bico.prompts.text import clean, has_word, whole

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def spans(prompt: str, bindings: Mapping[str, Sequence[str]]) -> dict[str, list[Span]]:
    """Characters of the cleaned prompt that belong to each source's words.

    The prompt must contain a word or phrase verbatim, as whole words. Longer phrases are placed first, each at the
    first occurrence that is still free. So the nth binding of a repeated word gets its nth occurrence.

    Raises:
        InputError: there is no such place.
    """
    text = clean(prompt)
    words = [(source, clean(word)) for source, bound in bindings.items() for word in bound]
    taken: dict[str, list[Span]] = {source: [] for source in bindings}
    for source, word in sorted(words, key=lambda pair: -len(pair[1])):
        held = [span for placed in taken.values() for span in placed]
        found = [match.span() for match in re.finditer(whole(word), text)]
        free = [span for span in found if not any(overlap(span, other) for other in held)]
        if not free:
            reason = "is bound already wherever it stands in" if found else "is not in"
            raise InputError(f"'{word}' (bound to {source}) {reason} the prompt '{text}': expected it there verbatim")
        taken[source].append(free[0])
    return {source: sorted(placed) for source, placed in taken.items()}


def swapped(prompt: str, swap: Mapping[str, str]) -> tuple[str, list[str]]:
    """The prompt with words replaced, and the phrases between them, which an edit keeps bound. A piece without a letter
    or a digit, such as a full stop, is not a phrase.

    Args:
        swap: word of the prompt -> its replacement.
    """
    pieces = re.split(f"({'|'.join(map(whole, swap))})", prompt)
    unchanged = [piece.strip() for piece in pieces[::2] if has_word(piece)]
    return "".join(swap.get(piece, piece) for piece in pieces), unchanged


def bound_slots(
    tokenizer: PreTrainedTokenizerFast, prompt: str, bindings: Mapping[str, Sequence[str]], text_slots: int
) -> dict[str, list[int]]:
    """The text slots of each source's words in `prompt`: `spans`, `token_offsets` and `slots` in one."""
    return slots(prompt, spans(prompt, bindings), token_offsets(tokenizer, prompt, text_slots))
