"""The training of the DiT: flow matching on latents of stills and clips."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from bico.toybox.world import NUM_FRAMES
from bico.zoo.muon import muon
from bico.zoo.training import Average, Training, mixed_precision
from bico.zoo.wan import settings
from bico.zoo.wan.augmentation import blur, misplaced
from bico.zoo.wan.pool import Pool
from bico.zoo.wan.text_encoder import Reader
from bico.zoo.wan.transformer import Trainee, own_words
from bico.zoo.workers import join_workers


class Draws(NamedTuple):
    """All that is random in a batch.

    Attributes:
        chosen: [B] scenes of the pool.
        caption_of: [B] which of a scene's captions.
        frame: [B] which of a scene's frames, for a batch of stills.
        empty, names_alone: [B] in 0..1; a caption is empty, or shows its names alone, below a threshold.
        position: [B] in 0..1, on the schedule of noise levels; 1 is the noisy end.
        noise: [B, C, t, h, w].
        misplaced: [B, L, 4], see `augmentation.misplaced`.
        blurs: [B, L, WIDTH], see `augmentation.blur`.
    """

    chosen: torch.Tensor
    caption_of: torch.Tensor
    frame: torch.Tensor
    empty: torch.Tensor
    position: torch.Tensor
    names_alone: torch.Tensor
    noise: torch.Tensor
    misplaced: torch.Tensor
    blurs: torch.Tensor


def draw_scenes(pool: Pool, count: int, size: int, num_frames: int, generator: torch.Generator) -> Draws:
    """A batch of `size` out of the first `count` scenes of a pool."""
    random = {"generator": generator, "device": generator.device}
    uniform = partial(torch.rand, **random)
    chosen = torch.randint(count, (size,), **random)
    caption_of = torch.randint(settings.TELLINGS, (size,), **random)
    empty, position, names_alone = uniform(3, size)
    frame = torch.randint(pool.latents.shape[2], (size,), **random)
    noise = torch.randn((size, pool.latents.shape[1], num_frames, *pool.latents.shape[3:]), **random)
    draws, blurs = uniform(size, settings.TOKENS, 4), blur(size, generator)
    return Draws(chosen, caption_of, frame, empty, position, names_alone, noise, draws, blurs)


def pair_twins(draws: Draws, count: int, twins: int) -> None:
    """Makes PAIRED of the clips, in place, clips that have a twin, and as many others their twins.

    Both get the same noise at a high noise level and the same choices for their captions. They look alike under the
    noise, and their captions differ in nothing but how things move.

    Args:
        count: of the clips in the pool, after which the twins of the first `twins` ones follow.
    """
    pairs = round(settings.PAIRED * len(draws.chosen))
    one, other = slice(pairs), slice(pairs, 2 * pairs)
    draws.chosen[one] %= twins
    draws.chosen[other] = count + draws.chosen[one]
    draws.position[one] = 1 - settings.EARLY * draws.position[one]
    for drawn in (draws.caption_of, draws.empty, draws.position, draws.names_alone, draws.noise):
        drawn[other] = drawn[one]


def velocity_loss(error: torch.Tensor, covered: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Mean squared error of velocities, plus that of their differences from frame to frame, so that what moves counts
    more than what stays.

    The weight of subjects falls with the noise level: in pure noise the place of a subject cannot be known, and more
    weight there would teach the DiT to paint it at all possible places. The weight of differences rises with the noise
    level, because the direction of a motion is decided before it is visible.

    Args:
        error: [B, C, t, h, w] of the velocities.
        covered: [B, ACTORS, t, h, w] share of each cell that a subject covers.
        sigmas: [B] noise levels in 0..1.
    """
    sigmas = sigmas.view(-1, 1, 1, 1, 1)
    weights = 1 + (settings.SUBJECT_WEIGHT - 1) * (1 - sigmas).square() * covered.sum(1, keepdim=True)
    change_weights = 1 + (settings.CHANGE_WEIGHT - 1) * sigmas.square()
    changes = error.diff(dim=2).square() * change_weights
    return ((error.square() * weights).sum() + changes.sum()) / error.numel()


