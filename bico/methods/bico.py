"""BiCo: binders tie a source's concepts to the words of its captions; words of any prompt then carry them along.

Learning: all words of the diversified captions pass through the binder, beside them an absorption token that takes up
what no word names; first the global binder alone at high noise, then all binders. A video trains on its single frames
first, with spatial captions, then a temporal branch opens on the whole clip (TDS). Composing: each bound word of the
target prompt passes through its own source's binder, every other token stays as it is, and the unconditional pass never
sees a binder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bico.config.schema import Absorption, BicoSettings, Case, Media, Noise, Sampling
from bico.core.transfer import to_device
from bico.methods.base import Job, compose_with, load_artifact, project
from bico.methods.training import (
    Group,
    NoiseLevels,
    Stage,
    fit,
    flow_matching_loss,
    gaussian_weight,
    position_of,
    seeded,
)
from bico.models.binder import HierarchicalBinder
from bico.models.wan.attention_maps import recorded
from bico.models.wan.backbone import TRAIN_TIMESTEPS, Backbone, Contexts
from bico.prompts.slots import bound_slots
from bico.sources.encoding import Batch, EncodedSource

RELEASED_SPLIT = 0.125
RELEASED_SHARE = 0.8
"""The authors' code parts the schedule at position 0.125 (sigma 0.417 with shift 5), and draws 0.8 from one part."""


@dataclass(frozen=True)
class Phase:
    """What one stage of training does."""

    name: str
    steps: int
    noise: NoiseLevels
    frames: bool
    """Single frames with their captions, or the whole source (an image, a clip)."""
    per_block: bool
    """Stage "all", or stage "global"."""
    temporal: bool
    """Through both branches of a two-branch binder."""


def phases(settings: BicoSettings, kind: str, shift: float) -> list[Phase]:
    """The schedule of a source. Without temporal decoupling a video's clip is learned as an image is."""
    frame, clip, first, second = settings.stages, settings.clip_stages, *noise_levels(settings.noise, shift)
    if kind == "image" or not settings.temporal_decoupling:
        stages = frame if kind == "image" else clip
        return [
            Phase("global", stages.global_steps, first, frames=False, per_block=False, temporal=False),
            Phase("all", stages.all_steps, second, frames=False, per_block=True, temporal=False),
        ]
    return [
        Phase("frames_global", frame.global_steps, first, frames=True, per_block=False, temporal=False),
        Phase("frames_all", frame.all_steps, second, frames=True, per_block=True, temporal=False),
        Phase("clip_global", clip.global_steps, first, frames=False, per_block=False, temporal=True),
        Phase("clip_all", clip.all_steps, second, frames=False, per_block=True, temporal=True),
    ]


def noise_levels(noise: Noise, shift: float) -> tuple[NoiseLevels, NoiseLevels]:
    """Noise of stage "global" and of stage "all" under each reading of alpha (see `config.Noise`)."""
    uniform = NoiseLevels(shift)
    match noise.inversion:
        case "position":
            return NoiseLevels(shift, split=noise.alpha, upper=noise.beta), uniform
        case "sigma":
            return NoiseLevels(shift, split=position_of(noise.alpha, shift), upper=noise.beta), uniform
        case "released":
            low = NoiseLevels(shift, split=RELEASED_SPLIT, upper=1 - RELEASED_SHARE)
            return low, NoiseLevels(shift, split=RELEASED_SPLIT, upper=RELEASED_SHARE)
        case "none":
            return uniform, uniform


