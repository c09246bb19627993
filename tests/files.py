"""Files that tests of several packages write: a config, weights of models, and clips of a moving square."""

from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import save_file

from bico.pipeline.model_folders import WEIGHTS


def write(config: dict, folder: Path) -> str:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return str(path)


def write_weights(model: str, folder: Path) -> None:
    """The files of weights of a model's folder, whole, with a single number in each."""
    for stem in WEIGHTS[model]:
        path = folder / f"{stem}.safetensors"
        path.parent.mkdir(exist_ok=True)
        save_file({"weight": np.zeros(1, np.float32)}, path)


def moving_square(frames: int, size: int = 48, side: int = 12) -> np.ndarray:
    """A red square that goes from the left to the right over a blue and green ground."""
    y, x = np.mgrid[:size, :size] * (255 // size)
    clip = np.repeat(np.stack([0 * x, x, y], axis=-1)[None], frames, axis=0).astype(np.uint8)
    for index, left in enumerate(np.linspace(0, size - side, frames).astype(int)):
        clip[index, side : 2 * side, left : left + side] = (255, 0, 0)
    return clip
