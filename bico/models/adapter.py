"""Bottleneck adapters (Houlsby et al., 2019) beside layers of the frozen transformer.

An untrained adapter adds zeros: the transformer then gives the very same numbers as without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Adapter(nn.Module):
    """Up(GELU(Down(x + W_c c))); Up is zero at the start. Weights are float32, matrix products in the dtype of x.

    Args:
        width: of a token x.
        hidden: between Down and Up.
        condition_width: of the condition c; 0 = there is none.

    Attributes:
        told: c of the running pass, [batch or 1, condition width]; None = zeros.
    """

    def __init__(self, width: int, hidden: int, condition_width: int = 0) -> None:
        super().__init__()
        self.condition = nn.Linear(condition_width, width, bias=False) if condition_width else None
        self.told: Tensor | None = None
        self.down, self.up = nn.Linear(width, hidden), nn.Linear(hidden, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """What to add to the layer's output [batch, tokens, width], from its input of the same shape."""
        with torch.autocast(tokens.device.type, tokens.dtype, enabled=tokens.dtype != torch.float32):
            if self.condition is not None and self.told is not None:
                tokens = tokens + self.condition(self.told)[:, None]
            return self.up(F.gelu(self.down(tokens)))


def tell(adapters: nn.Module, condition: Tensor | None) -> None:
    """Tells all adapters in a module the condition of the coming passes, [batch or 1, condition width]."""
    for adapter in adapters.modules():
        if isinstance(adapter, Adapter):
            adapter.told = condition


@contextmanager
def attached(pairs: Iterable[tuple[nn.Module, nn.Module]]) -> Iterator[list[nn.Module]]:
    """For as long as the context lasts, each layer has its adapters as `adapters`; yields the layers.

    Args:
        pairs: of a layer and an adapter, which becomes a part of the layer: `accelerated` sees that it learns.
    """
    held: dict[nn.Module, nn.ModuleList] = {}
    for layer, adapter in pairs:
        held.setdefault(layer, nn.ModuleList()).append(adapter)
    for layer, adapters in held.items():
        layer.adapters = adapters
    try:
        yield list(held)
    finally:
        for layer in held:
            del layer.adapters


@contextmanager
def beside(pairs: Iterable[tuple[nn.Module, nn.Module]]) -> Iterator[None]:
    """`attached`, and each layer's output has its adapters of the layer's first input added. They add up."""
    with attached(pairs) as layers:
        handles = [layer.register_forward_hook(_add) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    for adapter in layer.adapters:  # pyright: ignore[reportGeneralTypeIssues]  # the list that `beside` put there
        output = output + adapter(inputs[0]).to(output.dtype)
    return output
