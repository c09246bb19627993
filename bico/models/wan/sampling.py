"""The denoising loop: from noise and contexts to a clip.

With one context for all blocks it gives the same bits as WanPipeline (with the same seed, dtype and sigmas). Clips are
generated one at a time, so that a clip depends only on its prompt and seed: matrix products round differently in
different batch sizes. On a CPU this costs little time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from bico.config.settings import Media, Sampling
from bico.models.wan.backbone import Backbone
from bico.models.wan.components import short_of_memory
from bico.models.wan.forward_pass import TRAIN_TIMESTEPS, Contexts
from bico.models.wan.schedule import denoising_sigmas


def generate(
    backbone: Backbone,
    contexts: Contexts,
    negative_context: Tensor,
    seeds: Sequence[int],
    sampling: Sampling,
    media: Media,
) -> np.ndarray:
    """Clips uint8 [seeds, T, H, W, 3]. Each depends only on the contexts and its seed.

    Args:
        contexts: projected prompt [1, slots, width], or one for each block.
        negative_context: projected negative prompt [1, slots, width], without binders.
    """
    latents = [sample(backbone, contexts, negative_context, seed, sampling, media) for seed in seeds]
    return backbone.decode_clip(torch.cat(latents))


@torch.no_grad()
def sample(
    backbone: Backbone,
    contexts: Contexts,
    negative_context: Tensor,
    seed: int,
    sampling: Sampling,
    media: Media,
    *,
    before_pass: Callable[[bool], object] = lambda conditional: None,
) -> Tensor:
    """Denoises one clip: normalised latents [1, channels, t, h, w].

    It uses flow-match Euler with classifier-free guidance, as WanPipeline, between the sigmas of `schedule`. The noise
    comes from a CPU generator, so a seed means the same on every device. See `generate` for the other arguments.

    Args:
        before_pass: called before each pass with whether it is the conditional one, for parts that differ between both.
    """
    from diffusers.utils.torch_utils import randn_tensor

    sigmas = denoising_sigmas(sampling.steps, sampling.shift).to(backbone.device)
    positive, negative = backbone.keys_values(contexts), backbone.keys_values(negative_context)
    if short_of_memory(backbone.device):
        backbone.offload_text_encoder()
    noise, shape = torch.Generator().manual_seed(seed), backbone.latent_shape(media)
    latents = randn_tensor((1, *shape), generator=noise, device=backbone.device, dtype=torch.float32)
    steps = zip(sigmas[:-1], sigmas.diff(), strict=True)
    for sigma, step in tqdm(steps, desc="denoising", total=sampling.steps, leave=False, disable=None):
        noisy, timesteps = latents.to(backbone.dtype), sigma.expand(1) * TRAIN_TIMESTEPS
        before_pass(True)
        velocity = backbone.forward(noisy, timesteps, positive)
        if sampling.guidance_scale > 1:
            before_pass(False)
            unconditional = backbone.forward(noisy, timesteps, negative)
            velocity = unconditional + sampling.guidance_scale * (velocity - unconditional)
        latents = (latents + step * velocity).to(velocity.dtype)  # rounded where WanPipeline rounds
    return latents
