"""The one training loop that all learned methods share.

A method passes its parameters and a list of stages; each stage has a number of steps and a loss. All randomness of a
step comes from one generator that is seeded with (seed, step). So an interrupted run that continues from its checkpoint
gives the same bytes as an uninterrupted one: always on a CPU, and on a GPU as far as its kernels are deterministic (the
gradients of cuDNN's attention and of flash attention are not).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from bico.core.progress import training_progress
from bico.core.transfer import arriving
from bico.training.checkpoint import resume, save
from bico.training.metrics import METRICS, Metrics, metrics_from
from bico.training.randomness import step_generator

if TYPE_CHECKING:
    from bico.config.methods import LearnedSettings

CHECKPOINT_SECONDS = 600.0
"""Time between checkpoints where the settings give no number of steps: a step takes 0.03 to 8 s at full size, and a
checkpoint some seconds."""

EVAL_BATCHES = 2
"""Number of batches of the evaluation loss."""

Preview = Callable[[int, Mapping[str, Tensor]], object]
"""Function that is called with the number of finished steps and with what has been learned so far."""


class Loss(Protocol):
    """The loss of a step."""

    def __call__(self, generator: torch.Generator, batch_size: int, training: bool) -> tuple[Tensor, Tensor]:
        """The mean loss of a batch, a scalar, and its sigmas [batch].

        Args:
            generator: source of all random numbers.
            training: False for the evaluation loss, which has no gradient.
        """
        ...


@dataclass(frozen=True)
class Stage:
    """Steps that share a loss.

    Attributes:
        micro_batch: number of items that go through the loss at once, where the activations of the whole batch would
            not fit; None = the whole batch.
        fresh_optimizer: whether the stage starts with a new optimiser, whose moments are zero.
    """

    name: str
    steps: int
    loss: Loss
    micro_batch: int | None = None
    fresh_optimizer: bool = False


@dataclass(frozen=True)
class Group:
    """Parameters, by name, and their learning rate."""

    parameters: dict[str, nn.Parameter]
    learning_rate: float


def fit(
    groups: Sequence[Group],
    stages: Sequence[Stage],
    settings: LearnedSettings,
    *,
    seed: int,
    workdir: Path,
    lr_lambda: Callable[[int], float] = lambda step: 1.0,
    max_grad_norm: float | None = None,
    betas: tuple[float, float] = (0.9, 0.999),
    progress: str = "",
    report: Callable[[], dict[str, Tensor]] = dict,
    evaluation: Loss | None = None,
    learned: Callable[[], Mapping[str, Tensor]] = dict,
    preview: Preview | None = None,
) -> None:
    """Trains the parameters in place with AdamW, through all stages.

    Parameters that a stage's loss does not use do not change in it. Every `settings.checkpoint_every` steps, or
    CHECKPOINT_SECONDS, the whole state is saved in `workdir`, and a call that finds a checkpoint there continues from
    it. `workdir / "metrics.jsonl"` gets a line per step: step, stage, loss, mean sigma, seconds, and what `report`
    adds. The lines of the first step, of every `settings.eval_every`th step and of the last step also have "eval_loss",
    the loss on fixed captions, noise levels and noise.

    Args:
        workdir: folder of this training only: nothing that it depends on has changed since its first step
            (`core.records`).
        lr_lambda: factor on the learning rates at each step.
        max_grad_norm: gradients with a larger norm are scaled down to it; None = no limit.
        betas: decay rates of AdamW.
        progress: label of the progress lines; "" for none.
        report: returns numbers, or rows of numbers, after each step. Later steps must not change them.
        evaluation: the evaluation loss; None = that of the stage.
        learned: returns what the method would return if training ended now.
        preview: called with it every `settings.preview_every` steps; None = never. It must not affect training.

    Raises:
        InputError: the loss is no longer finite.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    parameters = {name: parameter for group in groups for name, parameter in group.parameters.items()}
    optimizer = _adamw(groups, settings.weight_decay, betas)
    plan = [stage for stage in stages for _ in range(stage.steps)]
    ends = accumulate(stage.steps for stage in stages)
    fresh = {end - stage.steps for end, stage in zip(ends, stages, strict=True) if stage.fresh_optimizer}
    first = resume(workdir, parameters, optimizer)
    with metrics_from(workdir / METRICS, first) as file, training_progress(progress, len(plan), first) as advance:
        metrics, saved = Metrics(file, progress or workdir.stem, advance), time.monotonic()
        for step, stage in enumerate(plan[first:], start=first):
            started = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            if step in fresh:
                optimizer.state.clear()
            loss, sigmas = _backward(stage, settings.batch_size, step_generator(seed, step))
            if max_grad_norm is not None:
                nn.utils.clip_grad_norm_(parameters.values(), max_grad_norm)
            for group, tuned in zip(groups, optimizer.param_groups, strict=True):
                tuned["lr"] = group.learning_rate * lr_lambda(step)
            optimizer.step()
            numbers = arriving({"loss": loss, "sigma": sigmas.mean(), **report()})
            metrics.write()  # the line of the step before, so that the GPU works on this one while we wait
            line = {"seconds": round(time.perf_counter() - started, 4)}
            if step in (0, len(plan) - 1) or (step + 1) % settings.eval_every == 0:
                # One item at a time in all stages, because other parts of a batch would draw other random numbers.
                alike = replace(stage, loss=evaluation or stage.loss, micro_batch=1)
                line["eval_loss"] = _eval_loss(alike, settings.batch_size, seed)
            metrics.add(step, stage.name, numbers, line)
            # This comes before the checkpoint, because a training that continues from it makes no preview of this step.
            if preview is not None and settings.preview_every and (step + 1) % settings.preview_every == 0:
                preview(step + 1, learned())
            every = settings.checkpoint_every
            if (step + 1) % every == 0 if every else time.monotonic() - saved >= CHECKPOINT_SECONDS:
                metrics.write()
                file.flush()
                save(workdir, step + 1, parameters, optimizer)
                saved = time.monotonic()
        metrics.write()


