"""What a method learned, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from bico.core.errors import InputError
from bico.core.files import replacing
from bico.core.records import intact
from bico.models.binder_form import Shape, compare_shapes, told

if TYPE_CHECKING:
    from bico.config.methods import MethodSettings


def provenance(settings: MethodSettings, source: str) -> dict[str, str]:
    """Metadata of an artifact: "method", "source" (or case) and "settings", a JSON object of those of learning."""
    learning = json.dumps(settings.learning(), sort_keys=True)
    return {"method": settings.method, "source": source, "settings": learning}


def save_artifact(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Writes what a method learned, atomically.

    The metadata is one JSON value: safetensors writes several in an order that changes from run to run.
    """
    described = {"bico": json.dumps(metadata, sort_keys=True)}
    with replacing(path) as unfinished:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, unfinished, metadata=described)


def load_artifact(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of `save_artifact`. Raises InputError if the file is damaged and has a record.

    Where a tensor lies in the file depends on the length of the metadata, and some kernels round otherwise where memory
    is aligned otherwise: copies make a clip a function of the numbers alone.
    """
    with safe_open(intact(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a mapping)
        return tensors, json.loads(file.metadata()["bico"])


def check_tensors(
    path: Path, tensors: Mapping[str, Tensor], shapes: Mapping[str, Shape], *, optional: str, expected: str
) -> None:
    """Looks through a file that somebody brings along; arguments and errors are those of `compare_shapes`.

    Raises:
        InputError: a tensor is missing, unknown, of another shape, or holds a number that is not finite.
    """
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    compare_shapes(path, found, shapes, optional=optional, expected=expected)
    if wrong := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise InputError(f"{path}: not finite: {told(wrong)}: expected {expected}, of finite numbers")
