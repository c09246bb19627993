"""Lengths of clips, in patch tokens, at which training changes how it goes. Opens no model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bico.models.wan.backbone import GradientCheckpointing

CHECKPOINT_TOKENS = 4096
"""From this sequence length on gradient checkpointing is used, where the choice is "auto"."""


def checkpoints(choice: GradientCheckpointing, tokens: int) -> bool:
    """Whether gradient checkpointing is used for clips with so many patch tokens."""
    return choice == "always" or (choice == "auto" and tokens >= CHECKPOINT_TOKENS)


def at_once(tokens: int) -> int:
    """How many clips with so many patch tokens go through a training step together.

    Long ones go one by one; short ones have no more patch tokens in all than one without gradient checkpointing.
    """
    return max(1, CHECKPOINT_TOKENS // tokens)
