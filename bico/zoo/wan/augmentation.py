"""Disturbances of projected words, which the DiT learns to ignore."""

from __future__ import annotations

import torch

from bico.zoo.wan import settings
from bico.zoo.wan.captions import Captions


def misplaced(whole: torch.Tensor, captions: Captions, draws: torch.Tensor, shift: int) -> torch.Tensor:
    """Features of names or their looks at words of another kind, such as a subject's colours at a motion.

    Args:
        whole: projected words [B, L, WIDTH].
        draws: [B, L, 4] in 0..1: whether a word gets such features, of which role, whether of a name (which includes
            its looks) or of looks alone, and how strong they are.
        shift: the features come from the caption that is so much further on in the batch.

    Returns:
        [B, L, WIDTH], to be added to the projected words.
    """
    chosen, which, name_or_looks, strength = draws.unbind(-1)
    foreign = (which * 3).long()
    foreign = torch.where(foreign == captions.role, (foreign + 1) % 3, foreign)
    foreign += 3 * (name_or_looks < 0.5)
    looks, names, role, words = (
        each.roll(-shift, 0) for each in (captions.says > 0, captions.stands > 0, captions.role, whole)
    )
    meant = [tokens & (role == kind) for tokens in (looks, names) for kind in range(3)]
    things = torch.stack(meant, 1).to(words.dtype) @ words  # [B, 6, WIDTH]
    given = torch.gather(things, 1, foreign[..., None].expand(-1, -1, things.shape[-1]))
    return given * (strength * (chosen < settings.MISPLACED) * captions.mask)[..., None]


def blur(size: int, generator: torch.Generator) -> torch.Tensor:
    """Noise, to be added to the projected words of a batch of captions: [size, L, WIDTH].

    The words of a small vocabulary lie far apart, and no caption shows the DiT a vector between them. Binders learn
    such vectors.
    """
    device, shape = generator.device, (size, settings.TOKENS, settings.WIDTH)
    length = settings.BLUR * (2 * torch.rand((size, 1, 1), generator=generator, device=device) - 1).clamp(min=0)
    return torch.randn(shape, generator=generator, device=device) * length / settings.WIDTH**0.5
