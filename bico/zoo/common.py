"""What the trainings of the zoo share: rendered scenes, checkpoints that resume exactly, progress."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn.attention import SDPBackend, sdpa_kernel

from bico.core.files import replacing
from bico.models.wan.backbone import best_dtype
from bico.toybox.render import render
from bico.toybox.world import NUM_FRAMES, SIZE, Scene, sample_training_scene

Item, Result = TypeVar("Item"), TypeVar("Result")

# Seeds of scenes: training, held-out evaluation and benchmark sources draw from streams that never meet.
TRAIN_SEED, STILL_SEED, HELD_OUT_SEED = 1_000, 1_500, 2_000


def scenes(count: int, seed: int, start: int = 0) -> list[Scene]:
    """`count` training scenes; scene i depends on (seed, i) alone."""
    return [sample_training_scene(np.random.default_rng([seed, start + i])) for i in range(count)]


def in_parallel(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """`work` of every item, in order, on all cores; with fewer than some hundred items it is not worth the start.

    Args:
        work: a function of a module that is quickly imported, such as the renderer.
    """
    workers = min(os.cpu_count() or 1, len(items) // 500)
    if workers < 2:
        yield from map(work, items)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(work, items, chunksize=50)


def render_pool(path: Path, shape: tuple[int, ...], rendered: Iterable[np.ndarray]) -> np.ndarray:
    """uint8 array of `shape`, whose items are `rendered` if need be, kept at `path` and mapped into memory."""
    if not path.exists():
        with replacing(path) as unfinished:
            pool = np.lib.format.open_memmap(unfinished, "w+", np.uint8, shape)
            progress = Progress("render", len(pool))
            for i, item in enumerate(rendered):
                pool[i] = item
                progress.update(i + 1)
            pool.flush()
    return np.load(path, mmap_mode="r")


def clip_pool(path: Path, count: int, seed: int) -> np.ndarray:
    """uint8 [count, T, H, W, 3]: renders of `scenes(count, seed)`."""
    return render_pool(path, (count, NUM_FRAMES, SIZE, SIZE, 3), in_parallel(render, scenes(count, seed)))


def to_model(clips: np.ndarray) -> torch.Tensor:
    """uint8 [B, T, H, W, 3] to float32 [B, 3, T, H, W] in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(clips)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


@contextmanager
def mixed_precision(device: str) -> Iterator[None]:
    """Matrix products in bfloat16, where that is faster. Attention on a CPU is explicit: the fused one's backward pass
    takes longer than all the rest of a small transformer there.
    """
    with (
        torch.autocast(device, torch.bfloat16, enabled=best_dtype(device) == torch.bfloat16),
        sdpa_kernel(SDPBackend.MATH) if device == "cpu" else nullcontext(),
    ):
        yield


