"""Tests of the Wan backbone: its VAE, its loss with the right caption, and its clips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from bico.analysis.binding import psnr
from bico.config.schema import Config
from bico.config.settings import Media, Sampling
from bico.doctor.finding import Finding, own_and_others
from bico.doctor.judges import middle
from bico.models.wan.backbone import Backbone
from bico.models.wan.sampling import generate
from bico.training.loss import flow_matching_loss

LENGTH = 17
"""Largest number of frames of a clip that pass through the VAE."""
PSNR = 22.0
"""Smallest PSNR in dB that is fine. Wan2.1's VAE has 30 or more, the Toybox's 27 or more."""
NOISE_LEVELS = (0.5, 0.7, 0.85, 0.95)
NOISES = 2
"""Number of noises of each level, the same for all captions."""
BY_CHANCE = 0.05
"""Largest share of assignments of captions to sources that may have a loss as low as the right one."""
CLIP_FRAMES, CLIP_STEPS = 33, 20
"""Largest numbers of frames and steps of the clips that people look at."""


def examine_vae(backbone: Backbone, config: Config, samples: Mapping[str, np.ndarray]) -> Finding:
    """Tests the reconstruction of each source by the VAE. The worst one counts."""
    found = {name: _reconstruction(backbone, frames[:LENGTH]) for name, frames in samples.items()}
    worst = min(found, key=lambda name: found[name])
    return Finding(
        "VAE, reconstruction",
        f"PSNR {found[worst]:.1f} dB ({worst}) to {max(found.values()):.1f} dB",
        f"{PSNR:.0f} dB or more",
        found[worst] >= PSNR,
        f"the weights in {config.models.wan}/vae, and latents_mean and latents_std in its config.json",
    )


def _reconstruction(backbone: Backbone, frames: np.ndarray) -> float:
    """PSNR in dB of frames uint8 [T, H, W, 3] that pass through the VAE."""
    return psnr(backbone.decode_clip(backbone.encode_clip(frames)[None])[0], frames)


def examine_loss(backbone: Backbone, config: Config, samples: Mapping[str, np.ndarray], contexts: Tensor) -> Finding:
    """Compares the loss on each source with its own caption to the loss with the other captions.

    All captions have the same noise. The loss of the right assignment of captions to sources is compared with those of
    all other assignments, so a constant effect of a caption on all sources cancels.

    Args:
        contexts: projected captions, [sources, slots, width].
    """
    losses = loss_of_each(backbone, samples.values(), contexts)
    own, others = (each.mean().item() for each in own_and_others(losses))
    assignments = torch.tensor(list(permutations(range(len(losses)))))  # the first is the right one
    sums = losses[torch.arange(len(losses)), assignments].sum(1)
    as_low = (sums <= sums[0]).float().mean().item()
    return Finding(
        "frozen model, loss under a source's own caption",
        f"{own:.4f}, {others / own - 1:+.2%} under other sources' captions; {as_low:.1%} of assignments of captions to "
        "sources have a loss as low",
        f"higher under others', {BY_CHANCE:.0%} of assignments or fewer",
        others > own and as_low <= BY_CHANCE,
        f"transformer, text_encoder and tokenizer in {config.models.wan}, sampling.shift, and the captions",
    )


@torch.no_grad()
def loss_of_each(backbone: Backbone, media: Iterable[np.ndarray], contexts: Tensor) -> Tensor:
    """The training loss on the middle frame of each source with each caption, [sources, captions], averaged over noise
    levels and noises."""
    generator, rows = torch.Generator().manual_seed(0), []
    for frames in media:
        latents = backbone.encode_clip(middle(frames))[None].cpu()
        row = torch.zeros(len(contexts))
        for sigma in NOISE_LEVELS * NOISES:
            before = generator.get_state()
            for number, context in enumerate(contexts.split(1)):
                generator.set_state(before)  # all captions have the same noise
                loss = flow_matching_loss(backbone, latents, context, torch.tensor([sigma]), generator, training=False)
                row[number] += loss.cpu()
        rows.append(row / (len(NOISE_LEVELS) * NOISES))
    return torch.stack(rows)


def short_clips(
    backbone: Backbone, config: Config, contexts: Mapping[str, Tensor], negative: Tensor
) -> Iterator[tuple[str, np.ndarray]]:
    """Cases with clips uint8 [T, H, W, 3] of their plain prompts. The clips are short and made in few steps.

    Args:
        contexts: projected prompts [1, slots, width], by case.
        negative: the projected negative prompt.
    """
    media: Media = config.media.model_copy(update={"num_frames": min(config.media.num_frames, CLIP_FRAMES)})
    sampling: Sampling = config.sampling.model_copy(update={"steps": min(config.sampling.steps, CLIP_STEPS)})
    for case, context in contexts.items():
        yield case, generate(backbone, context, negative, [0], sampling, media)[0]
