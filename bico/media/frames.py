"""Selects frames of a clip."""

import numpy as np


def spread(total: int, count: int) -> list[int]:
    """`count` positions spaced evenly over `total` frames, with the first and the last; all of them if fewer exist."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()


def every(total: int, step: float) -> list[int]:
    """The positions in `total` frames that are nearest to 0, `step`, 2 * `step` and so on; `step` is 1 or more."""
    return np.arange(0, total - 0.5, step).round().astype(int).tolist()
