"""How features of frames become one feature of a clip, and similarities to several sources one score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def pool(features: Tensor, pooling: str) -> Tensor:
    """Pools unit frame features [T, D] to one feature [D]: their mean ("mean"), or scaled to length 1
    ("renormalised").

    For several photographs of one subject and "mean", a similarity to the pooled feature is the mean over the
    photographs, as in DreamBooth's DINO score.
    """
    from torch.nn.functional import normalize

    mean = features.mean(dim=0)
    return normalize(mean, dim=0) if pooling == "renormalised" else mean


def harmonic_mean(similarities: Sequence[float]) -> float:
    """Harmonic mean. It is 0 if any similarity is not positive, which is its limit as a similarity falls to 0."""
    if min(similarities) <= 0:
        return 0.0
    return len(similarities) / sum(1 / similarity for similarity in similarities)
