"""The Wan backbone: its VAE, its loss under the right caption, and the clips that it makes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from bico.config.schema import Config
from bico.config.settings import Media, Sampling
from bico.doctor.finding import Finding, own_and_others
from bico.doctor.judges import middle
from bico.models.wan.backbone import Backbone
from bico.models.wan.sampling import generate
from bico.training.loss import flow_matching_loss

LENGTH = 17
"""Frames of a clip that go through the VAE, at most."""
PSNR = 22.0
"""In dB, at least: Wan2.1's VAE has 30 and more, the Toybox's 27 and more."""
NOISE_LEVELS = (0.5, 0.7, 0.85, 0.95)
NOISES = 2
"""Of each level, the same ones for all captions."""
BY_CHANCE = 0.05
"""Share of assignments of captions that may have as low a loss as the right one."""
CLIP_FRAMES, CLIP_STEPS = 33, 20
"""Of the clips to look at, at most."""


def examine_vae(backbone: Backbone, config: Config, samples: Mapping[str, np.ndarray]) -> Finding:
    """Each source through the VAE and back; the worst one counts."""
    psnr = {name: _psnr(backbone, frames[:LENGTH]) for name, frames in samples.items()}
    worst = min(psnr, key=lambda name: psnr[name])
    return Finding(
        "VAE, reconstruction",
        f"PSNR {psnr[worst]:.1f} dB ({worst}) to {max(psnr.values()):.1f} dB",
        f"{PSNR:.0f} dB or more",
        psnr[worst] >= PSNR,
        f"the weights in {config.models.wan}/vae, and latents_mean and latents_std in its config.json",
    )


def _psnr(backbone: Backbone, frames: np.ndarray) -> float:
    decoded = backbone.decode_clip(backbone.encode_clip(frames)[None])[0]
    error = np.square(decoded.astype(np.float64) - frames).mean()
    return float(10 * np.log10(255**2 / error))


def examine_loss(backbone: Backbone, config: Config, samples: Mapping[str, np.ndarray], contexts: Tensor) -> Finding:
    """The loss on each source under its own caption against its loss under the others'.

    All captions meet the same noise. What one caption adds to the loss on every source does not count: the losses of
    the right assignment of captions to sources are held against those of all other assignments.

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
    """The loss of training on the middle frame of each source under each caption, [sources, captions], averaged over
    noise levels and noises."""
    generator, rows = torch.Generator().manual_seed(0), []
    for frames in media:
        latents = backbone.encode_clip(middle(frames))[None].cpu()
        row = torch.zeros(len(contexts))
        for sigma in NOISE_LEVELS * NOISES:
            before = generator.get_state()
            for number, context in enumerate(contexts.split(1)):
                generator.set_state(before)  # all captions meet the same noise
                loss = flow_matching_loss(backbone, latents, context, torch.tensor([sigma]), generator, training=False)
                row[number] += loss.cpu()
        rows.append(row / (len(NOISE_LEVELS) * NOISES))
    return torch.stack(rows)


def short_clips(
    backbone: Backbone, config: Config, contexts: Mapping[str, Tensor], negative: Tensor
) -> Iterator[tuple[str, np.ndarray]]:
    """Case and clip uint8 [T, H, W, 3], short and in few steps, from the plain prompt.

    Args:
        contexts: projected prompts [1, slots, width], by case.
        negative: the projected negative prompt.
    """
    media: Media = config.media.model_copy(update={"num_frames": min(config.media.num_frames, CLIP_FRAMES)})
    sampling: Sampling = config.sampling.model_copy(update={"steps": min(config.sampling.steps, CLIP_STEPS)})
    for case, context in contexts.items():
        yield case, generate(backbone, context, negative, [0], sampling, media)[0]