def cosine_rate(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """Learning rate: linear warm-up to `peak`, then half a cosine down to a hundredth of it."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * done))))


class Muon(torch.optim.Optimizer):
    """Momentum whose updates are orthogonalised (Newton-Schulz) for convolutions and matrices, Adam for all else.

    It learns in a hundred steps what takes AdamW several hundred. `rate` scales both learning rates.
    """

    ORTHOGONAL, ADAM = 0.02, 2e-3  # learning rates at rate 1

    def __init__(self, parameters: Iterable[torch.nn.Parameter], plain: Iterable[torch.nn.Parameter] = ()):
        """`plain`: parameters for Adam whatever their shape, such as embeddings."""
        groups = [{"params": list(parameters), "matrices": True}, {"params": list(plain), "matrices": False}]
        super().__init__([group for group in groups if group["params"]], {"rate": 1.0})

    def set_rate(self, rate: float) -> None:
        for group in self.param_groups:
            group["rate"] = rate

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            learning = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in learning:
                if not (state := self.state[parameter]):
                    state["first"], state["second"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
                    state["step"] = torch.zeros(())
                state["step"] += 1
            alike: dict[torch.Size, list[torch.nn.Parameter]] = {}  # matrices of one shape take their step together
            plain = []
            for parameter in learning:
                matrix = group["matrices"] and parameter.ndim >= 2 and parameter[0].numel() > 1
                (alike.setdefault(parameter.shape, []) if matrix else plain).append(parameter)
            for parameters in alike.values():
                self._orthogonal_step(parameters, group["rate"])
            if plain:
                self._adam_step(plain, group["rate"])

    def _orthogonal_step(self, parameters: list[torch.nn.Parameter], rate: float) -> None:
        gradients, (firsts,) = _gradients(parameters), self._moments(parameters, "first")
        torch._foreach_mul_(firsts, 0.95)
        torch._foreach_add_(firsts, gradients)
        updates = torch.stack(torch._foreach_add(gradients, firsts, alpha=0.95)).flatten(2)
        updates = _orthogonal(updates).view(-1, *parameters[0].shape)
        torch._foreach_add_(parameters, list(updates.unbind()), alpha=-rate * self.ORTHOGONAL)

    def _adam_step(self, parameters: list[torch.nn.Parameter], rate: float) -> None:
        gradients, (firsts, seconds) = _gradients(parameters), self._moments(parameters, "first", "second")
        steps = [self.state[parameter]["step"].item() for parameter in parameters]
        torch._foreach_lerp_(firsts, gradients, 0.1)
        torch._foreach_mul_(seconds, 0.98)
        torch._foreach_addcmul_(seconds, gradients, gradients, 0.02)
        means = torch._foreach_div(firsts, [1 - 0.9**step for step in steps])
        sizes = torch._foreach_sqrt(torch._foreach_div(seconds, [1 - 0.98**step for step in steps]))
        torch._foreach_add_(sizes, 1e-8)
        torch._foreach_addcdiv_(parameters, means, sizes, -rate * self.ADAM)

    def _moments(self, parameters: list[torch.nn.Parameter], *names: str) -> list[list[torch.Tensor]]:
        return [[self.state[parameter][name] for parameter in parameters] for name in names]


def _gradients(parameters: list[torch.nn.Parameter]) -> list[torch.Tensor]:
    """Products of another memory layout round otherwise, and a checkpoint brings back a contiguous one."""
    return [parameter.grad.contiguous() for parameter in parameters]


def muon(module: torch.nn.Module, *inside: torch.nn.Module) -> Muon:
    """Muon for the matrices of the parts `inside` a network, Adam for all that faces pixels, words and time."""
    matrices = [p for part in inside for p in part.parameters() if p.ndim == 2 and min(p.shape) > 16]
    known = {id(matrix) for matrix in matrices}
    return Muon(matrices, [p for p in module.parameters() if id(p) not in known])


def _orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """About the nearest matrices with equal singular values, scaled by their shape (the quintic iteration of Muon):
    [N, rows, columns] to the same shape.
    """
    rows, columns = matrices.shape[1:]
    scale = max(1, rows / columns) ** 0.5
    x = (matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(best_dtype(matrices.device))
    x = x.mT if rows > columns else x
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return scale * (x.mT if rows > columns else x).to(matrices)


# --- several processes ----------------------------------------------------------------------------------------------


def join_workers() -> tuple[int, int]:
    """(rank, number of processes) under torchrun, else (0, 1).

    On a CPU two processes of one thread each do not stall when something else takes a core; two threads do.
    """
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
        atexit.register(_leave_workers)
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def _leave_workers() -> None:
    """All leave together: one that goes first takes the others' connections down."""
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@contextmanager
def first_worker_first(rank: int, workers: int) -> Iterator[None]:
    """The body runs in the first process, then in all others: they find the files that it has written."""
    if rank > 0:
        torch.distributed.barrier()
    yield
    if rank == 0 and workers > 1:
        torch.distributed.barrier()


def average_gradients(module: torch.nn.Module, workers: int) -> None:
    """Every process gets the mean of all processes' gradients."""
    if workers == 1:
        return
    gradients = [parameter.grad for parameter in module.parameters()]
    whole = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(whole)
    for gradient, mean in zip(gradients, (whole / workers).split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


# --- checkpoints ----------------------------------------------------------------------------------------------------


def save_checkpoint(path: Path, step: int, modules: dict[str, torch.nn.Module], optimizer: torch.optim.Optimizer):
    """All weights and the optimiser's moments in one safetensors file, written atomically."""
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": torch.as_tensor(value) for key, value in state.items()}
    whole = {key: value.detach().clone().contiguous() for key, value in tensors.items()}
    with replacing(path) as unfinished:
        save_file(whole, unfinished, {"step": str(step)})


def load_checkpoint(path: Path, modules: dict[str, torch.nn.Module], optimizer: torch.optim.Optimizer) -> int:
    """Fills modules and optimiser from a checkpoint; returns the step to go on with, 0 without a checkpoint."""
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        step = int(file.metadata()["step"])
    for name, module in modules.items():
        prefix = f"{name}/"
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return step


# --- progress -------------------------------------------------------------------------------------------------------


@dataclass
class Progress:
    """A line on stderr every `every` seconds: how far, how fast, how long still, and the averages since the last.

    Metrics that are tensors are read for the line alone: a GPU has to finish all that it was given before one can be.
    """

    name: str
    total: int
    done: int = 0
    every: float = 10.0
    _sums: dict[str, list[float | torch.Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._start, self._first, self._last = time.monotonic(), self.done, time.monotonic()

    def update(self, done: int, **metrics: float | torch.Tensor) -> None:
        for key, value in metrics.items():
            self._sums.setdefault(key, []).append(value.detach() if isinstance(value, torch.Tensor) else value)
        now = time.monotonic()
        if now - self._last < self.every and done < self.total:
            return
        rate = (done - self._first) / max(now - self._start, 1e-9)
        left = (self.total - done) / max(rate, 1e-9)
        averages = " ".join(
            f"{key} {np.mean([float(value) for value in values]):.4g}" for key, values in self._sums.items()
        )
        text = f"{self.name} {done}/{self.total} {averages} {rate:.2f}/s eta {left / 60:.1f} min"
        print(text, file=sys.stderr, flush=True)
        self._last, self._sums = now, {}


def batches(count: int, size: int, steps: range, seed: int) -> Iterator[tuple[int, np.ndarray, np.random.Generator]]:
    """(step, indices, generator) for each step; all randomness of a step depends on (seed, step) alone."""
    for step in steps:
        rng = np.random.default_rng([seed, step])
        yield step, np.sort(rng.choice(count, size, replace=False)), rng
