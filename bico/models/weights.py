"""Opens a model's folder and checks that all weights come from it.

Libraries give random values to missing weights, with at most a warning.
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
    """Turns an error of a library that opens a folder into an InputError of one line, unless the GPU is full."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        import torch  # here, so that checks of a folder stay quick

        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise InputError(f"{folder}: cannot be opened ({' '.join(str(error).split())[:200]}): {REMEDY}") from None


def open_whole(from_pretrained: Callable[..., Any], folder: Path, **options: Any) -> Any:
    """A model of diffusers or transformers.

    Args:
        from_pretrained: method of the model's class.

    Raises:
        InputError: a weight is missing in its files or has another shape there, or a file cannot be read.
    """
    with one_line(folder):
        model, found = from_pretrained(folder, output_loading_info=True, **options)
    # Weights that an index names but no file holds are not reported as missing, and have no memory.
    left_out = [name for name, weight in model.state_dict().items() if weight.is_meta]
    _refuse(folder, "is not in its files", {*found["missing_keys"], *left_out})
    _refuse(folder, "has another shape there", found["mismatched_keys"])
    return model


def check_names(model: nn.Module, folder: Path) -> None:
    """Checks that the folder's model.safetensors has each weight of a model.

    timm does not check this if the number of classes differs from the folder's config.

    Raises:
        InputError: a weight is missing.
    """
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        _refuse(folder, "is not in its files", model.state_dict().keys() - set(file.keys()))


def _refuse(folder: Path, problem: str, names: Iterable[object]) -> None:
    if weights := sorted(map(str, names)):
        raise InputError(f"{folder}: {weights[0]} {problem} ({len(weights)} such weights): {REMEDY}")


def check_activation(folder: Path) -> None:
    """Checks that OpenAI's CLIP weights, recognised by the folder's name, use the activation of their training.

    The weights do not show the activation, and open_clip takes it from the folder's config.

    Raises:
        InputError: the config has another activation, or does not describe a model.
    """
    config = folder / "open_clip_config.json"
    model = json.loads(config.read_text(encoding="utf-8"))["model_cfg"]
    if not isinstance(model, dict):
        raise InputError(
            f"{config}: 'model_cfg' has no keys: expected a description of the model; copy the folder again"
        )
    if "openai" in folder.name and not model.get("quick_gelu"):
        raise InputError(
            f"{config}: OpenAI's weights need QuickGELU, with which they were trained: expected '\"quick_gelu\": "
            "true' in 'model_cfg'; add it there, or rename the folder if its weights are not OpenAI's"
        )
