"""Progress lines of renderings and trainings."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass
class Progress:
    """Prints a line on stderr every `every` seconds: steps done, means of metrics since the last line, rate and ETA.

    Metrics that are tensors are read only for a line, because reading one waits until the GPU has computed it.
    """

    name: str
    total: int
    done: int = 0
    every: float = 10.0
    _sums: dict[str, list[float | torch.Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._start, self._first, self._last = time.monotonic(), self.done, time.monotonic()

    def update(self, done: int, **metrics: float | torch.Tensor) -> None:
        for key, value in metrics.items():
            self._sums.setdefault(key, []).append(value.detach() if isinstance(value, torch.Tensor) else value)
        now = time.monotonic()
        if now - self._last < self.every and done < self.total:
            return
        rate = (done - self._first) / max(now - self._start, 1e-9)
        left = (self.total - done) / max(rate, 1e-9)
        averages = " ".join(
            f"{key} {np.mean([float(value) for value in values]):.4g}" for key, values in self._sums.items()
        )
        text = f"{self.name} {done}/{self.total} {averages} {rate:.2f}/s eta {left / 60:.1f} min"
        print(text, file=sys.stderr, flush=True)
        self._last, self._sums = now, {}