def losses_of(
    model: Trainee, reader: Reader, pool: Pool, draws: Draws, padding: torch.Tensor, slots: torch.Tensor, shift: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The losses on velocity and on cross-attention of a batch.

    Args:
        padding: [1, WIDTH], the projected padding.
        slots: number of text slots, as a scalar tensor.
        shift: distance in the batch to the caption from which misplaced features come.
    """
    chosen, still = draws.chosen, draws.noise.shape[2] == 1
    rows = torch.where(draws.empty < settings.UNCONDITIONAL, -1, chosen * settings.TELLINGS + draws.caption_of)
    captions = pool.captions.at(rows)
    latents, regions = (
        (part[chosen, :, draws.frame].unsqueeze(2) if still else part[chosen]).float()
        for part in (pool.latents, pool.regions)
    )
    sigmas = settings.SHIFT * draws.position / (1 + (settings.SHIFT - 1) * draws.position)
    noisy = torch.lerp(latents, draws.noise, sigmas.view(-1, 1, 1, 1, 1))
    names_alone = draws.names_alone[:, None] < settings.NAMES_ALONE
    shown = torch.where(names_alone, captions.stands, captions.mask.float())
    with mixed_precision(latents.device.type):
        with torch.no_grad():
            whole = reader(captions.tokens, captions.mask)
            context = whole + misplaced(whole, captions, draws.misplaced, shift) + draws.blurs
            own = own_words(regions, captions.about * shown[:, None])
        velocity, focus = model(noisy, sigmas, context, padding, shown, own, slots)
    error = velocity.float() - (draws.noise - latents)
    return velocity_loss(error, regions[:, : settings.ACTORS], sigmas), settings.FOCUS_WEIGHT * focus.mean()


def train_transformer(
    model: Trainee,
    average: Trainee,
    reader: Reader,
    stills: Pool,
    clips: Pool,
    course: settings.Course,
    workdir: Path,
    steps: int,
    seed: int,
    before: Callable[[int], None] | None = None,
) -> None:
    """Trains the DiT; `average` becomes the moving average of its weights. Resumes from the checkpoint in `workdir`.

    Args:
        before: see `Training`.
    """
    rank, workers = join_workers()
    device = stills.latents.device
    following = Average(average, lambda step: min(settings.EMA, (step + 1) / (step + 10)))
    optimizer, checkpoint = muon(model, model.transformer.blocks), workdir / "wan-transformer.safetensors"
    training = Training(
        "wan transformer", model, optimizer, checkpoint, steps, course.peak, 300, average=following, before=before
    )
    padding = reader.project(torch.zeros(1, settings.TEXT_WIDTH, device=device)).detach()
    for block in model.transformer.blocks:
        block.compile(dynamic=False)

    def loss(step: int) -> dict[str, torch.Tensor]:
        early = step < course.still_share * steps
        still, of_clips = early or step % 4 == 0, not early and step % 8 == 0
        pool = stills if still and not of_clips else clips
        size = (settings.STILL_BATCH if still else settings.CLIP_BATCH)[device.type]
        count = len(pool.latents) - (0 if still else course.twins)
        generator = torch.Generator(device).manual_seed(seed * 1_000_003 + step)
        draws = draw_scenes(pool, count, size, 1 if still else NUM_FRAMES, generator)
        chance = torch.rand((), generator=generator, device=device)
        slots = torch.where(chance < 0.5, *map(float, settings.TEXT_SLOTS))
        if not still:
            pair_twins(draws, count, course.twins)
        # Each process takes its part of a batch that does not depend on the number of processes.
        part = Draws(*(each[rank::workers] for each in draws))
        velocity, focus = losses_of(model, reader, pool, part, padding, slots, settings.DONOR // workers)
        return {"still" if still else "clip": velocity, "focus": focus}

    training.run(loss)
