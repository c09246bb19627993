"""Files of binders that come from elsewhere, looked through before anything is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from bico.models.binder_form import ABSORPTION, EXPECTED, form
from bico.training.artifacts import check_tensors, load_brought


def load_binder(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a binder: an artifact of a benchmark, or what `bico import` wrote.

    Raises:
        InputError: the file cannot be read, or there is no binder in it that is whole and finite.
    """
    tensors, metadata = load_brought(path, expected="the file of a binder")
    shapes = form(path, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    check_tensors(path, tensors, shapes, optional=ABSORPTION, expected=EXPECTED)
    return tensors, metadata
