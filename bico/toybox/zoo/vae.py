"""The Toybox's video VAE: an `AutoencoderKLWan` whose encoder is fitted in closed form and whose decoder is trained.

    bico zoo vae            encoder in a minute, decoder in about 25 on two cores

Layout as in Wan2.1: 8x smaller in space, 4x in time, the first frame alone; so a clip's first latent frame is the
latent of its first frame as an image.

The encoder is a principal component analysis of the renders, written into the network's weights: residual branches are
switched off, each strided convolution gathers its patch, and a large constant channel makes the last normalisation and
activation linear. That costs seconds instead of hours of gradient descent, gives latents that are ordered and
decorrelated, and leaves the text-to-video model free to start before the decoder is done.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders import autoencoder_kl_wan as wan_vae
from safetensors.torch import load_file, save_file

from bico.toybox.render import render
from bico.toybox.zoo.common import (
    HELD_OUT_SEED,
    TRAIN_SEED,
    Progress,
    batches,
    clip_pool,
    cosine_rate,
    load_checkpoint,
    save_checkpoint,
    scenes,
    to_model,
)

CHANNELS = 48  # of the latents, as in Wan2.2
WIDTH, DECODER_WIDTH, MULTIPLIERS = 24, 16, [1, 4, 4]
BATCH, RATE, POOL = 8, 2e-3, 8_000
# The constant channel, far above any feature: what is left of the normalisation's and activation's curvature is
# below a thousandth of the signal.
CONSTANT = 1e4


def build(mean: list[float] | None = None, std: list[float] | None = None) -> AutoencoderKLWan:
    return AutoencoderKLWan(
        base_dim=WIDTH,
        decoder_base_dim=DECODER_WIDTH,
        z_dim=CHANNELS,
        dim_mult=MULTIPLIERS,
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=mean or [0.0] * CHANNELS,
        latents_std=std or [1.0] * CHANNELS,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_temporal=4,
        scale_factor_spatial=8,
    )


# --- the whole clip in one pass -------------------------------------------------------------------------------------
# diffusers walks through a clip in chunks with a cache of past frames. Training sees short clips, where one pass over
# all frames gives the same numbers several times faster; only the two temporal resamplings need to know of it.


def _resample_whole(layer: wan_vae.WanResample, x: torch.Tensor) -> torch.Tensor:
    b, c, t, _, _ = x.shape
    if layer.mode == "upsample3d" and t > 1:
        later = layer.time_conv(x[:, :, 1:]).unflatten(1, (2, c)).permute(0, 2, 3, 1, 4, 5).flatten(2, 3)
        x = torch.cat([x[:, :, :1], later], dim=2)
    frames = layer.resample(x.transpose(1, 2).flatten(0, 1))
    x = frames.unflatten(0, (b, -1)).transpose(1, 2)
    if layer.mode == "downsample3d" and t > 1:
        x = torch.cat([x[:, :, :1], layer.time_conv(x)], dim=2)
    return x


def _shortcut_alone(block: wan_vae.WanResidualBlock, x: torch.Tensor) -> torch.Tensor:
    """A residual block whose last convolution is zero: that convolution's bias is all the branch adds."""
    return block.conv_shortcut(x) + block.conv2.bias.view(1, -1, 1, 1, 1)


class WholeClip:
    """Encodes and decodes without chunks; same weights and, up to rounding, same numbers as the VAE it wraps."""

    def __init__(self, vae: AutoencoderKLWan):
        self.vae = vae
        for module in vae.modules():
            if isinstance(module, wan_vae.WanResample):
                module.forward = lambda x, *_, layer=module, **__: _resample_whole(layer, x)
            elif isinstance(module, wan_vae.WanResidualBlock) and not module.conv2.weight.any():
                module.forward = lambda x, *_, block=module, **__: _shortcut_alone(block, x)

    def moments(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, 3, T, H, W] in -1..1 to the posterior's mean and log variance, [B, 16, t, h, w] each."""
        mean, logvar = self.vae.quant_conv(self.vae.encoder(wan_vae.patchify(clips, 2))).chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return wan_vae.unpatchify(self.vae.decoder(self.vae.post_quant_conv(latents)), 2)


