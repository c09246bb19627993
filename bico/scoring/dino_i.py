"""DINO-I: how similar a clip is to each of its visual inputs, as DINO's similarity of frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

from bico.models.clip import Transform
from bico.models.weights import check_names, one_line
from bico.scoring.clip_t import pool


def harmonic_mean(similarities: list[float]) -> float:
    """Harmonic mean. It is 0 if any similarity is not positive, which is its limit as a similarity falls to 0."""
    if min(similarities) <= 0:
        return 0.0
    return len(similarities) / sum(1 / similarity for similarity in similarities)


class DinoI:
    """A timm vision transformer.

    Args:
        model: a folder in timm's format, or the name of a pretrained model, such as "vit_small_patch16_224.dino".
        pooling: see `clip_t.pool`; an input video is pooled like a generated one.
        crop: centre crop, as a share of a frame's shorter side; None = the preprocessing of the model's own config.

    Raises:
        InputError: a file of the folder is missing or damaged.
    """

    def __init__(self, model: Path | str, *, pooling: str = "mean", crop: float | None = None, device: str = "cpu"):
        is_folder = Path(model).is_dir()
        name = f"local-dir:{model}" if is_folder else str(model)
        with one_line(model):
            self.model = timm.create_model(name, pretrained=True, num_classes=0).eval().to(device)
            if is_folder:
                check_names(self.model, Path(model))
        own = resolve_model_data_config(self.model)
        created = create_transform(**own | ({"crop_pct": crop} if crop else {}), is_training=False)
        self.preprocess = cast(Transform, created)
        self.pooling, self.device = pooling, device

    @torch.no_grad()
    def features(self, frames: np.ndarray) -> torch.Tensor:
        """Unit features [T, D] of uint8 frames [T, H, W, 3]."""
        pixels = torch.stack([self.preprocess(Image.fromarray(frame)) for frame in frames]).to(self.device)
        return F.normalize(self.model(pixels), dim=1)

    def reference(self, frames: np.ndarray) -> torch.Tensor:
        """Feature [D] of an input uint8 [T, H, W, 3], with which clips are compared.

        T may be the number of photographs of one subject. With pooling "mean" the similarity is then the mean over the
        photographs, as in DreamBooth's DINO score.
        """
        return pool(self.features(frames), self.pooling)

    def score(self, frames: np.ndarray, references: Mapping[str, torch.Tensor]) -> tuple[float, dict[str, list[float]]]:
        """DINO-I x100 of a clip uint8 [T, H, W, 3]. `references` holds the features of all its inputs, by source.

        Also returns, by source, the similarity x100 of each frame to that input.
        """
        features = self.features(frames)
        clip = pool(features, self.pooling)
        similarities = [(clip @ reference).item() for reference in references.values()]
        frame_values = {source: (100 * features @ reference).tolist() for source, reference in references.items()}
        return 100 * harmonic_mean(similarities), frame_values
