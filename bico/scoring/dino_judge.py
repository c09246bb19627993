"""DINO as a judge of frames, which several scores share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import cast

import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

from bico.config.schema import Config
from bico.models.clip import Transform
from bico.models.weights import check_names, one_line


def open_dino_judge(config: Config, device: str) -> DinoJudge:
    """The DINO of a config, which sees as much of a frame as `scoring.dino_crop` says."""
    return DinoJudge(config.models.dino, crop=config.scoring.dino_crop, device=device)


class DinoJudge:
    """A timm vision transformer.

    Args:
        folder: in timm's format.
        crop: centre crop, as a share of a frame's shorter side; None = the preprocessing of the model's own config.

    Raises:
        InputError: a file of it is missing or damaged.
    """

    def __init__(self, folder: Path, *, crop: float | None = None, device: str = "cpu"):
        with one_line(folder):
            self.model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval().to(device)
            check_names(self.model, folder)
        own = resolve_model_data_config(self.model)
        created = create_transform(**own | ({"crop_pct": crop} if crop else {}), is_training=False)
        self.preprocess = cast(Transform, created)
        self.device = device

    @torch.no_grad()
    def features(self, frames: Iterable[np.ndarray]) -> torch.Tensor:
        """Unit features [T, D] of uint8 frames [H, W, 3], which may differ in size."""
        pixels = torch.stack([self.preprocess(Image.fromarray(frame)) for frame in frames]).to(self.device)
        return F.normalize(self.model(pixels), dim=1)