# --- the encoder, in closed form ------------------------------------------------------------------------------------


def _principal(features: torch.Tensor) -> torch.Tensor:
    """[N, D] to [D, D]: the principal axes of the features (about zero) as columns, widest first."""
    _, axes = torch.linalg.eigh(features.T.double() @ features.double() / len(features))
    return axes.flip(1).float()


def _rows(x: torch.Tensor) -> torch.Tensor:
    """[B, C, T, H, W] to [B*T*H*W, C]."""
    return x.movedim(1, -1).flatten(0, -2)


def _gather(x: torch.Tensor) -> torch.Tensor:
    """[B, C, T, H, W] to [B, 4C, T, H/2, W/2]: what a strided 2x2 convolution sees, tap by tap."""
    return torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], dim=1)


def _fit_spatial(layer: torch.nn.Conv2d, x: torch.Tensor) -> None:
    """Lets a strided convolution keep the widest principal components of its 2x2 patches of x."""
    width = layer.out_channels
    axes = _principal(_rows(_gather(x)))[:, :width]  # [4C, width]
    layer.weight.zero_()
    layer.bias.zero_()
    for tap, (i, j) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        layer.weight[:, :, i, j] = axes[tap * width : (tap + 1) * width].T


def _fit_temporal(layer: wan_vae.WanCausalConv3d) -> None:
    """Two frames become their mean in the widest two thirds of the channels and their difference in as many as fit.

    Channels come ordered, so that the first frame, which passes by this layer, and the later ones agree on most.
    """
    width = layer.out_channels
    means = 2 * width // 3
    layer.weight.zero_()
    layer.bias.zero_()
    for channel in range(means):
        layer.weight[channel, channel, 1:, 0, 0] = 0.5
    for channel in range(means, width):
        layer.weight[channel, channel - means, 1:, 0, 0] = torch.tensor([-0.5, 0.5])


