"""Bottleneck adapters (Houlsby et al., 2019) parallel to layers of the frozen transformer.

An untrained adapter adds zeros, so the transformer then gives exactly the same numbers as without it.
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
        width: width of a token x.
        hidden: width between Down and Up.
        condition_width: width of the condition c; 0 = there is none.

    Attributes:
        current_condition: condition c of the present pass, [batch or 1, condition width]; None = zeros.
    """

    def __init__(self, width: int, hidden: int, condition_width: int = 0) -> None:
        super().__init__()
        self.condition = nn.Linear(condition_width, width, bias=False) if condition_width else None
        self.current_condition: Tensor | None = None
        self.down, self.up = nn.Linear(width, hidden), nn.Linear(hidden, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """The change of the layer's output [batch, tokens, width], from its input of the same shape."""
        with torch.autocast(tokens.device.type, tokens.dtype, enabled=tokens.dtype != torch.float32):
            if self.condition is not None and self.current_condition is not None:
                tokens = tokens + self.condition(self.current_condition)[:, None]
            return self.up(F.gelu(self.down(tokens)))


def set_condition(adapters: nn.Module, condition: Tensor | None) -> None:
    """Sets the condition of all adapters in a module for the next passes, [batch or 1, condition width]."""
    for adapter in adapters.modules():
        if isinstance(adapter, Adapter):
            adapter.current_condition = condition


@contextmanager
def attached(pairs: Iterable[tuple[nn.Module, nn.Module]]) -> Iterator[list[nn.Module]]:
    """Within the context, each layer has its adapters as `adapters`. Yields the layers.

    Args:
        pairs: pairs of a layer and an adapter. The adapter becomes a submodule of the layer, so `accelerated` can see
            that it is trained.
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
    """Like `attached`; in addition the outputs of a layer's adapters, for its first input, are added to its output."""
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
