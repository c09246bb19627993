"""The one training loop that all learned methods share.

A method hands over its parameters and a list of stages; each stage is a number of steps and a loss. All randomness of a
step comes from one generator that is seeded with (seed, step), so an interrupted run that goes on from its checkpoint
ends in the same bytes as one that was never interrupted: on a CPU, and on a GPU as far as its kernels repeat themselves
(the gradient of cuDNN's and flash attention does not).

The loss is flow matching: x_sigma = (1 - sigma) x_0 + sigma noise, and the transformer's velocity is to equal
noise - x_0 (Lipman et al., ICLR 2023).
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from bico.core.errors import InputError
from bico.core.files import replacing
from bico.core.transfer import arriving, to_device
from bico.models.wan.backbone import TRAIN_TIMESTEPS, Backbone, Contexts

if TYPE_CHECKING:
    from bico.config.schema import LearnedSettings

CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.jsonl"
PROBES = 2
"""Batches of the probe loss."""


# Noise levels


def shifted(position: Tensor, shift: float) -> Tensor:
    """Sigma at a position of the schedule: 0 is clean, 1 is noise (the flow-match scheduler's timestep shift)."""
    return shift * position / (1 + (shift - 1) * position)


def position_of(sigma: float, shift: float) -> float:
    """The inverse of `shifted`."""
    return sigma / (shift - (shift - 1) * sigma)


@dataclass(frozen=True)
class NoiseLevels:
    """How a stage draws sigma: uniform over the steps of the schedule within two parts of it.

    P(position > split) = upper. With upper = 1 - split this is uniform over the whole schedule.
    """

    shift: float
    split: float = 0.0
    upper: float = 1.0

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` sigmas in (0, 1]."""
        part, within = torch.rand(2, count, generator=generator, dtype=torch.float64)
        position = torch.where(part < self.upper, self.split + (1 - self.split) * within, self.split * within)
        steps = (position * TRAIN_TIMESTEPS).floor() + 1
        return shifted(steps / TRAIN_TIMESTEPS, self.shift).float()


def gaussian_weight(sigmas: Tensor, shift: float) -> Tensor:
    """Timestep weighting "diffsynth": a Gaussian around sigma = 0.5, lowered to zero at both ends, of mean 1 over the
    schedule. It all but removes the noisiest steps from the loss."""

    def bell(sigmas: Tensor) -> Tensor:
        return torch.exp(-2 * (sigmas - 0.5) ** 2) - math.exp(-0.5)

    schedule = shifted(torch.arange(1, TRAIN_TIMESTEPS + 1) / TRAIN_TIMESTEPS, shift)
    return bell(sigmas) / bell(schedule).mean()


# Loss


def flow_matching_loss(
    backbone: Backbone,
    latents: Tensor,
    contexts: Contexts,
    sigmas: Tensor,
    generator: torch.Generator,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean squared error of the velocity, a scalar in float32.

    Args:
        latents: clean, [batch, channels, t, h, w].
        contexts: projected prompts.
        sigmas: [batch].
        generator: draws the noise.
        weights: of each clip in the mean, [batch].
    """
    noise = torch.randn(latents.shape, generator=generator)
    latents, noise, sigmas = (to_device(each, backbone.device) for each in (latents, noise, sigmas))
    level = sigmas.view(-1, 1, 1, 1, 1)
    velocity = backbone.velocity((1 - level) * latents + level * noise, sigmas * TRAIN_TIMESTEPS, contexts)
    errors = (velocity.float() - (noise - latents)).square().flatten(1).mean(dim=1)
    return errors.mean() if weights is None else (errors * to_device(weights, backbone.device)).mean()


# The loop


Loss = Callable[[torch.Generator], Iterator[tuple[Tensor, Tensor]]]
"""Draws all it needs from the generator; yields the loss and its sigmas. A batch whose activations would not fit comes
in parts: losses that add up, each with the sigmas of its clips."""


@dataclass(frozen=True)
class Stage:
    """Steps that share a loss."""

    name: str
    steps: int
    loss: Loss


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
    rate: Callable[[int], float] = lambda step: 1.0,
    clip_norm: float | None = None,
    progress: str = "",
    report: Callable[[], dict[str, Tensor]] = dict,
    probe: Loss | None = None,
) -> None:
    """Trains the parameters in place with AdamW, through all stages.

    Parameters that a stage's loss does not touch keep still in it. Every `settings.checkpoint_every` steps the whole
    state goes to `workdir`, and a call that finds one there continues from it. `workdir / "metrics.jsonl"` gets a line
    a step: step, stage, loss, mean sigma, seconds, and what `report` adds; after the first step, every
    `settings.probe_every` and the last one also "probe": the loss on captions, noise levels and noises that never
    change.

    Args:
        workdir: of this very training: nothing that it depends on has changed since its first step (`core.records`).
        rate: factor on the learning rates at each step.
        clip_norm: gradients of a larger norm are scaled down to it; None = none are.
        progress: label of the progress lines on stderr; "" for none.
        report: after each step: numbers, or rows of them, that later steps leave as they are.
        probe: that loss; None = that of the stage.

    Raises:
        InputError: the loss is no longer finite.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    parameters = {name: parameter for group in groups for name, parameter in group.parameters.items()}
    optimizer = torch.optim.AdamW(
        [{"params": list(group.parameters.values()), "lr": group.learning_rate} for group in groups],
        weight_decay=settings.weight_decay,
        fused=True,
    )
    plan = [stage for stage in stages for _ in range(stage.steps)]
    first = _resume(workdir, parameters, optimizer)
    with _metrics_from(workdir / METRICS, first) as file, _progress(progress, len(plan), first) as advance:
        metrics = _Metrics(file, progress or workdir.stem, advance)
        for step, stage in enumerate(plan[first:], start=first):
            started = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            losses, sigmas = zip(*_backwards(stage.loss(step_generator(seed, step))), strict=True)
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters.values(), clip_norm)
            for group, tuned in zip(groups, optimizer.param_groups, strict=True):
                tuned["lr"] = group.learning_rate * rate(step)
            optimizer.step()
            numbers = arriving({"loss": torch.stack(losses).sum(), "sigma": torch.cat(sigmas).mean(), **report()})
            metrics.write()  # of the step before: a GPU has the next one to do while this waits for it
            line = {"seconds": round(time.perf_counter() - started, 4)}
            if step in (0, len(plan) - 1) or (step + 1) % settings.probe_every == 0:
                line["probe"] = _probe_loss(probe or stage.loss, seed)
            metrics.add(step, stage.name, numbers, line)
            if (step + 1) % settings.checkpoint_every == 0:
                metrics.write()
                file.flush()
                _save(workdir, step + 1, parameters, optimizer)
        metrics.write()


def _backwards(parts: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Adds the gradients of each part up before the next one is computed; yields its loss and sigmas."""
    for loss, sigmas in parts:
        loss.backward()
        yield loss.detach(), sigmas


@torch.no_grad()
def _probe_loss(loss: Loss, seed: int) -> float:
    """The loss on the same random numbers whenever it is asked for."""
    batches = (loss(step_generator(seed, -1 - number)) for number in range(PROBES))
    return sum(part.item() for batch in batches for part, _ in batch) / PROBES


def warm_up_cosine(step: int, *, warm_up: int, steps: int) -> float:
    """A `rate` that rises to 1 over the steps of the warm-up, then falls to 0 as half a cosine."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """What is drawn at random inside, such as fresh weights, depends on `seed` alone; outside nothing is drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def step_generator(seed: int, step: int) -> torch.Generator:
    """The source of all randomness of one step."""
    mixed = hashlib.sha256(f"{seed}/{step}".encode()).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(mixed) >> 1)


def _save(workdir: Path, step: int, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    tensors = {f"parameters.{name}": parameter.data for name, parameter in parameters.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    with replacing(workdir / CHECKPOINT) as unfinished:
        save_file(tensors, unfinished, metadata={"step": str(step)})


def _resume(workdir: Path, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> int:
    """Loads the checkpoint, if there is one; returns the step to go on with."""
    path = workdir / CHECKPOINT
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as file:
        state: dict[int, dict[str, Tensor]] = {}
        for key in file.keys():  # noqa: SIM118 (not a mapping)
            kind, name = key.split(".", 1)
            if kind == "parameters":
                parameters[name].data.copy_(file.get_tensor(key))
            else:
                index, name = name.split(".")
                state.setdefault(int(index), {})[name] = file.get_tensor(key)
        optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
        return int(file.metadata()["step"])


class _Metrics:
    """Writes the lines of the metrics file, each when its numbers have arrived."""

    def __init__(self, file: TextIO, training: str, advance: Callable[[float], None]) -> None:
        self._file, self._training, self._advance = file, training, advance
        self._waiting: Callable[[], dict[str, object]] | None = None

    def add(self, step: int, stage: str, numbers: Callable[[], dict[str, object]], known: Mapping[str, object]) -> None:
        """The line to `write` next."""
        self._waiting = lambda: {"step": step, "stage": stage} | numbers() | known

    def write(self) -> None:
        """Writes the line, if there is one; InputError if its loss is not finite."""
        if self._waiting is None:
            return
        line, self._waiting = self._waiting(), None
        if not math.isfinite(line["loss"]):
            what = f"{self._training}: the loss is {line['loss']} in step {line['step']}"
            raise InputError(f"{what}: lower the learning_rate")
        self._file.write(json.dumps(line) + "\n")
        self._advance(line["loss"])


def _metrics_from(path: Path, first: int) -> TextIO:
    """The metrics file, opened to append step `first`; later lines, of a run that broke off, are dropped."""
    kept = path.read_text().splitlines(keepends=True)[:first] if path.exists() else []
    path.write_text("".join(kept))
    return path.open("a")


@contextmanager
def _progress(label: str, total: int, first: int) -> Iterator[Callable[[float], None]]:
    """Yields what to call with the loss after each step: a bar with ETA on a terminal, a line every tenth in a log."""
    if sys.stderr.isatty() and label:
        with tqdm(desc=label, total=total, initial=first, dynamic_ncols=True) as bar:
            yield lambda loss: (bar.set_postfix_str(f"loss {loss:.4f}", refresh=False), bar.update())
        return
    started, done = time.perf_counter(), first

    def advance(loss: float) -> None:
        nonlocal done
        done += 1
        if label and (done == total or done % max(1, total // 10) == 0):
            rate = (time.perf_counter() - started) / (done - first)
            left = tqdm.format_interval(rate * (total - done))
            print(f"{label}: step {done}/{total}, loss {loss:.4f}, {rate:.3f} s/step, {left} left", file=sys.stderr)

    yield advance
