import numpy as np
import pytest
import torch

from bico.core.errors import InputError
from bico.models.wan.backbone import Backbone


def test_clips_become_normalised_latents_and_come_back(backbone: Backbone) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    latents = backbone.encode_clip(frames)
    assert latents.shape == (4, 2, 4, 4)
    pixels = torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 127.5 - 1
    with torch.no_grad():
        raw = backbone.vae.encode(pixels).latent_dist.mode()[0]
    mean, std = (torch.tensor(values).view(-1, 1, 1, 1) for values in ([0.1, -0.2, 0.3, 0.0], [0.7, 1.3, 0.9, 1.1]))
    torch.testing.assert_close(latents, (raw - mean) / std)
    decoded = backbone.decode_clip(latents[None])
    assert decoded.shape == (1, 5, 32, 32, 3)
    assert decoded.dtype == np.uint8
    assert backbone.encode_clip(frames[:1]).shape == (4, 1, 4, 4)


def test_a_clip_of_numbers_that_are_not_finite_is_none(backbone: Backbone) -> None:
    latents = torch.zeros(1, 4, 2, 4, 4)
    latents[0, 0, 1, 2, 2] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        backbone.decode_clip(latents)


def test_a_value_for_each_patch_token_is_repeated_over_the_cells_of_its_patch(backbone) -> None:
    spread = backbone.at_places(torch.arange(8.0)[None], torch.Size([1, 4, 2, 4, 4]))
    assert spread.shape == (1, 1, 2, 4, 4)
    assert spread[0, 0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
