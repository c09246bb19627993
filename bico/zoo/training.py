"""The training loop that all models of the zoo share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from bico.core.errors import InputError
from bico.models.wan.components import best_dtype
from bico.zoo.checkpoints import load_checkpoint, save_checkpoint
from bico.zoo.progress import Progress
from bico.zoo.workers import average_gradients, join_workers

CHECKPOINT_EVERY = 250  # steps


@dataclass
class Average:
    """An exponential moving average of a model's weights.

    Attributes:
        model: a copy of the trained model, which holds the average.
        decay: the share of the average that a step (from 0 on) keeps.
    """

    model: torch.nn.Module
    decay: Callable[[int], float]

    @torch.no_grad()
    def follow(self, model: torch.nn.Module, step: int) -> None:
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - self.decay(step))


@dataclass
class Training:
    """The training of one model, which resumes from its checkpoint.

    Attributes:
        name: name of the training in its progress lines.
        model: contains all trained parameters.
        checkpoint: a file, read at once if it exists.
        steps: number of all steps, including those before the checkpoint.
        peak, warmup: of the learning rate, see `cosine_rate`; for Muon the peak is a multiple of its own rates.
        max_norm: largest norm of the gradients; larger ones are clipped.
        clip_groups: whether the gradients of each of the optimiser's parameter groups are clipped separately.
        average: moving average of the weights, if given.
        before: called in the first process with the number of steps done, before a checkpoint is written.
        first: the first step.
    """

    name: str
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    checkpoint: Path
    steps: int
    peak: float = 1.0
    warmup: int = 100
    max_norm: float = 1.0
    clip_groups: bool = False
    average: Average | None = None
    before: Callable[[int], None] | None = None

    def __post_init__(self) -> None:
        self._modules = {"model": self.model} | ({"average": self.average.model} if self.average else {})
        self.first = load_checkpoint(self.checkpoint, self._modules, self.optimizer)
        if self.first > self.steps:
            raise InputError(
                f"{self.checkpoint}: of step {self.first}: expected one of a training of {self.steps} steps; "
                "remove it, or name another --workdir"
            )

    def run(self, loss: Callable[[int], dict[str, torch.Tensor]]) -> None:
        """Minimises the sum of the losses that `loss` returns for a step, by name.

        All randomness in `loss` must depend only on the step, so that a resumed training gives the same weights. Under
        torchrun `loss` gets the process's own part of a batch.
        """
        rank, workers = join_workers()
        progress = Progress(self.name, self.steps, done=self.first)
        for step in range(self.first, self.steps):
            losses = loss(step)
            self.optimizer.zero_grad()
            cast(torch.Tensor, sum(losses.values())).backward()
            average_gradients(self.model, workers)
            self._descend(step)
            if rank > 0:
                continue
            progress.update(step + 1, **losses)
            if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == self.steps:
                if self.before:
                    self.before(step + 1)
                save_checkpoint(self.checkpoint, step + 1, self._modules, self.optimizer)

    def _descend(self, step: int) -> None:
        """Clips the gradients, takes the optimiser's step and updates the average."""
        groups = self.optimizer.param_groups
        for parameters in [group["params"] for group in groups] if self.clip_groups else [self.model.parameters()]:
            torch.nn.utils.clip_grad_norm_(parameters, self.max_norm)
        for group in groups:
            group["lr"] = cosine_rate(step, self.steps, self.peak, self.warmup)
        self.optimizer.step()
        if self.average:
            self.average.follow(self.model, step)


def cosine_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Learning rate: linear warm-up to `peak`, then half a cosine down to a hundredth of it."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * done))))


@contextmanager
def mixed_precision(device: str) -> Iterator[None]:
    """Computes matrix products in bfloat16 where that is faster.

    On a CPU attention is computed by separate operations: in a small transformer the backward pass of fused attention
    takes longer than everything else.
    """
    with (
        torch.autocast(device, torch.bfloat16, enabled=best_dtype(device) == torch.bfloat16),
        sdpa_kernel(SDPBackend.MATH) if device == "cpu" else nullcontext(),
    ):
        yield
