"""What the trainings of the zoo share: rendered scenes, checkpoints that resume exactly, progress."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn.attention import SDPBackend, sdpa_kernel

from bico.backbone import best_dtype
from bico.files import replacing
from bico.toybox.render import render
from bico.toybox.world import NUM_FRAMES, SIZE, Scene, sample_training_scene

# Seeds of scenes: training, held-out evaluation and benchmark sources draw from streams that never meet.
TRAIN_SEED, STILL_SEED, HELD_OUT_SEED = 1_000, 1_500, 2_000


def scenes(count: int, seed: int, start: int = 0) -> list[Scene]:
    """`count` training scenes; scene i depends on (seed, i) alone."""
    return [sample_training_scene(np.random.default_rng([seed, start + i])) for i in range(count)]


def render_pool(path: Path, shape: tuple[int, ...], render_item: Callable[[int], np.ndarray]) -> np.ndarray:
    """uint8 array of `shape`, item i rendered by `render_item(i)`, kept at `path` and mapped into memory."""
    if not path.exists():
        with replacing(path) as unfinished:
            pool = np.lib.format.open_memmap(unfinished, "w+", np.uint8, shape)
            progress = Progress("render", len(pool))
            for i in range(len(pool)):
                pool[i] = render_item(i)
                progress.update(i + 1)
            pool.flush()
    return np.load(path, mmap_mode="r")


def clip_pool(path: Path, count: int, seed: int) -> np.ndarray:
    """uint8 [count, T, H, W, 3]: renders of `scenes(count, seed)`."""
    return render_pool(path, (count, NUM_FRAMES, SIZE, SIZE, 3), lambda i: render(scenes(1, seed, start=i)[0]))


def to_model(clips: np.ndarray) -> torch.Tensor:
    """uint8 [B, T, H, W, 3] to float32 [B, 3, T, H, W] in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(clips)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


@contextmanager
def mixed_precision(device: str) -> Iterator[None]:
    """Matrix products in bfloat16, where that is faster. Attention is explicit: on a CPU the fused one's backward pass
    takes longer than all the rest of a small transformer.
    """
    with (
        torch.autocast(device, torch.bfloat16, enabled=best_dtype(device) == torch.bfloat16),
        sdpa_kernel(SDPBackend.MATH),
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
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                # Products of another memory layout round otherwise, and a checkpoint brings back a contiguous one.
                state, gradient = self.state[parameter], parameter.grad.contiguous()
                if not state:
                    state["first"], state["second"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
                    state["step"] = torch.zeros(())
                state["step"] += 1
                if group["matrices"] and parameter.ndim >= 2 and parameter[0].numel() > 1:
                    state["first"].mul_(0.95).add_(gradient)
                    update = _orthogonal((gradient + 0.95 * state["first"]).flatten(1)).view_as(parameter)
                    parameter.add_(update, alpha=-group["rate"] * self.ORTHOGONAL)
                else:
                    state["first"].lerp_(gradient, 0.1)
                    state["second"].lerp_(gradient.square(), 0.02)
                    first = state["first"] / (1 - 0.9 ** state["step"])
                    second = state["second"] / (1 - 0.98 ** state["step"])
                    parameter.addcdiv_(first, second.sqrt() + 1e-8, value=-group["rate"] * self.ADAM)


def muon(module: torch.nn.Module, *inside: torch.nn.Module) -> Muon:
    """Muon for the matrices of the parts `inside` a network, Adam for all that faces pixels, words and time."""
    matrices = [p for part in inside for p in part.parameters() if p.ndim == 2 and min(p.shape) > 16]
    known = {id(matrix) for matrix in matrices}
    return Muon(matrices, [p for p in module.parameters() if id(p) not in known])


def _orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """About the nearest matrix with equal singular values, scaled by its shape (the quintic iteration of Muon)."""
    scale = max(1, matrix.shape[0] / matrix.shape[1]) ** 0.5
    x = (matrix / (matrix.norm() + 1e-7)).to(best_dtype(matrix.device))
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return scale * (x.T if tall else x).to(matrix)


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
    """A line on stderr every `every` seconds: how far, how fast, how long still, and the averages since the last."""

    name: str
    total: int
    done: int = 0
    every: float = 10.0
    _sums: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._start, self._first, self._last = time.monotonic(), self.done, time.monotonic()

    def update(self, done: int, **metrics: float) -> None:
        for key, value in metrics.items():
            self._sums.setdefault(key, []).append(value)
        now = time.monotonic()
        if now - self._last < self.every and done < self.total:
            return
        rate = (done - self._first) / max(now - self._start, 1e-9)
        left = (self.total - done) / max(rate, 1e-9)
        averages = " ".join(f"{key} {np.mean(values):.4g}" for key, values in self._sums.items())
        text = f"{self.name} {done}/{self.total} {averages} {rate:.2f}/s eta {left / 60:.1f} min"
        print(text, file=sys.stderr, flush=True)
        self._last, self._sums = now, {}


def batches(count: int, size: int, steps: range, seed: int) -> Iterator[tuple[int, np.ndarray, np.random.Generator]]:
    """(step, indices, generator) for each step; all randomness of a step depends on (seed, step) alone."""
    for step in steps:
        rng = np.random.default_rng([seed, step])
        yield step, np.sort(rng.choice(count, size, replace=False)), rng
