"""Learning the binder of a source."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from bico.methods.bico.absorption import with_absorption
from bico.methods.bico.isolation import isolation_loss
from bico.methods.bico.schedule import Phase, phases
from bico.methods.bico.settings import Settings
from bico.models.binder import HierarchicalBinder
from bico.models.wan.acceleration import accelerated
from bico.models.wan.backbone import Backbone
from bico.sources.encoding import EncodedSource
from bico.training.loop import Group, Stage, fit
from bico.training.loss import flow_matching_loss
from bico.training.noise import NoiseLevels, gaussian_weight
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
) -> dict[str, Tensor]:
    """Learns the binder of one source.

    Args:
        shift: timestep shift of the noise schedule in training.
        workdir: for checkpoints and metrics.
        progress: label of the progress lines; "" for none.

    Returns:
        `HierarchicalBinder.state_dict` and "absorption" [tokens, width], float32. No composition uses the absorption
        tokens: they are kept to see what they took up.
    """
    binder, absorption = initial(backbone, encoded.kind, settings, seed)
    if not settings.diversification:
        encoded = with_one_caption(encoded)

    def loss(
        phase: Phase, isolated: float, generator: torch.Generator, batch_size: int, training: bool
    ) -> tuple[Tensor, Tensor]:
        batch = encoded.draw(batch_size, generator, frames=phase.frames)
        sigmas = phase.noise.draw(batch_size, generator)
        weights = gaussian_weight(sigmas, shift) if settings.timestep_weighting == "diffsynth" else None
        with torch.no_grad():
            context = backbone.context(batch.prompt_embeds)
        if torch.rand((), generator=generator) < isolated:
            bind_alone = partial(binder, per_block=phase.per_block, temporal=phase.temporal)
            leak = isolation_loss(backbone, batch, context.float(), bind_alone, sigmas, generator)
            return settings.isolation.weight * leak, sigmas
        words = batch.key_slots > 0 if settings.binds == "key_words" else None
        context, mask = with_absorption(context.float(), batch.token_counts, absorption, settings.absorption, words)
        contexts = binder(context, mask, per_block=phase.per_block, temporal=phase.temporal)
        error = flow_matching_loss(backbone, batch.latents, contexts, sigmas, generator, weights, training=training)
        return error, sigmas

    plan = phases(settings, encoded.kind, shift)
    whole = Phase("evaluation", 0, NoiseLevels(shift), frames=False, per_block=True, temporal=True)
    with accelerated(backbone):
        fit(
            groups(binder, absorption, settings),
            [Stage(phase.name, phase.steps, partial(loss, phase, settings.isolation.share)) for phase in plan],
            settings,
            seed=seed,
            workdir=workdir,
            progress=progress,
            report=binder.gammas,
            evaluation=partial(loss, whole, 0.0),
        )
    learned = binder.state_dict() | {"absorption": absorption}
    return {name: tensor.detach().cpu() for name, tensor in learned.items()}


def with_one_caption(encoded: EncodedSource) -> EncodedSource:
    """The same source, described by its first caption alone; each frame of a video by the first frame caption."""
    captions = {name: getattr(encoded, name)[:1] for name in ("prompt_embeds", "token_counts", "key_slots")}
    if encoded.kind == "video":
        for name in ("frame_prompt_embeds", "frame_token_counts", "frame_key_slots"):
            captions[name] = getattr(encoded, name)[:1].expand_as(getattr(encoded, name))
    return replace(encoded, **captions)


def initial(backbone: Backbone, kind: str, settings: Settings, seed: int) -> tuple[HierarchicalBinder, nn.Parameter]:
    """An untrained binder for a source of this kind, and its absorption tokens [tokens, width], N(0, 1)."""
    width, num_blocks = backbone.width, backbone.num_blocks  # opens the transformer, which draws random numbers
    with seeded(seed):
        binder = HierarchicalBinder(
            width,
            num_blocks,
            two_branch=kind == "video" and settings.temporal_decoupling,
            gate=settings.gate,
            hierarchical=settings.hierarchical,
        )
        absorption = torch.randn(settings.absorption.tokens, width)
    return binder.to(backbone.device), nn.Parameter(absorption.to(backbone.device))


def groups(binder: HierarchicalBinder, absorption: nn.Parameter, settings: Settings) -> list[Group]:
    """All that is trained; gates and absorption tokens may have learning rates of their own."""
    parameters = dict(binder.named_parameters())
    gates = {name: parameters.pop(name) for name in list(parameters) if "gate." in name}
    return [
        Group(parameters, settings.learning_rate),
        Group(gates, settings.gate_learning_rate or settings.learning_rate),
        Group({"absorption": absorption}, settings.absorption.learning_rate or settings.learning_rate),
    ]
