"""Artifacts: what a method has learned, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bico.core.errors import InputError
from bico.core.files import replacing
from bico.core.records import intact
from bico.models.binder_form import Shape, compare_shapes, listed

if TYPE_CHECKING:
    from bico.config.methods import MethodSettings


def provenance(settings: MethodSettings, source: str) -> dict[str, str]:
    """Metadata of an artifact: "method", "source" (or case) and "settings", the settings of training as JSON."""
    learning = json.dumps(settings.learning(), sort_keys=True)
    return {"method": settings.method, "source": source, "settings": learning}


def save_artifact(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], *, matrices: torch.dtype | None = None
) -> None:
    """Writes an artifact atomically.

    The metadata is one JSON value, because safetensors writes several values in an order that changes from run to run.

    Args:
        matrices: dtype in which tensors of two dimensions are stored; None = their own. Vectors and single numbers keep
            their dtype, because they need little space and some of them scale all others.
    """
    described = {"bico": json.dumps(metadata, sort_keys=True)}
    stored = {name: tensor.to(matrices) if tensor.ndim > 1 else tensor for name, tensor in tensors.items()}
    with replacing(path) as unfinished:
        save_file({name: tensor.contiguous() for name, tensor in stored.items()}, unfinished, metadata=described)


def load_artifact(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, float32, and metadata of `save_artifact`. Raises InputError if the file is damaged and has a record.

    Tensors are copied. Their alignment in the file depends on the length of the metadata, and some kernels round
    differently with another alignment. With copies a clip depends only on the numbers.
    """
    with safe_open(intact(path), framework="pt") as file:
        names = file.keys()  # `file` is not a mapping
        tensors = {name: file.get_tensor(name).to(torch.float32, copy=True) for name in names}
        return tensors, json.loads(file.metadata()["bico"])


def metadata_of(path: Path) -> dict[str, Any]:
    """Metadata of `save_artifact`, without the tensors; {} if the file has none."""
    with safe_open(path, framework="pt") as file:
        return json.loads((file.metadata() or {}).get("bico", "{}"))


def load_brought(path: Path, *, expected: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """`load_artifact` for a user's file. Both results are empty if it is not an artifact.

    Args:
        expected: what the file should be, for the error.

    Raises:
        InputError: the file cannot be read, or it is damaged and has a record.
    """
    try:
        tensors, metadata = load_artifact(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}): expected {expected}") from None
    except (SafetensorError, TypeError, KeyError, ValueError):  # the last three: our metadata is missing
        return {}, {}
    return (tensors, metadata) if isinstance(metadata, dict) else ({}, {})


def check_tensors(
    path: Path, tensors: Mapping[str, Tensor], shapes: Mapping[str, Shape], *, optional: str, expected: str
) -> None:
    """Checks the tensors of a user's file. For the arguments see `compare_shapes`.

    Raises:
        InputError: a tensor is missing, unknown, of another shape, or holds a number that is not finite.
    """
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    compare_shapes(path, found, shapes, optional=optional, expected=expected)
    if wrong := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise InputError(f"{path}: not finite: {listed(wrong)}: expected {expected}, of finite numbers")
