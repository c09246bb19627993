"""Opens and checks files of binders that were trained elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from bico.models.binder_form import ABSORPTION, EXPECTED, form
from bico.training.artifacts import check_tensors, load_brought


def load_binder(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a binder: an artifact of a benchmark, or a file of `bico import`.

    Raises:
        InputError: the file cannot be read, or holds no binder that is complete and finite.
    """
    tensors, metadata = load_brought(path, expected="the file of a binder")
    shapes = form(path, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    check_tensors(path, tensors, shapes, optional=ABSORPTION, expected=EXPECTED)
    return tensors, metadata
