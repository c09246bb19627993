"""Learning the binder of a source."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from bico.methods.bico.absorption import with_absorption
from bico.methods.bico.batches import Draw, updates
from bico.methods.bico.isolation import isolation_loss
from bico.methods.bico.schedule import Phase, phases, rate_factor
from bico.methods.bico.settings import Settings
from bico.models.binder import HierarchicalBinder, gate_sizes
from bico.models.binder_form import ABSORPTION
from bico.models.wan.acceleration import accelerated, clips_at_once
from bico.models.wan.backbone import Backbone
from bico.sources.encoding import EncodedSource
from bico.training.loop import Group, Preview, Stage, fit
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
    preview: Preview | None = None,
) -> dict[str, Tensor]:
    """Learns the binder of one source.

    Args:
        shift: timestep shift of the noise schedule in training.
        workdir: for checkpoints and metrics.
        progress: label of the progress lines; "" for none.
        preview: see `bico.training.loop.fit`.

    Returns:
        `HierarchicalBinder.state_dict` and "absorption" [tokens, width], float32. Compositions do not use the
        absorption tokens. They are stored so that one can analyse what they absorbed.
    """
    binder, absorption = initial(backbone, encoded.kind, settings, seed)
    if not settings.diversification:
        encoded = with_one_caption(encoded)

    def loss(
        phase: Phase, draw: Draw, isolated: float, generator: torch.Generator, batch_size: int, training: bool
    ) -> tuple[Tensor, Tensor]:
        batch = draw(batch_size, generator)
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
        error = flow_matching_loss(
            backbone, batch.latents, contexts, sigmas, generator, weights, mask=batch.mask, training=training
        )
        return error, sigmas

    def stage(phase: Phase, draw: Draw, *, opens: bool) -> Stage:
        shape = cast("Tensor", encoded.frame_latents if phase.frames else encoded.latents).shape
        return Stage(
            phase.name,
            1,
            partial(loss, phase, draw, settings.isolation.share),
            micro_batch=clips_at_once(backbone, shape),
            fresh_optimizer=opens and settings.fresh_optimizer,
        )

    def report() -> dict[str, Tensor]:
        sizes = binder.gammas() | gate_sizes(gates)
        gates.clear()
        return sizes

    def learned() -> dict[str, Tensor]:
        tensors = binder.state_dict() | {ABSORPTION: absorption}
        return {name: tensor.detach().cpu() for name, tensor in tensors.items()}

    plan = phases(settings, encoded.kind, shift)
    whole = Phase("evaluation", 0, NoiseLevels(shift), frames=False, per_block=True, temporal=True)
    with accelerated(backbone), binder.recorded_gates() as gates:
        fit(
            groups(binder, absorption, settings),
            [stage(phase, draw, opens=opens) for phase, draw, opens in updates(plan, encoded, settings, seed)],
            settings,
            seed=seed,
            workdir=workdir,
            lr_lambda=partial(rate_factor, plan=plan, settings=settings),
            progress=progress,
            report=report,
            evaluation=partial(loss, whole, partial(encoded.draw, frames=False), 0.0),
            learned=learned,
            preview=preview,
        )
    return learned()


def with_one_caption(encoded: EncodedSource) -> EncodedSource:
    """The same source with only its first caption. All frames of a video have the first frame caption; each of several
    photographs has its own first caption."""
    first, kept = [0], ["prompt_embeds", "token_counts", "key_slots"]
    if encoded.caption_photos is not None:
        photos = encoded.caption_photos.tolist()
        first = [photos.index(photo) for photo in dict.fromkeys(photos)]
        kept.append("caption_photos")
    captions = {name: getattr(encoded, name)[first] for name in kept}
    if encoded.kind == "video":
        for name in ("frame_prompt_embeds", "frame_token_counts", "frame_key_slots"):
            captions[name] = getattr(encoded, name)[:1].expand_as(getattr(encoded, name))
    return replace(encoded, **captions)


def initial(backbone: Backbone, kind: str, settings: Settings, seed: int) -> tuple[HierarchicalBinder, nn.Parameter]:
    """An untrained binder for a source of this kind, and its absorption tokens [tokens, width], N(0, 1)."""
    width, num_blocks = backbone.width, backbone.num_blocks  # this opens the transformer, which draws random numbers
    with seeded(seed):
        binder = HierarchicalBinder(
            width,
            num_blocks,
            two_branch=kind == "video" and settings.temporal_decoupling,
            gate=settings.gate,
            hierarchical=settings.hierarchical,
            rank=settings.rank,
            keys=settings.attention_keys,
        )
        absorption = torch.randn(settings.absorption.tokens, width)
    return binder.to(backbone.device), nn.Parameter(absorption.to(backbone.device))


def groups(binder: HierarchicalBinder, absorption: nn.Parameter, settings: Settings) -> list[Group]:
    """All trained parameters. The weights of gates have their own learning rate; gammas and absorption tokens may have
    one.

    Adam changes a number by about the learning rate per step, independently of the size of its gradient. A gate sums
    one weight for each channel of a normalised token, so at the common rate it could change by 0.8 x width x rate per
    step. With the rate divided by the width it changes about as fast as its bias and gamma, which are single numbers.
    """
    parameters = dict(binder.named_parameters())
    weights = {name: parameters.pop(name) for name in list(parameters) if name.endswith("gate.1.weight")}
    gammas = {name: parameters.pop(name) for name in list(parameters) if name.endswith("gamma")}
    return [
        Group(parameters, settings.learning_rate),
        Group(gammas, settings.gamma_learning_rate or settings.learning_rate),
        Group(weights, settings.gate_learning_rate or settings.learning_rate / binder.width),
        Group({ABSORPTION: absorption}, settings.absorption.learning_rate or settings.learning_rate),
    ]
