"""Checks that the special tokens of the backbone's tokenizer are those of the training of its text encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from bico.core.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

UNKNOWN = "\ue000"
"""A character of the private use area, which is in no vocabulary."""


def check_tokenizer(tokenizer: PreTrainedTokenizerFast, wan: Path) -> None:
    """Checks that padding and end of sequence are those of the text encoder, that a text ends with the latter, and that
    an unknown character becomes no other special token.

    In Wan2.1 padding is 0, the end of sequence 1, `<s>` 2 and the unknown token 3.

    Args:
        wan: the folder of the pipeline.

    Raises:
        InputError: one of them differs.
    """
    folder, config = wan / "tokenizer", json.loads((wan / "text_encoder" / "config.json").read_text(encoding="utf-8"))
    for kind in ("pad", "eos"):
        found, expected = getattr(tokenizer, f"{kind}_token_id"), config[f"{kind}_token_id"]
        if found != expected:
            raise InputError(
                f"{folder}: {kind}_token_id is {found}: expected {expected}, that of the text encoder's config.json; "
                "copy the tokenizer that belongs to it"
            )
    if tokenizer("").input_ids != [tokenizer.eos_token_id]:
        raise InputError(
            f"{folder}: texts do not end with {tokenizer.eos_token}: expected what the text encoder was trained with; "
            "copy the tokenizer.json that belongs to the model"
        )
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(UNKNOWN, add_special_tokens=False).input_ids)
    others = "<s>", tokenizer.eos_token, tokenizer.pad_token
    if wrong := [token for token in tokens if token in others]:
        raise InputError(
            f"{folder}: an unknown character becomes {wrong[0]}: expected {tokenizer.unk_token} or its bytes; copy "
            "the tokenizer.json that belongs to the model"
        )
