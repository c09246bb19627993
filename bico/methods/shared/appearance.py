"""The appearance of a source, which some methods learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from bico.sources.encoding import EncodedSource


def appearance_of(encoded: EncodedSource) -> Tensor:
    """CLIP embeddings of the source's frames, [T, width]. Methods with `APPEARANCE` in their settings have them."""
    assert encoded.appearance is not None
    return encoded.appearance
