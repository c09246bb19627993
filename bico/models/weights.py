"""Opening a model's folder, so that each of its weights is the folder's own.

Libraries give random values to weights that they do not find, and say so in a warning at most.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from bico.core.errors import InputError

if TYPE_CHECKING:
    from torch import nn

REMEDY = "expected every weight of the model; copy the folder again, or install the versions of uv.lock"


@contextmanager
def one_line(folder: Path | str) -> Iterator[None]:
    """Turns what a library cannot open into an InputError of one line. A GPU that is full is no fault of the folder."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        import torch  # here, so that looking at a folder stays quick

        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise InputError(f"{folder}: cannot be opened ({' '.join(str(error).split())[:200]}): {REMEDY}") from None


def open_whole(from_pretrained: Callable[..., Any], folder: Path, **options: Any) -> Any:
    """A model of diffusers or transformers.

    Args:
        from_pretrained: of its class.

    Raises:
        InputError: its files lack a weight, or have one of another shape, or cannot be read.
    """
    with one_line(folder):
        model, found = from_pretrained(folder, output_loading_info=True, **options)
    # What an index names and no file holds is not reported as missing, and has no memory.
    left_out = [name for name, weight in model.state_dict().items() if weight.is_meta]
    _refuse(folder, "is not in its files", {*found["missing_keys"], *left_out})
    _refuse(folder, "has another shape there", found["mismatched_keys"])
    return model


def check_names(model: nn.Module, folder: Path) -> None:
    """Each weight of a model stands under its name in the folder's model.safetensors.

    timm does not look where the folder's config names another number of classes than it is opened with.

    Raises:
        InputError: one is not there.
    """
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        _refuse(folder, "is not in its files", model.state_dict().keys() - set(file.keys()))


def _refuse(folder: Path, problem: str, names: Iterable[object]) -> None:
    if weights := sorted(map(str, names)):
        raise InputError(f"{folder}: {weights[0]} {problem} ({len(weights)} such weights): {REMEDY}")


def check_activation(folder: Path) -> None:
    """OpenAI's CLIP weights, told by the folder's name, are opened with the activation that they were trained with.

    Nothing in the weights tells it, and open_clip believes the folder's config.

    Raises:
        InputError: the config says otherwise, or does not describe a model.
    """
    config = folder / "open_clip_config.json"
    model = json.loads(config.read_text(encoding="utf-8"))["model_cfg"]
    if not isinstance(model, dict):
        raise InputError(
            f"{config}: 'model_cfg' has no keys: expected a description of the model; copy the folder again"
        )
    if "openai" in folder.name and not model.get("quick_gelu"):
        raise InputError(
            f"{config}: OpenAI's weights without QuickGELU, with which they were trained: expected '\"quick_gelu\": "
            "true' in 'model_cfg'; add it there, or rename the folder if its weights are not OpenAI's"
        )
