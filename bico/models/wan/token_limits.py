"""Lengths of clips, in patch tokens, at which training switches its mode. Opens no model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bico.models.wan.backbone import GradientCheckpointing

CHECKPOINT_TOKENS = 4096
"""From this sequence length on gradient checkpointing is used, where the choice is "auto"."""


def needs_checkpointing(choice: GradientCheckpointing, tokens: int) -> bool:
    """Whether gradient checkpointing is used for clips with this number of patch tokens."""
    return choice == "always" or (choice == "auto" and tokens >= CHECKPOINT_TOKENS)


def at_once(tokens: int) -> int:
    """Number of clips with this number of patch tokens that pass through a training step together.

    Long clips pass one by one. Short clips together have at most as many patch tokens as the longest clip without
    gradient checkpointing.
    """
    return max(1, CHECKPOINT_TOKENS // tokens)
