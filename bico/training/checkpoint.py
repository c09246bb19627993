"""Checkpoints: the whole state of a training in one file, from which an interrupted run continues."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from bico.core.errors import InputError
from bico.core.files import clear_unfinished, replacing

CHECKPOINT = "checkpoint.safetensors"

log = logging.getLogger("bico")


def save(workdir: Path, step: int, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Writes parameters and optimiser, atomically. `step` is the next step.

    Raises InputError if a parameter is not finite: a training that continued from it would fail for ever.
    """
    if not all(parameter.isfinite().all() for parameter in parameters.values()):
        raise InputError(
            f"{workdir}: the parameters are no longer finite after step {step - 1}: lower the learning_rate; run again "
            "to continue from the checkpoint before"
        )
    tensors = {f"parameters.{name}": parameter.data for name, parameter in parameters.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    with replacing(workdir / CHECKPOINT) as unfinished:
        save_file(tensors, unfinished, metadata={"step": str(step), "sha256": _digest(tensors)})


def resume(workdir: Path, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> int:
    """Loads the checkpoint if there is one, and returns the next step. A damaged checkpoint is ignored."""
    path = workdir / CHECKPOINT
    clear_unfinished(path)
    if not path.exists():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except SafetensorError:
        tensors, metadata = {}, {}
    if metadata.get("sha256") != _digest(tensors):
        log.warning("%s: damaged: the training starts again from step 0", path)
        return 0
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        kind, name = key.split(".", 1)
        if kind == "parameters":
            parameters[name].data.copy_(tensor)
        else:
            index, name = name.split(".")
            state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    return int(metadata["step"])


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the names and numbers of tensors."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
