"""Asynchronous copies between main memory and a GPU: Python prepares a step while the GPU still computes the previous
one. On a CPU nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device. The copy is queued behind the work that the GPU already has."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.contiguous().pin_memory()  # a copy from pageable memory would wait for the GPU
    return tensor.to(device, non_blocking=True)


def arriving(tensors: Mapping[str, Tensor]) -> Callable[[], dict[str, float | list[float]]]:
    """Starts copying numbers from the GPU. The returned function waits for these numbers, but not for later GPU work.

    Args:
        tensors: tensors that do not change until then.
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
