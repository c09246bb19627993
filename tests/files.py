"""Files that tests of several packages write: a config, and clips of a moving square."""

from pathlib import Path

import numpy as np
import yaml


def write(config: dict, folder: Path) -> str:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return str(path)


def moving_square(frames: int, size: int = 48, side: int = 12) -> np.ndarray:
    """A red square that goes from the left to the right over a blue and green ground."""
    y, x = np.mgrid[:size, :size] * (255 // size)
    clip = np.repeat(np.stack([0 * x, x, y], axis=-1)[None], frames, axis=0).astype(np.uint8)
    for index, left in enumerate(np.linspace(0, size - side, frames).astype(int)):
        clip[index, side : 2 * side, left : left + side] = (255, 0, 0)
    return clip
