"""The largest sum of tensors in a training step of each baseline of config/paper.yaml, reckoned without a GPU.

    uv run python benchmarks/peak_memory.py                      # all of them, at the paper's size
    uv run python benchmarks/peak_memory.py --methods dreamvideo

It runs each method's own `learn`, at full width, on tensors without data (torch's FakeTensorMode) and counts their
storages. Blocks run eager, so compiled ones, which keep fewer activations, take less; workspaces of kernels and what a
GPU's allocator wastes come on top. Attention counts as a flash kernel. A model of few blocks is counted twice, with the
next block too, and the rest is a straight line.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bico.config.methods import LearnedSettings, settings_of
from bico.core.errors import exit_code
from bico.methods.shared.protocol import learn_of
from bico.methods.textual_inversion import learn as textual_inversion_learn
from bico.models.wan import attention
from bico.profiling.presets import PRESETS, Sizes
from bico.profiling.random_models import RandomBackbone, random_source
from bico.profiling.throughput import SHIFT
from bico.training import loop

METHODS = ("textual_inversion", "db_lora", "dreamvideo", "dualreal")
BLOCKS = 2


class Counting(TorchDispatchMode):
    """Bytes of all storages that are alive, now and at their most."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak = 0, 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.count(tree_leaves(out))
        return out

    def count(self, values: Iterable[object]) -> None:
        """Counts the storages of tensors that were not known."""
        for storage in (each.untyped_storage() for each in values if isinstance(each, torch.Tensor)):
            if storage not in self._known:
                self._known.add(storage)
                self._add(storage.nbytes())
                weakref.finalize(storage, self._add, -storage.nbytes())

    def _add(self, size: int) -> None:
        self.live += size
        self.peak = max(self.peak, self.live)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    options = parser.parse_args()
    for method in options.methods:
        for frames in (1, 81):
            for stage, peak in reckoned(method, frames).items():
                print(f"{method}, {frames} frames, {stage}: {peak / 2**30:.1f} GiB", flush=True)


def reckoned(method: str, frames: int) -> dict[str, float]:
    """Stage -> bytes at the peak of its second step, of all blocks of the published model."""
    few, more = (peaks(method, frames, blocks) for blocks in (BLOCKS, BLOCKS + 1))
    blocks = PRESETS["full"].transformer["num_layers"]
    return {stage: few[stage] + (blocks - BLOCKS) * (more[stage] - few[stage]) for stage in few}


def peaks(method: str, frames: int, blocks: int) -> dict[str, float]:
    """Of a model with so many blocks."""
    full = PRESETS["full"]
    sizes = replace(full, transformer={**full.transformer, "num_layers": blocks}, compiles=False)
    defaults = cast("Callable[[], LearnedSettings]", settings_of(method))
    settings = defaults().measured(1, "image" if frames == 1 else "video", blocks)
    counting, found = Counting(), {}

    def fit(groups: Any, stages: Any, settings: LearnedSettings, **more: Any) -> None:
        optimizer = loop._adamw(groups, settings.weight_decay, (0.9, 0.999))
        for stage in stages:
            for seed in range(2):
                counting.peak = counting.live
                optimizer.zero_grad(set_to_none=True)
                loop._backward(stage, settings.batch_size, torch.Generator().manual_seed(seed))
                optimizer.step()
            found[stage.name] = counting.peak

    with without_data(), counting, patch.object(import_module(learn_of(method).__module__), "fit", fit):
        learn(method, settings, sizes, frames)
    return found


def learn(method: str, settings: Any, sizes: Sizes, frames: int) -> None:
    backbone, encoded = RandomBackbone(sizes, torch.device("cpu"), torch.bfloat16), random_source(sizes, frames)
    if settings.LEARNS_PER == "case":
        encoded = {kind: replace(encoded, kind=kind) for kind in ("image", "video")}
    with tempfile.TemporaryDirectory() as folder:
        learn_of(method)(backbone, encoded, settings, shift=SHIFT, seed=0, workdir=Path(folder))


@contextmanager
def without_data() -> Iterator[None]:
    """Tensors have no data, but for the few numbers on which a step's way depends; the GPU is a small one."""
    fused = partial(attention.attention, written_out=False)
    with ExitStack() as stack:
        for name in ("rand", "randint"):
            stack.enter_context(patch.object(torch, name, _with_data(getattr(torch, name))))
        stack.enter_context(patch.object(attention, "attention", lambda *states, written_out: fused(*states)))
        stack.enter_context(patch.object(textual_inversion_learn, "short_of_memory", lambda device: True))
        stack.enter_context(patch.object(torch.nn.Module, "to", lambda module, *to, **as_: module))  # they are there
        # Prompts that are drawn together are a list of numbers, whose values do not matter.
        stack.enter_context(patch.object(FakeTensor, "tolist", lambda numbers: [0] * len(numbers)))
        stack.enter_context(patch.object(RandomBackbone, "embedding_scale", lambda self: 1.0))
        stack.enter_context(patch.object(RandomBackbone, "offload_text_encoder", _forget_text_encoder))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield


def _with_data(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def drawn(*arguments: Any, **options: Any) -> Tensor:
        with unset_fake_temporarily():
            numbers = draw(*arguments, **options)
            listed = numbers.tolist()
        return torch.tensor(listed, dtype=numbers.dtype)  # of which FakeTensorMode keeps the numbers

    return drawn


def _forget_text_encoder(backbone: RandomBackbone) -> None:
    """It leaves the memory that is counted, and is made anew where it is used again."""
    vars(backbone).pop("text_encoder", None)
    gc.collect()


if __name__ == "__main__":
    sys.exit(exit_code(main))