def learn(
    backbone: Backbone,
    encoded: EncodedSource,
    settings: BicoSettings,
    *,
    shift: float,
    seed: int,
    workdir: Path,
    progress: str = "",
) -> dict[str, Tensor]:
    """Learns the binder of one source.

    Args:
        shift: timestep shift of the schedule, as in sampling.
        workdir: for checkpoints and metrics.
        progress: label of the progress lines; "" for none.

    Returns:
        `HierarchicalBinder.state_dict` and "absorption" [tokens, width], float32. No composition uses the absorption
        tokens: they are kept to see what they took up.
    """
    binder, absorption = initial(backbone, encoded.kind, settings, seed)
    if not settings.diversification:
        encoded = with_one_caption(encoded)

    def loss(phase: Phase, isolated: float, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        batch = encoded.draw(settings.batch_size, generator, frames=phase.frames)
        sigmas = phase.noise.draw(settings.batch_size, generator)
        weights = gaussian_weight(sigmas, shift) if settings.timestep_weighting == "diffsynth" else None
        with torch.no_grad():
            context = backbone.context(batch.prompt_embeds)
        if torch.rand((), generator=generator) < isolated:
            bind_alone = partial(binder, per_block=phase.per_block, temporal=phase.temporal)
            leak = isolation_loss(backbone, batch, context.float(), bind_alone, sigmas, generator)
            yield settings.isolation.weight * leak, sigmas
            return
        words = batch.key_slots > 0 if settings.binds == "key_words" else None
        context, mask = with_absorption(context.float(), batch.token_counts, absorption, settings.absorption, words)
        contexts = binder(context, mask, per_block=phase.per_block, temporal=phase.temporal)
        yield flow_matching_loss(backbone, batch.latents, contexts, sigmas, generator, weights), sigmas

    plan = phases(settings, encoded.kind, shift)
    whole = Phase("probe", 0, NoiseLevels(shift), frames=False, per_block=True, temporal=True)
    parameters = dict(binder.named_parameters())
    gates = {name: parameters.pop(name) for name in list(parameters) if "gate." in name}
    gate_rate = settings.gate_learning_rate or settings.learning_rate
    absorption_rate = settings.absorption.learning_rate or settings.learning_rate
    with backbone.compiled():
        fit(
            [
                Group(parameters, settings.learning_rate),
                Group(gates, gate_rate),
                Group({"absorption": absorption}, absorption_rate),
            ],
            [Stage(phase.name, phase.steps, partial(loss, phase, settings.isolation.share)) for phase in plan],
            settings,
            seed=seed,
            workdir=workdir,
            progress=progress,
            report=binder.gammas,
            probe=partial(loss, whole, 0.0),
        )
    learned = binder.state_dict() | {"absorption": absorption}
    return {name: tensor.detach().cpu() for name, tensor in learned.items()}


def isolation_loss(
    backbone: Backbone,
    batch: Batch,
    context: Tensor,
    binder: Callable[[Tensor, Tensor], list[Tensor]],
    sigmas: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """How much one bound key word changes the velocity at places that do not look at it (ours, not the paper's).

    Each clip binds one of its words, drawn at random. A place counts by how little the frozen backbone looks at that
    word there, relative to the place that looks at it most.

    Args:
        context: projected captions, [batch, slots, width].
        binder: from a context and a mask to one context for each block.
    """
    word = 1 + (torch.rand(len(sigmas), generator=generator) * batch.key_slots.amax(1)).long()
    mask = batch.key_slots == word[:, None]
    noise = torch.randn(batch.latents.shape, generator=generator)
    latents, noise, sigmas = (to_device(each, backbone.device) for each in (batch.latents, noise, sigmas))
    noisy, timesteps = torch.lerp(latents, noise, sigmas.view(-1, 1, 1, 1, 1)), sigmas * TRAIN_TIMESTEPS
    with torch.no_grad(), recorded(backbone) as weights:
        before = backbone.velocity(noisy, timesteps, context)
    on_word = to_device(mask, backbone.device)[:, None]
    looks = (torch.stack(weights).mean(dim=0) * on_word).sum(dim=-1)  # [batch, places]
    weights.clear()  # 2 GB at full size
    elsewhere = backbone.at_places(1 - looks / looks.amax(dim=1, keepdim=True).clamp(min=1e-6), noisy.shape)
    after = backbone.velocity(noisy, timesteps, binder(context, mask))
    return ((after - before).float().square() * elsewhere).mean()


def with_one_caption(encoded: EncodedSource) -> EncodedSource:
    """The same source, described by its first caption alone; each frame of a video by the first frame caption."""
    captions = {name: getattr(encoded, name)[:1] for name in ("prompt_embeds", "token_counts", "key_slots")}
    if encoded.kind == "video":
        for name in ("frame_prompt_embeds", "frame_token_counts", "frame_key_slots"):
            captions[name] = getattr(encoded, name)[:1].expand_as(getattr(encoded, name))
    return replace(encoded, **captions)


def initial(
    backbone: Backbone, kind: str, settings: BicoSettings, seed: int
) -> tuple[HierarchicalBinder, nn.Parameter]:
    """An untrained binder for a source of this kind, and its absorption tokens [tokens, width], N(0, 1)."""
    width, num_blocks = backbone.width, backbone.num_blocks  # opens the transformer, which draws random numbers
    two_branch = kind == "video" and settings.temporal_decoupling
    with seeded(seed):
        binder = HierarchicalBinder(
            width, num_blocks, two_branch=two_branch, gate=settings.gate, hierarchical=settings.hierarchical
        )
        absorption = torch.randn(settings.absorption.tokens, width)
    return binder.to(backbone.device), nn.Parameter(absorption.to(backbone.device))


def with_absorption(
    context: Tensor, token_counts: Tensor, absorption: Tensor, settings: Absorption, words: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Places the absorption tokens, and marks what the binder acts on: them and the words, never end-of-sequence.

    Args:
        context: [batch, slots, width].
        token_counts: with end-of-sequence, [batch], in main memory.
        absorption: [tokens, width].
        words: on which of the words the binder acts, bool [batch, slots], in main memory; None = all.

    Returns:
        Context, and mask bool [batch, slots], in main memory. A caption that fills all slots gives up its last ones.
    """
    batch, slots, _ = context.shape
    count = token_counts[:, None] - 1
    mask = torch.arange(slots) < count if words is None else words
    if len(absorption) == 0:
        return context, mask
    start = count + 1 if settings.slot == "append" else count
    start = start.clamp(max=slots - len(absorption))
    rows, columns = torch.arange(batch)[:, None], start + torch.arange(len(absorption))
    context, mask = context.clone(), mask.clone()
    context[to_device(rows, context.device), to_device(columns, context.device)] = absorption
    mask[rows, columns] = True
    return context, mask


def compose(
    backbone: Backbone, jobs: Iterable[Job], settings: BicoSettings, sampling: Sampling, media: Media
) -> Iterator[tuple[Job, np.ndarray]]:
    """Clips uint8 [T, H, W, 3] of the bound prompts."""

    def bound(case: Case, artifacts: Mapping[str, Path]) -> Contexts:
        binders = {
            source: HierarchicalBinder.from_tensors(load_artifact(artifacts[source])[0], backbone.num_blocks)
            for source in case.bind
        }
        return bind(backbone, case, binders, settings.strength)

    return compose_with(bound, backbone, jobs, sampling, media)


@torch.no_grad()
def bind(
    backbone: Backbone, case: Case, binders: Mapping[str, HierarchicalBinder], strength: float = 1.0
) -> list[Tensor]:
    """One context [1, slots, width] for each block: the prompt, each bound word changed by its own source's binder.

    The words of different sources share no token, so their order does not matter.
    """
    context = project(backbone, case.prompt)
    contexts = [context] * backbone.num_blocks
    owned = bound_slots(backbone.tokenizer, case.prompt, case.bind, backbone.text_slots)
    for source, slots in owned.items():
        mask = torch.zeros(context.shape[:2], dtype=torch.bool, device=context.device)
        mask[:, slots] = True
        changed = binders[source].to(context.device)(context, mask, strength=strength)
        contexts = [torch.where(mask[..., None], new, old) for new, old in zip(changed, contexts, strict=True)]
    return contexts
