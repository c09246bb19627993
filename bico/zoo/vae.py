"""The Toybox's video VAE: an `AutoencoderKLWan` in closed form.

    python -m bico.zoo vae FOLDER     in seconds

Frames shrink 8x in each direction to 32 channels; each frame has a latent frame. (Wan2.1 also packs four frames into
one. A decoder that unpacks both time and space learns too slowly for a CPU.)

The encoder is a principal component analysis of the renders' 8x8 patches, written into the network's weights. Residual
branches are switched off. A constant channel makes the normalisation linear, and features with both signs make the
activation linear. The decoder is the inverse. So latents are ordered and decorrelated, and nothing has to be trained.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders import autoencoder_kl_wan as wan_vae

from bico.toybox.render import render
from bico.zoo.data import HELD_OUT_SEED, TRAIN_SEED, clip_pool, scenes, to_model

CHANNELS, PATCH = 32, 8
WIDTH = 72  # room for every channel with both signs, and the constant
POOL = 600  # clips to which the components are fitted
# The constant channel and the scale of the features beside it: small enough to make the last normalisation linear.
CONSTANT, SCALE = 10.0, 0.1

Tower = wan_vae.WanEncoder3d | wan_vae.WanDecoder3d


def build(mean: list[float] | None = None, std: list[float] | None = None) -> AutoencoderKLWan:
    return AutoencoderKLWan(
        base_dim=WIDTH,
        z_dim=CHANNELS,
        dim_mult=[1],
        num_res_blocks=1,
        temperal_downsample=[],
        latents_mean=mean or [0.0] * CHANNELS,
        latents_std=std or [1.0] * CHANNELS,
        in_channels=3 * PATCH**2,
        out_channels=3 * PATCH**2,
        patch_size=PATCH,
        scale_factor_temporal=1,
        scale_factor_spatial=PATCH,
    )


# diffusers encodes a clip in chunks with a cache of past frames; one pass over all frames gives the same numbers.


def encode(vae: AutoencoderKLWan, clips: torch.Tensor) -> torch.Tensor:
    """[B, 3, T, H, W] in -1..1 to the posterior's mean, [B, C, T, H/8, W/8]."""
    return vae.quant_conv(vae.encoder(wan_vae.patchify(clips, PATCH)))[:, :CHANNELS]


def decode(vae: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    return wan_vae.unpatchify(vae.decoder(vae.post_quant_conv(latents)), PATCH)


# --- the closed form ------------------------------------------------------------------------------------------------


def _write(layer: torch.nn.Conv3d, matrix: torch.Tensor, bias: torch.Tensor | float = 0.0) -> None:
    """Makes a convolution apply `matrix` [outputs, inputs] at each place of each frame, to its first channels."""
    outputs, inputs = matrix.shape
    centre = tuple(size - 1 if axis == 0 else size // 2 for axis, size in enumerate(layer.kernel_size))
    layer.weight.zero_()
    layer.weight[(slice(outputs), slice(inputs), *centre)] = matrix
    _bias(layer).zero_()
    _bias(layer)[:outputs] = bias


def _bias(layer: torch.nn.Module) -> torch.nn.Parameter:
    """The bias of a layer that has one."""
    return layer.get_parameter("bias")


def _switch_off(tower: Tower) -> None:
    """Sets the last layers of residual branches to zero, so that the branches add nothing."""
    for module in tower.modules():
        if isinstance(module, wan_vae.WanResidualBlock):
            torch.nn.init.zeros_(module.conv2.weight)
            torch.nn.init.zeros_(_bias(module.conv2))
        elif isinstance(module, wan_vae.WanAttentionBlock):
            torch.nn.init.zeros_(module.proj.weight)
            torch.nn.init.zeros_(_bias(module.proj))


def _linear(tower: Tower, into: torch.Tensor, shift: torch.Tensor, out: torch.Tensor) -> None:
    """Makes an encoder or a decoder compute out @ (into @ x + shift) at each place.

    All features have a channel for each sign, because silu(h) - silu(-h) = h. The constant dominates the normalisation,
    which then only multiplies them by sqrt(WIDTH) / CONSTANT.
    """
    _switch_off(tower)
    _write(tower.conv_in, SCALE * torch.cat([into, -into]), SCALE * torch.cat([shift, -shift]))
    _bias(tower.conv_in)[-1] = CONSTANT
    _write(tower.conv_out, torch.cat([out, -out], dim=1) * CONSTANT / WIDTH**0.5 / SCALE)


@torch.no_grad()
def fit_linear(vae: AutoencoderKLWan, clips: torch.Tensor) -> None:
    """Writes the principal components of the clips' patches into the encoder, and their inverse into the decoder."""
    patches = wan_vae.patchify(clips, PATCH).movedim(1, -1).flatten(0, -2)
    middle = patches.mean(0)
    _, axes = torch.linalg.eigh(torch.cov((patches - middle).T.double()))
    axes = axes.flip(1)[:, :CHANNELS].float()  # [192, CHANNELS], widest first
    unit = torch.eye(CHANNELS)
    _linear(vae.encoder, axes.T, -axes.T @ middle, unit)
    _linear(vae.decoder, unit, torch.zeros(CHANNELS), axes)
    _bias(vae.decoder.conv_out).copy_(middle)
    _write(vae.quant_conv, unit)
    _bias(vae.quant_conv)[CHANNELS:] = -12.0  # a posterior as sharp as the encoder is
    _write(vae.post_quant_conv, unit)


@torch.no_grad()
def latent_statistics(vae: AutoencoderKLWan, clips: torch.Tensor) -> tuple[list[float], list[float]]:
    """Mean of each latent channel, and the scale to divide by.

    The scale is proportional to the square root of the standard deviation, so wide components keep more than unit
    variance and narrow ones less. Noise then hides detail first and structure last, as it does in pixels.
    """
    latents = encode(vae, clips)
    mean, std = latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4))
    return mean.tolist(), (std.sqrt() * std.square().mean().sqrt().sqrt()).tolist()


# --- the folder -----------------------------------------------------------------------------------------------------


def train(out: Path, *, workdir: Path) -> None:
    """Fits encoder and decoder and saves them to `out`."""
    torch.manual_seed(0)  # for the branches that are switched off
    vae, sample = build(), to_model(clip_pool(workdir / "clips.npy", POOL, TRAIN_SEED))
    fit_linear(vae, sample)
    finished = build(*latent_statistics(vae, sample))
    finished.load_state_dict(vae.state_dict())
    # In float16 already here, as in the pipeline folder, because latents must not change when that is written.
    finished.half().save_pretrained(out)


@torch.no_grad()
def evaluate(folder: Path, *, count: int = 128) -> dict[str, float]:
    """PSNR in dB of reconstructions of held-out clips, mean over clips, by diffusers' own encode and decode."""
    vae = AutoencoderKLWan.from_pretrained(folder)
    values = []
    for scene in scenes(count, HELD_OUT_SEED):
        clip = to_model(render(scene)[None])
        latents = vae.encode(clip, return_dict=False)[0].mode()
        decoded = vae.decode(latents, return_dict=False)[0]
        values.append(10 * torch.log10(4 / (decoded - clip).square().mean()).item())
    return {"psnr": float(np.mean(values)), "psnr_worst": float(np.min(values))}
