"""Absorption tokens: their places beside a caption, and the tokens on which the binder acts."""

from __future__ import annotations

import torch
from torch import Tensor

from bico.core.transfer import to_device
from bico.methods.bico.settings import Absorption


def with_absorption(
    context: Tensor, token_counts: Tensor, absorption: Tensor, settings: Absorption, words: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Places the absorption tokens, and marks the tokens on which the binder acts: these and the words, not
    end-of-sequence.

    Args:
        context: [batch, slots, width].
        token_counts: with end-of-sequence, [batch], in main memory.
        absorption: [tokens, width].
        words: the words on which the binder acts, bool [batch, slots], in main memory; None = all.

    Returns:
        Context, and mask bool [batch, slots], in main memory. A caption that fills all slots loses its last tokens.
    """
    batch, slots, _ = context.shape
    count = token_counts[:, None] - 1
    mask = torch.arange(slots) < count if words is None else words
    if len(absorption) == 0:
        return context, mask
    start = count + 1 if settings.slot == "append" else count
    start = start.clamp(max=slots - len(absorption))
    rows, columns = torch.arange(batch)[:, None], start + torch.arange(len(absorption))
    context, mask = context.clone(), mask.clone()
    context[to_device(rows, context.device), to_device(columns, context.device)] = absorption
    mask[rows, columns] = True
    return context, mask
