"""The whole state of a training in one file, from which a run that was cut off goes on."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from bico.core.files import replacing

CHECKPOINT = "checkpoint.safetensors"


def save(workdir: Path, step: int, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Writes parameters and optimiser, atomically; `step` is the one to go on with."""
    tensors = {f"parameters.{name}": parameter.data for name, parameter in parameters.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    with replacing(workdir / CHECKPOINT) as unfinished:
        save_file(tensors, unfinished, metadata={"step": str(step)})


def resume(workdir: Path, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> int:
    """Loads the checkpoint, if there is one; returns the step to go on with."""
    path = workdir / CHECKPOINT
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as file:
        state: dict[int, dict[str, Tensor]] = {}
        for key in file.keys():  # noqa: SIM118 (not a mapping)
            kind, name = key.split(".", 1)
            if kind == "parameters":
                parameters[name].data.copy_(file.get_tensor(key))
            else:
                index, name = name.split(".")
                state.setdefault(int(index), {})[name] = file.get_tensor(key)
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
        return int(file.metadata()["step"])
