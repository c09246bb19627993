"""What every method that learns from images makes of several photographs, and of a mask."""

from dataclasses import replace
from pathlib import Path

import adapters
import learned
import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from bico.methods.bico.settings import Settings as BicoSettings
from bico.methods.shared.protocol import learn_of
from bico.models.wan.backbone import Backbone
from bico.sources.encoding import EncodedSource, mask_weights
from bico.training.checkpoint import CHECKPOINT

FEW = {"global_steps": 2, "all_steps": 2}
SETTINGS = learned.SETTINGS | {
    "bico": BicoSettings(learning_rate=1e-2, batch_size=4, stages=FEW, clip_stages=FEW),
    "dreamvideo": adapters.DREAMVIDEO,
    "dualreal": adapters.DUALREAL,
}
OTHERS = {
    "bico, one caption": ("bico", {"diversification": False}),
    "bico, epochs": ("bico", {"caption_sampling": "epochs"}),
}
ROWS = [*SETTINGS, *OTHERS]


def photographs() -> EncodedSource:
    """A source of two photographs, whose latents are far above and far below zero: so noise does not hide which it
    is. The first two captions are of the first, the third is of the second."""
    ones = torch.ones(2, 4, 1, 4, 4) * torch.tensor([1e4, -1e4]).view(2, 1, 1, 1, 1)
    still = tiny.source("image", seed=1)
    appearance = torch.randn(2, tiny.APPEARANCE, generator=torch.Generator().manual_seed(0))
    two = {"photo_latents": ones, "caption_photos": torch.tensor([0, 0, 1]), "appearance": appearance}
    return replace(still, latents=ones[0], **two)


def masked(encoded: EncodedSource, share: float = 0.0) -> EncodedSource:
    """Of each photograph the left half counts, and of the right half this share."""
    mask = np.ones((32, 32), np.float32)
    mask[:, 16:] = share
    count = 1 if encoded.photo_latents is None else len(encoded.photo_latents)
    return replace(encoded, masks=torch.stack([mask_weights(mask, (4, 4))] * count))


def learn(row: str, backbone: Backbone, encoded: EncodedSource, workdir: Path, **changes: object) -> dict[str, Tensor]:
    name, own = OTHERS.get(row, (row, {}))
    settings = SETTINGS[name].model_copy(update={**own, **changes})
    given = {"still": encoded, "clip": tiny.source("video", seed=2)} if settings.LEARNS_PER == "case" else encoded
    return learn_of(name)(backbone, given, settings, shift=3.0, seed=0, workdir=workdir)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def velocities(monkeypatch):
    """Of images in training: the noisy latents that the transformer saw, and the gradient of what it predicted."""
    seen, gradients, plain = [], [], Backbone.velocity

    def watched(self, noisy, timesteps, contexts, *, training=False):
        velocity = plain(self, noisy, timesteps, contexts, training=training)
        if training and noisy.shape[2] == 1:
            seen.append(noisy.detach())
            velocity.register_hook(gradients.append)
        return velocity

    monkeypatch.setattr(Backbone, "velocity", watched)
    return seen, gradients


@pytest.mark.parametrize("row", ROWS)
def test_a_training_sees_every_photograph(backbone, velocities, tmp_path, row: str) -> None:
    learn(row, backbone, photographs(), tmp_path)
    which = torch.cat([noisy.mean(dim=(1, 2, 3, 4)) > 0 for noisy in velocities[0]])
    assert 0 < which.sum() < len(which)


@pytest.mark.parametrize("row", ROWS)
def test_an_interrupted_training_on_photographs_ends_in_the_same_tensors(
    backbone, tmp_path, monkeypatch, row: str
) -> None:
    encoded = masked(photographs(), 0.5)
    whole = learn(row, backbone, encoded, tmp_path / "whole", checkpoint_every=1)
    with tiny.breaking_off(monkeypatch, 1):
        learn(row, backbone, encoded, tmp_path / "broken", checkpoint_every=1)
    assert (tmp_path / "broken" / CHECKPOINT).exists()
    assert same(learn(row, backbone, encoded, tmp_path / "broken", checkpoint_every=1), whole)


@pytest.mark.parametrize("row", SETTINGS)
def test_what_a_mask_leaves_out_has_no_gradient(backbone, velocities, tmp_path, row: str) -> None:
    """In no step of any stage, whatever the transformer predicts there."""
    learn(row, backbone, masked(tiny.source("image", seed=1)), tmp_path)
    gradients = torch.cat(velocities[1])
    assert len(gradients) and not gradients[..., 2:].any() and gradients[..., :2].abs().amin() > 0


@pytest.mark.parametrize("row", SETTINGS)
def test_a_mask_that_leaves_nothing_out_changes_no_bit(backbone, tmp_path, row: str) -> None:
    still = tiny.source("image", seed=1)
    plain = learn(row, backbone, still, tmp_path / "plain")
    assert same(learn(row, backbone, masked(still, 1.0), tmp_path / "white"), plain)
    assert not same(learn(row, backbone, masked(still), tmp_path / "half"), plain)


@pytest.mark.parametrize("row", ["dreamvideo", "dualreal"])
def test_the_appearance_of_photographs_is_their_mean(backbone, tmp_path, row: str) -> None:
    encoded = photographs()
    assert torch.equal(learn(row, backbone, encoded, tmp_path)["appearance"], encoded.appearance.mean(dim=0))