def _adamw(groups: Sequence[Group], weight_decay: float, betas: tuple[float, float]) -> torch.optim.AdamW:
    parameters = [{"params": list(group.parameters.values()), "lr": group.learning_rate} for group in groups]
    return torch.optim.AdamW(parameters, weight_decay=weight_decay, betas=betas, fused=True)


def _backward(stage: Stage, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Computes the gradients of a batch; returns its loss and its sigmas [batch]."""
    losses, sigmas = [], []
    for part, levels in _micro_batches(stage, batch_size, generator, training=True):
        part.backward()
        losses.append(part.detach())
        sigmas.append(levels)
    return torch.stack(losses).sum(), torch.cat(sigmas)


@torch.no_grad()
def _eval_loss(stage: Stage, batch_size: int, seed: int) -> float:
    """The loss with the same random numbers at each call."""
    generators = (step_generator(seed, -1 - number) for number in range(EVAL_BATCHES))
    batches = (_micro_batches(stage, batch_size, generator, training=False) for generator in generators)
    return sum(part.item() for batch in batches for part, _ in batch) / EVAL_BATCHES


def _micro_batches(
    stage: Stage, batch_size: int, generator: torch.Generator, *, training: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Losses of parts of the batch, which add up to that of the batch, and the sigmas of each."""
    largest = stage.micro_batch or batch_size
    for start in range(0, batch_size, largest):
        size = min(largest, batch_size - start)
        mean, sigmas = stage.loss(generator, size, training)
        yield mean * (size / batch_size), sigmas


def warm_up_cosine(step: int, *, warm_up: int, steps: int) -> float:
    """An `lr_lambda` that rises linearly to 1 in the warm-up, then falls to 0 as half a cosine."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))
