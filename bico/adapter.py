"""Bottleneck adapters (Houlsby et al., 2019) beside layers of the frozen transformer.

An untrained adapter adds zeros: the transformer then gives the very same numbers as without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor, nn


class Adapter(nn.Module):
    """Up(GELU(Down(x + W_c c))), in float32; Up is zero at the start.

    Args:
        width: of a token x.
        hidden: between Down and Up.
        condition_width: of the condition c; 0 = there is none.
    """

    def __init__(self, width: int, hidden: int, condition_width: int = 0) -> None:
        super().__init__()
        self.condition = nn.Linear(condition_width, width, bias=False) if condition_width else None
        self.down, self.up = nn.Linear(width, hidden), nn.Linear(hidden, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """What to add to the layer's output [batch, tokens, width].

        Args:
            tokens: the layer's input, [batch, tokens, width].
            condition: [batch or 1, condition width]; None = zeros.
        """
        tokens = tokens.float()
        if self.condition is not None and condition is not None:
            tokens = tokens + self.condition(condition)[:, None]
        return self.up(F.gelu(self.down(tokens)))


@contextmanager
def beside(layers: Iterable[tuple[nn.Module, Callable[[Tensor], Tensor]]]) -> Iterator[None]:
    """For as long as the context lasts, each layer's output has a function of its first input added.

    Functions beside the same layer add up.
    """

    def hook(change: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        return lambda layer, inputs, output: output + change(inputs[0]).to(output.dtype)

    handles = [layer.register_forward_hook(hook(change)) for layer, change in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
