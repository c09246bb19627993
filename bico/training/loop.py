"""The one training loop that all learned methods share.

A method hands over its parameters and a list of stages; each stage is a number of steps and a loss. All randomness of a
step comes from one generator that is seeded with (seed, step), so an interrupted run that goes on from its checkpoint
ends in the same bytes as one that was never interrupted: on a CPU, and on a GPU as far as its kernels repeat themselves
(the gradient of cuDNN's and flash attention does not).
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

EVAL_BATCHES = 2
"""Batches of the evaluation loss."""

Preview = Callable[[int, Mapping[str, Tensor]], object]
"""What is called with the number of steps that are done, and with what has been learned in them."""


class Loss(Protocol):
    """The loss of a step."""

    def __call__(self, generator: torch.Generator, batch_size: int, training: bool) -> tuple[Tensor, Tensor]:
        """The mean loss of a batch, a scalar, and its sigmas [batch].

        Args:
            generator: of which all that is random is drawn.
            training: False for the evaluation loss, which has no gradient.
        """
        ...


@dataclass(frozen=True)
class Stage:
    """Steps that share a loss.

    Attributes:
        micro_batch: how much of a batch goes through the loss at once, where the activations of all would not fit;
            None = the whole batch.
        fresh_optimizer: the stage starts with an optimiser of its own, whose moments are zero.
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

    Parameters that a stage's loss does not touch keep still in it. Every `settings.checkpoint_every` steps the whole
    state goes to `workdir`, and a call that finds one there continues from it. `workdir / "metrics.jsonl"` gets a line
    a step: step, stage, loss, mean sigma, seconds, and what `report` adds; after the first step, every
    `settings.eval_every` and the last one also "eval_loss": the loss on captions, noise levels and noises that never
    change.

    Args:
        workdir: of this very training: nothing that it depends on has changed since its first step (`core.records`).
        lr_lambda: factor on the learning rates at each step.
        max_grad_norm: gradients of a larger norm are scaled down to it; None = none are.
        betas: of AdamW.
        progress: label of the progress lines; "" for none.
        report: after each step: numbers, or rows of them, that later steps leave as they are.
        evaluation: that loss; None = that of the stage.
        learned: what the method would return if training ended now.
        preview: called with it every `settings.preview_every` steps; None = never. It leaves all of training alone.

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
        metrics = Metrics(file, progress or workdir.stem, advance)
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
            metrics.write()  # of the step before: a GPU has the next one to do while this waits for it
            line = {"seconds": round(time.perf_counter() - started, 4)}
            if step in (0, len(plan) - 1) or (step + 1) % settings.eval_every == 0:
                # One by one in all stages, whatever fits there: other parts of a batch draw other random numbers.
                alike = replace(stage, loss=evaluation or stage.loss, micro_batch=1)
                line["eval_loss"] = _eval_loss(alike, settings.batch_size, seed)
            metrics.add(step, stage.name, numbers, line)
            # Before a checkpoint: a training that goes on from it makes no preview of its step.
            if preview is not None and settings.preview_every and (step + 1) % settings.preview_every == 0:
                preview(step + 1, learned())
            if (step + 1) % settings.checkpoint_every == 0:
                metrics.write()
                file.flush()
                save(workdir, step + 1, parameters, optimizer)
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
    """The loss on the same random numbers whenever it is asked for."""
    generators = (step_generator(seed, -1 - number) for number in range(EVAL_BATCHES))
    batches = (_micro_batches(stage, batch_size, generator, training=False) for generator in generators)
    return sum(part.item() for batch in batches for part, _ in batch) / EVAL_BATCHES


def _micro_batches(
    stage: Stage, batch_size: int, generator: torch.Generator, *, training: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Losses that add up to that of the batch, and the sigmas of each."""
    largest = stage.micro_batch or batch_size
    for start in range(0, batch_size, largest):
        size = min(largest, batch_size - start)
        mean, sigmas = stage.loss(generator, size, training)
        yield mean * (size / batch_size), sigmas


def warm_up_cosine(step: int, *, warm_up: int, steps: int) -> float:
    """An `lr_lambda` that rises to 1 over the steps of the warm-up, then falls to 0 as half a cosine."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))
