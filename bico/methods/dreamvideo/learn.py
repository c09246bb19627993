"""Learning the vectors and adapters of a source."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from bico.core.transfer import to_device
from bico.methods.dreamvideo.adapters import Adapters, adapted
from bico.methods.dreamvideo.settings import Settings
from bico.methods.shared.appearance import appearance_of
from bico.methods.textual_inversion.inversion import Inversion
from bico.models.adapter import set_condition
from bico.models.wan.acceleration import accelerated, clips_at_once
from bico.models.wan.backbone import Backbone
from bico.sources.encoding import EncodedSource
from bico.training.loop import Group, Preview, Stage, fit
from bico.training.loss import flow_matching_loss
from bico.training.noise import NoiseLevels
from bico.training.randomness import seeded


def learn(
    backbone: Backbone,
    encoded: EncodedSource,
    settings: Settings,
    *,
    shift: float,
    seed: int,
    workdir: Path,
    progress: str = "",
    preview: Preview | None = None,
) -> dict[str, Tensor]:
    """Learns "adapters.<name>" of `Adapters`, and for an image "vectors.<number> <word>"; float32.

    For an image the result also has its CLIP embedding "appearance", [appearance width]; for several photographs it is
    their mean.
    """
    adapters = initial(backbone, encoded, seed)
    groups = [Group(dict(adapters.named_parameters()), settings.learning_rate)]
    noise = NoiseLevels(shift)
    inversion = Inversion(backbone, encoded, settings.vectors) if encoded.kind == "image" else None
    if inversion is not None:
        groups.append(Group(inversion.vectors, settings.inversion_rate * inversion.scale))
        stages = identity_stages(backbone, encoded, settings, adapters, inversion, noise)
    else:
        stages = [motion_stage(backbone, encoded, settings, adapters, noise)]

    def learned() -> dict[str, Tensor]:
        tensors = {f"adapters.{name}": tensor.cpu() for name, tensor in adapters.state_dict().items()}
        if inversion is not None:
            tensors |= {f"vectors.{name}": vectors for name, vectors in inversion.learned().items()}
            tensors["appearance"] = appearance_of(encoded).mean(dim=0)
        return tensors

    with adapted(backbone.transformer, [adapters]), accelerated(backbone):
        fit(
            groups,
            stages,
            settings,
            seed=seed,
            workdir=workdir,
            progress=progress,
            report=inversion.report if inversion is not None else dict,
            learned=learned,
            preview=preview,
        )
    return learned()


def initial(backbone: Backbone, encoded: EncodedSource, seed: int) -> Adapters:
    """Untrained adapters for a source of this kind."""
    width, num_blocks = backbone.width, backbone.num_blocks  # opens the transformer, which draws random numbers
    with seeded(seed):
        adapters = Adapters(encoded.kind, width, num_blocks, appearance_of(encoded).shape[1])
    return adapters.to(backbone.device)


def identity_stages(
    backbone: Backbone,
    encoded: EncodedSource,
    settings: Settings,
    adapters: Adapters,
    inversion: Inversion,
    noise: NoiseLevels,
) -> list[Stage]:
    """The stages of an image: first its vectors, then its adapters with prompts that contain the finished vectors."""

    def vectors_loss(generator: torch.Generator, batch_size: int, training: bool) -> tuple[Tensor, Tensor]:
        adapters.requires_grad_(False)
        return inversion.loss(noise, generator, batch_size, training)

    @cache
    def prompts() -> Tensor:
        with torch.no_grad():
            contexts = inversion.context(range(inversion.prompts))
        backbone.offload_text_encoder()  # larger than the transformer, and the adapters do not need it
        return contexts

    def identity_loss(generator: torch.Generator, batch_size: int, training: bool) -> tuple[Tensor, Tensor]:
        adapters.requires_grad_(True)
        sigmas = noise.draw(batch_size, generator)
        picked = torch.randint(inversion.prompts, (batch_size,), generator=generator)
        context = prompts()[to_device(picked, backbone.device)]
        latents, mask = encoded.draw_looks(batch_size, generator)
        return flow_matching_loss(backbone, latents, context, sigmas, generator, mask=mask, training=training), sigmas

    at_once = clips_at_once(backbone, encoded.latents.shape)
    return [
        Stage("vectors", settings.inversion_steps, vectors_loss, micro_batch=at_once),
        Stage("identity", settings.identity_steps, identity_loss, micro_batch=at_once),
    ]


def motion_stage(
    backbone: Backbone, encoded: EncodedSource, settings: Settings, adapters: Adapters, noise: NoiseLevels
) -> Stage:
    """The stage of a video: its adapters, with its captions or none, and the appearance of a random frame."""

    appearance = appearance_of(encoded)

    def loss(generator: torch.Generator, batch_size: int, training: bool) -> tuple[Tensor, Tensor]:
        batch = encoded.draw(batch_size, generator, frames=False)
        sigmas = noise.draw(batch_size, generator)
        without_text = torch.rand(batch_size, generator=generator) < settings.text_dropout
        prompt_embeds = encoded.empty_prompt_embeds.where(without_text[:, None, None], batch.prompt_embeds)
        frames = torch.randint(len(appearance), (batch_size,), generator=generator)
        with torch.no_grad():
            context = backbone.context(prompt_embeds)
        set_condition(adapters, to_device(appearance[frames], backbone.device))
        return flow_matching_loss(backbone, batch.latents, context, sigmas, generator, training=training), sigmas

    return Stage("motion", settings.motion_steps, loss, micro_batch=clips_at_once(backbone, encoded.latents.shape))