def _identity(layer: torch.nn.Module) -> None:
    """A convolution that hands its input's channels on; further outputs are zero."""
    centre = tuple(size - 1 if axis == 0 else size // 2 for axis, size in enumerate(layer.kernel_size))
    layer.weight.zero_()
    layer.bias.zero_()
    for channel in range(min(layer.in_channels, layer.out_channels)):
        layer.weight[(channel, channel, *centre)] = 1.0


@torch.no_grad()
def fit_encoder(vae: AutoencoderKLWan, clips: torch.Tensor) -> None:
    """Writes the principal components of `clips` [B, 3, T, H, W] (-1..1) into the encoder, stage by stage."""
    encoder = vae.encoder
    for module in encoder.modules():
        if isinstance(module, wan_vae.WanResidualBlock):
            for layer in (module.conv1, module.conv2):
                layer.weight.zero_()
                layer.bias.zero_()
            if isinstance(module.conv_shortcut, wan_vae.WanCausalConv3d):
                _identity(module.conv_shortcut)
        elif isinstance(module, wan_vae.WanAttentionBlock):
            module.proj.weight.zero_()
            module.proj.bias.zero_()
    _identity(encoder.conv_in)
    x = encoder.conv_in(wan_vae.patchify(clips, 2))
    for layer in encoder.down_blocks:
        if isinstance(layer, wan_vae.WanResample):
            _fit_spatial(layer.resample[1], x)
            _fit_temporal(layer.time_conv)
        x = layer(x)
    # The constant takes the place of the narrowest component.
    encoder.mid_block.resnets[0].conv2.bias[-1] = CONSTANT
    width = x.shape[1]
    axes = _principal(_rows(x)[:, :-1])[:, :CHANNELS]  # [width - 1, CHANNELS]
    # normalise: x / constant * sqrt(width); activate: half of that.
    _identity(encoder.conv_out)
    encoder.conv_out.weight.zero_()
    encoder.conv_out.weight[:CHANNELS, : width - 1, -1, 1, 1] = axes.T * 2 * CONSTANT / width**0.5
    _identity(vae.quant_conv)
    vae.quant_conv.bias[CHANNELS:] = -12.0  # a posterior as sharp as the encoder is


@torch.no_grad()
def latent_statistics(model: WholeClip, clips: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean of each latent channel, and the scale to divide by.

    Wide components get more than their share of unit variance, narrow ones less (the square root evens out half of
    the spectrum): noise then hides detail first and structure last, as it does in pixels.
    """
    latents = torch.cat([model.moments(to_model(clips[i : i + 32]))[0] for i in range(0, len(clips), 32)])
    mean, std = latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4))
    scale = std.sqrt() * (std.mean()).sqrt()
    return mean.tolist(), scale.tolist()


# --- the decoder ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def _latents(path: Path, model: WholeClip, pool: np.ndarray) -> torch.Tensor:
    """float16 [N, C, t, h, w]: the pool's clips through the encoder, normalised, kept at `path`."""
    if not path.exists():
        mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in latent_statistics(model, pool[:512]))
        progress, parts = Progress("encode", len(pool)), []
        for start in range(0, len(pool), 32):
            parts.append(((model.moments(to_model(pool[start : start + 32]))[0] - mean) / std).half())
            progress.update(start + 32)
        part = path.with_suffix(".part")
        save_file({"latents": torch.cat(parts).contiguous()}, part)
        os.replace(part, path)
    return load_file(path)["latents"]


def train(out: Path, *, workdir: Path, steps: int = 3000, seed: int = 0) -> None:
    """Fits the encoder, then trains the decoder or goes on from the checkpoint in `workdir`; saves to `out`."""
    torch.manual_seed(seed)
    pool = clip_pool(workdir / "clips.npy", POOL, TRAIN_SEED)
    vae = build()
    fit_encoder(vae, to_model(pool[:600]))
    model = WholeClip(vae)
    statistics = latent_statistics(model, pool[:512])
    save(out, vae, statistics)  # its encoder is final: caching of latents can start
    mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in statistics)
    latents = _latents(workdir / "vae-latents.safetensors", model, pool)
    weights = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=RATE, betas=(0.9, 0.98), weight_decay=1e-4)
    checkpoint = workdir / "vae.safetensors"
    first = load_checkpoint(checkpoint, {"vae": vae}, optimizer)
    progress = Progress("vae", steps, done=first)
    for step, chosen, _ in batches(POOL, BATCH, range(first, steps), seed):
        clips = to_model(pool[chosen])
        optimizer.param_groups[0]["lr"] = cosine_rate(step, steps, RATE)
        error = model.decode(latents[chosen].float() * std + mean) - clips
        mse = error.square().mean()
        loss = 4 * mse + 0.25 * error.abs().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        progress.update(step + 1, loss=loss.item(), psnr=10 * np.log10(4 / mse.item()))
        if (step + 1) % 200 == 0:
            save_checkpoint(checkpoint, step + 1, {"vae": vae}, optimizer)
            save(out, vae, statistics)
    save(out, vae, statistics)


def save(out: Path, vae: AutoencoderKLWan, statistics: tuple[list[float], list[float]]) -> None:
    finished = build(*statistics)
    finished.load_state_dict(vae.state_dict())
    finished.save_pretrained(out)


@torch.no_grad()
def evaluate(folder: Path, *, count: int = 128) -> dict[str, float]:
    """PSNR in dB of reconstructions of held-out clips, mean over clips, by diffusers' own encode and decode."""
    vae = AutoencoderKLWan.from_pretrained(folder)
    values = []
    for scene in scenes(count, HELD_OUT_SEED):
        clip = to_model(render(scene)[None])
        decoded = vae.decode(vae.encode(clip).latent_dist.mode()).sample
        values.append(10 * torch.log10(4 / (decoded - clip).square().mean()).item())
    return {"psnr": float(np.mean(values)), "psnr_worst": float(np.min(values))}
