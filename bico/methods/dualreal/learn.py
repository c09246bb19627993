"""Training of the adapters of a case, on its image and its video alternately."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bico.core.transfer import to_device
from bico.methods.dualreal.adapters import JointAdapters
from bico.methods.dualreal.constants import MOTION_SHARE
from bico.methods.dualreal.settings import Settings
from bico.methods.shared.appearance import appearance_of
from bico.models.adapter import set_condition
from bico.models.wan.acceleration import accelerated
from bico.models.wan.backbone import Backbone
from bico.sources.encoding import EncodedSource
from bico.training.loop import Group, Loss, Preview, Stage, fit, warm_up_cosine
from bico.training.loss import flow_matching_loss
from bico.training.noise import NoiseLevels
from bico.training.randomness import seeded


def learn(
    backbone: Backbone,
    encoded: Mapping[str, EncodedSource],
    settings: Settings,
    *,
    shift: float,
    seed: int,
    workdir: Path,
    progress: str = "",
    preview: Preview | None = None,
) -> dict[str, Tensor]:
    """Trains `JointAdapters.state_dict` on an image and a video; float32.

    The result also has the image's CLIP embedding "appearance", [appearance width]; for several photographs it is their
    mean.
    """
    by_kind = {source.kind: source for source in encoded.values()}
    image = by_kind["image"]
    adapters = initial(backbone, appearance_of(image).shape[1], settings, seed)
    parts = adapters.named_children()  # identity, motion, controller

    def learned() -> dict[str, Tensor]:
        tensors = {name: tensor.cpu() for name, tensor in adapters.state_dict().items()}
        return tensors | {"appearance": appearance_of(image).mean(dim=0)}

    with adapters.beside(backbone.transformer), accelerated(backbone):
        fit(
            [Group(dict(part.named_parameters(prefix=name)), settings.learning_rate) for name, part in parts],
            [Stage("joint", settings.steps, joint_loss(backbone, by_kind, settings, adapters, NoiseLevels(shift)))],
            settings,
            seed=seed,
            workdir=workdir,
            lr_lambda=partial(warm_up_cosine, warm_up=settings.warm_up, steps=settings.steps),
            max_grad_norm=settings.clip_norm,
            betas=settings.betas,
            progress=progress,
            report=lambda: {"alpha": adapters.alphas.mean()},
            learned=learned,
            preview=preview,
        )
    return learned()


def initial(backbone: Backbone, appearance_width: int, settings: Settings, seed: int) -> JointAdapters:
    """Untrained adapters and their controller."""
    width, num_blocks = backbone.width, backbone.num_blocks  # opens the transformer, which draws random numbers
    with seeded(seed):
        adapters = JointAdapters(width, num_blocks, appearance_width, settings)
    return adapters.to(backbone.device)


def joint_loss(
    backbone: Backbone,
    by_kind: Mapping[str, EncodedSource],
    settings: Settings,
    adapters: JointAdapters,
    noise: NoiseLevels,
) -> Loss:
    """The loss of a step, on the image or on the video. Only the adapters for it and the controller get a gradient."""

    identity_batch_size = settings.identity_batch_size

    def loss(generator: torch.Generator, batch_size: int, training: bool) -> tuple[Tensor, Tensor]:
        motion = torch.rand((), generator=generator).item() < MOTION_SHARE
        adapters.identity.requires_grad_(not motion)
        adapters.motion.requires_grad_(motion)
        encoded, batch_size = by_kind["video" if motion else "image"], batch_size if motion else identity_batch_size
        batch = encoded.draw(batch_size, generator, frames=False)
        sigmas = noise.draw(batch_size, generator)
        appearance = None
        if motion:
            of_frames = appearance_of(encoded)
            picked = torch.randint(len(of_frames), (batch_size,), generator=generator)
            appearance = to_device(of_frames[picked], backbone.device)
        set_condition(adapters.motion, appearance)
        with torch.no_grad():
            context = backbone.context(batch.prompt_embeds)
        error = flow_matching_loss(
            backbone, batch.latents, context, sigmas, generator, mask=batch.mask, training=training
        )
        return error, sigmas

    return loss
