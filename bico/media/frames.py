"""Which frames of a clip are looked at."""

import numpy as np


def spread(total: int, count: int) -> list[int]:
    """`count` positions evenly over `total` frames, the first and the last among them; all of them if fewer exist."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()
