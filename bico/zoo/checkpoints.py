"""Checkpoints from which a training resumes exactly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from bico.core.files import replacing


def own_folder(workdir: Path, of: Mapping[str, object]) -> Path:
    """The folder in `workdir` of a training with these settings, so that it never resumes from those of another."""
    text = json.dumps(of, sort_keys=True, default=str)
    return workdir / hashlib.sha256(text.encode()).hexdigest()[:12]


def save_checkpoint(
    path: Path, step: int, modules: dict[str, torch.nn.Module], optimizer: torch.optim.Optimizer
) -> None:
    """Writes all weights and the optimiser's moments to one safetensors file, atomically."""
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": torch.as_tensor(value) for key, value in state.items()}
    whole = {key: value.detach().clone().contiguous() for key, value in tensors.items()}
    with replacing(path) as unfinished:
        save_file(whole, unfinished, {"step": str(step)})


def load_checkpoint(path: Path, modules: dict[str, torch.nn.Module], optimizer: torch.optim.Optimizer) -> int:
    """Loads modules and optimiser from a checkpoint, and returns the next step; 0 if there is no checkpoint."""
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        step = int(file.metadata()["step"])
    for name, module in modules.items():
        prefix = f"{name}/"
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return step
