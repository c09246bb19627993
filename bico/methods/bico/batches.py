"""Which captions each step of a training looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, groupby, islice, repeat

import torch
from torch import Tensor

from bico.methods.bico.schedule import Phase
from bico.methods.bico.settings import Settings
from bico.sources.encoding import Batch, EncodedSource
from bico.training.randomness import shuffled_epochs

Draw = Callable[[int, torch.Generator], Batch]
"""A batch of so many captions; what is random in it comes from the generator."""


def updates(
    plan: Sequence[Phase], encoded: EncodedSource, settings: Settings, seed: int
) -> Iterator[tuple[Phase, Draw, bool]]:
    """The steps of all phases, one by one: the phase, the draw of its batch, and whether it is the first step on frames
    or the first on the image or clip.

    Each step has a draw of its own, so an interrupted training goes on in the middle of an epoch. Epochs go on from one
    phase to the next as long as both look at the same media.
    """
    for frames, run in groupby(plan, key=lambda phase: phase.frames):
        steps = [phase for phase in run for _ in range(phase.steps)]
        draws: Iterator[Draw] = repeat(partial(encoded.draw, frames=frames))
        if settings.caption_sampling == "epochs":
            count, size = encoded.captions(frames=frames), settings.batch_size
            order = shuffled_epochs(count, size * len(steps), seed, "frames" if frames else "whole")
            draws = (_in_turn(encoded, captions, frames=frames) for captions in order.split(size))
        yield from zip(steps, draws, chain([True], repeat(False)), strict=False)


def _in_turn(encoded: EncodedSource, captions: Tensor, *, frames: bool) -> Draw:
    """Draws the captions of these numbers, int64 [batch]; a part of them, if a part of the batch is asked for."""
    left = iter(captions)
    return lambda size, generator: encoded.batch(torch.stack(list(islice(left, size))), frames=frames)
