"""Binders: small residual networks that change prompt tokens for one source (BiCo's hierarchical binder structure).

A binder maps text tokens, after the backbone's text projection, one by one:

    p_g   = p   + gamma_g * MLP_g(p)          once
    p_u^i = p_g + gamma_i * MLP_i(p_g)        for block i; blocks do not chain

with MLP = LayerNorm, Linear, GELU, Linear, LayerNorm and one scalar gamma per binder, zero at the start, so that an
untrained binder changes nothing. The MLP's output has unit scale, so only gamma sets the strength, and Adam changes it
by about the learning rate per step. Weights are float32 with any dtype of the backbone, because bfloat16 would lose the
updates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from bico.core.transfer import to_device
from bico.models.binder_form import ABSORPTION, HIDDEN, WIDTH, has_released_gate, has_temporal_branch

Gate = Literal["learned", "released"]
"""How a binder mixes its two branches: see `TwoBranchBinder` and `ReleasedBinder`."""

Keys = Literal["bound", "plain"]
"""Which tokens the keys of the cross-attention come from: see `HierarchicalBinder`."""


def mlp(width: int, rank: int | None) -> nn.Sequential:
    """LayerNorm, Linear, GELU (exact), Linear, LayerNorm. The two matrices have at most this rank; None = `width`."""
    hidden = rank or width
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width), nn.LayerNorm(width)
    )


class Binder(nn.Module):
    """One residual network: tokens [..., width] to tokens of the same shape.

    Args:
        width: width of a token.
        rank: width of the hidden layer; None = that of a token, as in the paper.
    """

    def __init__(self, width: int, rank: int | None = None) -> None:
        super().__init__()
        self.spatial = mlp(width, rank)
        self.gamma = nn.Parameter(torch.zeros(()))

    def direction(self, tokens: Tensor, *, temporal: bool) -> Tensor:
        """MLP(p). `temporal` has no effect on a binder of one branch."""
        return self.spatial(tokens)

    def forward(self, tokens: Tensor, *, temporal: bool = True, strength: float = 1.0) -> Tensor:
        """`strength` scales the change: 0 = none, 1 = as trained."""
        return tokens + strength * self.gamma * self.direction(tokens, temporal=temporal)


class TwoBranchBinder(Binder):
    """The binder of a video: MLP(p) = (1 - g(p)) * MLP_s(p) + g(p) * MLP_t(p) (temporal decoupling).

    g is one number per token, a linear map of the normalised token that is zero at the start. It has no bounds. It
    stays small because its learning rate is low (`gate_learning_rate` in BiCo's settings). MLP_t has its own random
    initialisation: if it were a copy of MLP_s, neither g nor MLP_t would ever get a gradient.
    """

    def __init__(self, width: int, rank: int | None = None) -> None:
        super().__init__(width, rank)
        self.temporal = mlp(width, rank)
        logit = nn.Linear(width, 1)
        self.gate = nn.Sequential(nn.LayerNorm(width), logit)
        nn.init.zeros_(logit.weight)
        nn.init.zeros_(logit.bias)

    def direction(self, tokens: Tensor, *, temporal: bool) -> Tensor:
        """MLP(p); MLP_s(p) alone where not `temporal` (the stage on single frames)."""
        spatial = self.spatial(tokens)
        if not temporal:
            return spatial
        gate = self.gate(tokens)
        return (1 - gate) * spatial + gate * self.temporal(tokens)


class ReleasedBinder(Binder):
    """The binder of a video in the authors' code: MLP(p) = s(p) * MLP_s(p) + (1 - s(p)) * MLP_t(p).

    s is a softmax over one logit, so it is 1 for every token: MLP_t has no effect and gets no gradient.
    """

    def __init__(self, width: int, rank: int | None = None) -> None:
        super().__init__(width, rank)
        self.temporal = mlp(width, rank)
        self.softmax_gate = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1), nn.Softmax(dim=-1))

    def direction(self, tokens: Tensor, *, temporal: bool) -> Tensor:
        """MLP(p); MLP_s(p) alone where not `temporal` (the stage on single frames)."""
        spatial = self.spatial(tokens)
        if not temporal:
            return spatial
        gate = self.softmax_gate(tokens)
        return gate * spatial + (1 - gate) * self.temporal(tokens)


class HierarchicalBinder(nn.Module):
    """The global binder and one for each block of the backbone: everything that BiCo learns from a source.

    Args:
        width: width of the backbone's tokens.
        num_blocks: number of blocks of the backbone.
        two_branch: whether there is a temporal branch (videos).
        gate: how the two branches are mixed.
        hierarchical: False leaves out the per-block binders (an ablation); every block then gets p_g.
        rank: width of the hidden layers; None = `width`, as in the paper.
        keys: "bound" = keys and values of the cross-attention come from bound tokens, as in the paper; "plain" = only
            the values do.
    """

    def __init__(
        self,
        width: int,
        num_blocks: int,
        *,
        two_branch: bool = False,
        gate: Gate = "learned",
        hierarchical: bool = True,
        rank: int | None = None,
        keys: Keys = "bound",
    ) -> None:
        super().__init__()
        kind = {"learned": TwoBranchBinder, "released": ReleasedBinder}[gate] if two_branch else Binder
        self.width, self.num_blocks, self.keys = width, num_blocks, keys
        self.shared = kind(width, rank)
        self.blocks = nn.ModuleList(kind(width, rank) for _ in range(num_blocks if hierarchical else 0))

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], num_blocks: int, *, keys: Keys = "bound"
    ) -> HierarchicalBinder:
        """The binder with the tensors of an artifact. Their names and shapes define its form, except for `keys`."""
        with torch.device("meta"):  # random weights of full size, soon replaced, would take longer than all else here
            binder = cls(
                tensors[WIDTH].shape[0],
                num_blocks,
                two_branch=has_temporal_branch(tensors),
                gate="released" if has_released_gate(tensors) else "learned",
                hierarchical=any(name.startswith("blocks.") for name in tensors),
                rank=tensors[HIDDEN].shape[0],
                keys=keys,
            )
        learned = {name: tensor.float() for name, tensor in tensors.items() if name != ABSORPTION}
        binder.load_state_dict(learned, assign=True)
        return binder.requires_grad_(False)

    def forward(
        self, context: Tensor, mask: Tensor, *, per_block: bool = True, temporal: bool = True, strength: float = 1.0
    ) -> list[Tensor]:
        """Binds the masked tokens.

        Args:
            context: projected prompt [batch, slots, width].
            mask: bool [batch, slots]; all other slots do not change, bit for bit. It should be in main memory: reading
                it from a GPU has to wait until all work there is finished.
            per_block: False stops at p_g (stage "global").
            temporal: False keeps a two-branch binder on its spatial branch.
            strength: factor on every change.

        Returns:
            One context for each block, in the dtype of `context`: [batch, slots, width]; with plain keys [2, batch,
            slots, width], the unchanged one for the keys and the bound one for the values.
        """

        def placed(tokens: Tensor) -> Tensor:
            bound = context.clone()
            bound[places] = tokens.to(context.dtype)
            return bound if self.keys == "bound" else torch.stack([context, bound])

        places = tuple(to_device(each, context.device) for each in mask.nonzero(as_tuple=True))
        tokens = self.shared(context[places].float(), temporal=temporal, strength=strength)
        if not (per_block and self.blocks):
            return [placed(tokens)] * self.num_blocks
        return [placed(binder(tokens, temporal=temporal, strength=strength)) for binder in self.blocks]

    def gammas(self) -> dict[str, Tensor]:
        """|gamma| of the global binder, and of the binders of all blocks, [blocks]. They show how far training is."""
        sizes = {"gamma_global": self.shared.gamma.abs()}
        if self.blocks:
            sizes["gamma_blocks"] = torch.stack([binder.get_parameter("gamma") for binder in self.blocks]).abs()
        return sizes

    @contextmanager
    def recorded_gates(self) -> Iterator[list[Tensor]]:
        """Yields a list to which every pass through a learned gate adds g of its tokens, [tokens, 1]. Passes without a
        gradient, such as those of an evaluation, are left out."""
        gates: list[Tensor] = []

        def record(gate: nn.Module, tokens: tuple[Tensor, ...], opened: Tensor) -> None:
            if opened.requires_grad:
                gates.append(opened.detach())

        binders = (self.shared, *self.blocks)
        hooks = [each.gate.register_forward_hook(record) for each in binders if isinstance(each, TwoBranchBinder)]
        try:
            yield gates
        finally:
            for hook in hooks:
                hook.remove()


def gate_sizes(gates: Sequence[Tensor]) -> dict[str, Tensor]:
    """Mean and largest |g| of recorded gates; empty if there are none."""
    if not gates:
        return {}
    sizes = torch.cat(list(gates)).abs()
    return {"gate_mean": sizes.mean(), "gate_largest": sizes.max()}
