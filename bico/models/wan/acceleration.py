"""Speed and memory of training: compiled blocks, captured CUDA graphs, gradient checkpointing.

Generation uses none of it, so an edit of this module does not change clips.
"""

from __future__ import annotations

import gc
import math
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from bico.models.wan.backbone import Backbone
from bico.models.wan.components import blocks_of
from bico.models.wan.forward_pass import BlockInput, Contexts, run_block
from bico.models.wan.token_limits import at_once, needs_checkpointing

KEPT_OPERATORS = [
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
]
"""Operations whose results gradient checkpointing keeps: attention, which is 70 % of a forward pass of 81 frames and
takes as much memory as a block's input."""

Graphs = dict[object, Callable[..., Tensor]]
"""Captured passes, by the properties that distinguish their inputs."""


@contextmanager
def accelerated(backbone: Backbone) -> Iterator[None]:
    """Within the context, `backbone.velocity(..., training=True)` is accelerated according to the backbone's settings.

    Blocks run compiled. One compiled graph serves all blocks that differ only in their tensors. Compiling takes about
    half a minute, once on a machine. Without a working compiler blocks run uncompiled, and one line says so. On a GPU
    short sequences also run as captured CUDA graphs, unless the transformer or an adapter in it is trained. Long
    sequences use gradient checkpointing.
    """
    compiles = backbone.compiles and compiles_on(backbone.device)
    captures = compiles and backbone.device.type == "cuda" and not _learns(backbone.transformer)
    training_pass = AcceleratedPass(backbone, compiles=compiles, captures=captures)
    backbone.training_pass = training_pass
    try:
        yield
    finally:
        backbone.training_pass = None
        training_pass.forget_graphs()


def _learns(model: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in model.parameters())


class AcceleratedPass:
    """The velocity in training: a `TrainingPass`.

    Attributes:
        run_blocks: whether gradient checkpointing is used -> function that runs a block.
        graphs: captured passes; None where none are captured.
    """

    def __init__(self, backbone: Backbone, *, compiles: bool, captures: bool) -> None:
        self._backbone = backbone
        self.run_blocks: dict[bool, Callable[..., Tensor]] = {False: run_block, True: run_block_checkpointed}
        if compiles:
            self.run_blocks = {key: torch.compile(run, dynamic=False) for key, run in self.run_blocks.items()}
            for block in blocks_of(backbone.transformer):
                block.ffn.net[0].gelu = gelu  # pyright: ignore[reportArgumentType]  # a method, no tensor
        self.graphs: Graphs | None = {} if captures else None
        self._replaying = False  # between a replayed pass and its gradient

    def __call__(self, latents: Tensor, timesteps: Tensor, contexts: Contexts) -> Tensor:
        if self.graphs is not None:
            if uses_checkpointing(self._backbone, latents.shape):
                self.forget_graphs()  # graphs of a video's frames, because its clip needs their memory
            elif not self._replaying:
                return self._replayed(self.graphs, latents, timesteps, contexts)
        return self._plain(latents, timesteps, contexts)

    def _plain(self, latents: Tensor, timesteps: Tensor, contexts: Contexts) -> Tensor:
        run = self.run_blocks[uses_checkpointing(self._backbone, latents.shape)]
        keys_values = self._backbone.keys_values(contexts)
        return self._backbone.forward(latents, timesteps, keys_values, training=True, run_block=run)

    def _replayed(self, graphs: Graphs, latents: Tensor, timesteps: Tensor, contexts: Contexts) -> Tensor:
        """The pass as a captured CUDA graph, with another graph for its gradient. Otherwise the GPU would wait for
        Python, because each of the thousands of kernels of a short sequence ends before Python starts the next one.

        The next call overwrites the result and the data for its gradient. Therefore further passes run without graphs
        until the gradient has been computed.
        """
        inputs = [latents, timesteps, *([contexts] if isinstance(contexts, Tensor) else contexts)]
        key = tuple((each.shape, each.dtype, each.requires_grad) for each in inputs)
        if key not in graphs:

            def run(latents: Tensor, timesteps: Tensor, *contexts: Tensor) -> Tensor:
                return self._plain(latents, timesteps, contexts if contexts[1:] else contexts[0])

            like = tuple(each.detach().clone().requires_grad_(each.requires_grad) for each in inputs)
            graphs[key] = cast("Callable[..., Tensor]", torch.cuda.make_graphed_callables(run, like))
        velocity = graphs[key](*inputs)
        if velocity.requires_grad:
            self._replaying = True
            velocity.register_hook(self._replayed_backward)
        return velocity

    def _replayed_backward(self, gradient: Tensor) -> None:
        self._replaying = False

    def forget_graphs(self) -> None:
        """Frees the memory of all captured graphs."""
        if self.graphs:
            self.graphs.clear()
            gc.collect()  # graphs refer to their inputs and gradients in cycles


def uses_checkpointing(backbone: Backbone, shape: torch.Size) -> bool:
    """Whether training on latents of this shape [..., t, h, w] uses gradient checkpointing."""
    return needs_checkpointing(backbone.gradient_checkpointing, math.prod(backbone.patch_grid(shape)))


def clips_at_once(backbone: Backbone, shape: torch.Size) -> int:
    """Number of clips with latents of this shape [..., t, h, w] that pass through a training step together."""
    return at_once(math.prod(backbone.patch_grid(shape)))


def run_block_checkpointed(block: nn.Module, *inputs: BlockInput) -> Tensor:
    """Keeps the block's inputs and its attention for the backward pass, which computes everything else again."""
    keep = partial(create_selective_checkpoint_contexts, KEPT_OPERATORS)
    return checkpoint(run_block, block, *inputs, use_reentrant=False, context_fn=keep)


def gelu(states: Tensor) -> Tensor:
    """The feed-forward's tanh GELU. 0.5 (1 + tanh y) is computed as the sigmoid of 2 y, which halves the work of
    compiled CPU kernels, forwards and backwards."""
    if torch.compiler.is_compiling() and states.device.type == "cpu":
        wide = states.float()
        return (wide * torch.sigmoid(math.sqrt(8 / math.pi) * (wide + 0.044715 * wide**3))).type_as(states)
    return F.gelu(states, approximate="tanh")


@cache
def compiles_on(device: torch.device) -> bool:
    """Whether blocks can be compiled for this device, tested by compiling something small. If not, one line on stderr
    gives the reason: no compiler, one that is too old, or no headers."""
    from torch._inductor import config as inductor

    if not shutil.which("openssl"):  # it computes digests of headers for precompilation
        inductor.cpp_cache_precompile_headers = False
    try:
        torch.compile(torch.square)(torch.ones(8, device=device))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        print(f"training runs without compiled blocks, at half the speed: cannot compile ({reason})", file=sys.stderr)
        return False
    return True
