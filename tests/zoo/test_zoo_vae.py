"""The closed form of the Toybox's VAE."""

import numpy as np
import pytest
import torch

from bico.toybox.render import render
from bico.zoo import vae
from bico.zoo.data import HELD_OUT_SEED, TRAIN_SEED, scenes, to_model


@pytest.fixture(scope="module")
def fitted():
    model = vae.build()
    vae.fit_linear(model, to_model(np.stack([render(scene) for scene in scenes(60, TRAIN_SEED)])))
    return model


@pytest.fixture(scope="module")
def held_out() -> torch.Tensor:
    return to_model(np.stack([render(scene) for scene in scenes(4, HELD_OUT_SEED)]))


def test_the_closed_form_vae_reconstructs(fitted, held_out):
    with torch.no_grad():
        decoded = vae.decode(fitted, vae.encode(fitted, held_out))
    assert 10 * torch.log10(4 / (decoded - held_out).square().mean()) > 28


def test_one_pass_equals_the_chunks_of_diffusers(fitted, held_out):
    with torch.no_grad():
        latents = fitted.encode(held_out).latent_dist.mode()
        assert torch.allclose(vae.encode(fitted, held_out), latents, atol=1e-4)
        assert torch.allclose(vae.decode(fitted, latents).clamp(-1, 1), fitted.decode(latents).sample, atol=1e-4)


def test_a_frame_of_a_clip_is_encoded_like_an_image(fitted, held_out):
    with torch.no_grad():
        clip, image = (vae.encode(fitted, part) for part in (held_out, held_out[:, :, 3:4]))
    assert torch.allclose(clip[:, :, 3:4], image, atol=1e-4)
