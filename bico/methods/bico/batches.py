"""The captions of each training step."""

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
"""Returns a batch of this number of captions. All its randomness comes from the generator."""


def updates(
    plan: Sequence[Phase], encoded: EncodedSource, settings: Settings, seed: int
) -> Iterator[tuple[Phase, Draw, bool]]:
    """The steps of all phases, one by one: the phase, the draw of its batch, and whether it is the first step on frames
    or the first on the image or clip.

    Each step has its own draw, so an interrupted training can continue in the middle of an epoch. An epoch continues
    from one phase to the next if both use the same media.
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
    """A draw of the captions with these numbers, int64 [batch]. A smaller batch gets a part of them."""
    left = iter(captions)
    return lambda size, generator: encoded.batch(torch.stack(list(islice(left, size))), frames=frames)
