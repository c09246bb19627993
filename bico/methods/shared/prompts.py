"""Plain prompts as input of the cross-attention."""

from __future__ import annotations

from torch import Tensor

from bico.models.wan.backbone import Backbone


def project(backbone: Backbone, prompt: str) -> Tensor:
    """Projected prompt [1, slots, width]."""
    prompt_embeds, _ = backbone.encode_prompts([prompt])
    return backbone.context(prompt_embeds)
