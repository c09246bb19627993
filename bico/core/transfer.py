"""Copies between main memory and a GPU for which neither waits: Python prepares a step while the GPU is still busy with
the one before. On a CPU there is nothing to copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device, where the copy takes its turn among all that has been asked for."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.contiguous().pin_memory()  # from pageable memory a copy would wait for the GPU
    return tensor.to(device, non_blocking=True)


def arriving(tensors: Mapping[str, Tensor]) -> Callable[[], dict[str, float | list[float]]]:
    """Sends for numbers; what it returns waits until they are there, not for what is asked of a GPU afterwards.

    Args:
        tensors: none of which changes meanwhile.
    """
    copies = {name: tensor.detach().to("cpu", non_blocking=True) for name, tensor in tensors.items()}
    here = None
    if any(tensor.is_cuda for tensor in tensors.values()):
        here = torch.cuda.Event()
        here.record()

    def numbers() -> dict[str, float | list[float]]:
        if here is not None:
            here.synchronize()
        return {name: copy.tolist() for name, copy in copies.items()}

    return numbers
