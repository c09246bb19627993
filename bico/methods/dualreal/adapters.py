"""Identity and motion adapters of a case, and the controller that weighs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bico.methods.dualreal.constants import TOTAL_WEIGHT
from bico.methods.dualreal.settings import Settings
from bico.models.adapter import Adapter, beside

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

LAYERS = ("attn1", "ffn")


class Controller(nn.Module):
    """Computes one alpha in (0, 0.2) for each group of blocks from the noisy tokens and the time embedding.

    Args:
        width: width of a token and of the time embedding.
        hidden: hidden width.
        last: width of the last hidden layer.
        groups: number of groups of blocks.
    """

    def __init__(self, width: int, hidden: int, last: int, groups: int) -> None:
        super().__init__()
        self.summary, self.modulation = nn.Linear(width, hidden), nn.Linear(width, 3 * hidden)
        self.norm = nn.LayerNorm(hidden)
        self.mixing = nn.Sequential(nn.Linear(hidden, 4 * hidden), nn.GELU("tanh"), nn.Linear(4 * hidden, hidden))
        self.decision = nn.Sequential(nn.ReLU(), nn.Linear(hidden, last), nn.ReLU())
        self.out = nn.Linear(last, groups)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, pooled: Tensor, time: Tensor) -> Tensor:
        """Alphas [batch, groups] from pooled tokens [batch, width] and time embedding [batch, width]."""
        summary = self.summary(pooled.float())
        shift, scale, gate = self.modulation(F.silu(time.float())).chunk(3, dim=1)
        mixed = self.mixing(self.norm(summary) * (1 + scale) + shift) + gate * summary
        return TOTAL_WEIGHT * self.out(self.decision(mixed)).sigmoid()


class Mixture(nn.Module):
    """The two adapters of one layer.

    Attributes:
        alpha: weight of the identity adapter in the present pass, [batch, 1, 1].
    """

    def __init__(self, identity: nn.Module, motion: nn.Module) -> None:
        super().__init__()
        self.identity, self.motion = identity, motion
        self.alpha = torch.empty(0)

    def forward(self, tokens: Tensor) -> Tensor:
        """The change of the layer's output [batch, tokens, width], from its input of the same shape."""
        return self.alpha * self.identity(tokens) + (TOTAL_WEIGHT - self.alpha) * self.motion(tokens)


class JointAdapters(nn.Module):
    """All trained networks of a case.

    Attributes:
        alphas: weights of the identity adapters in the present pass, [batch, groups].
    """

    def __init__(self, width: int, num_blocks: int, appearance_width: int, settings: Settings) -> None:
        super().__init__()

        def adapters(condition_width: int) -> nn.ModuleList:
            return nn.ModuleList(
                nn.ModuleDict({layer: Adapter(width, settings.bottleneck, condition_width) for layer in LAYERS})
                for _ in range(num_blocks)
            )

        self.identity, self.motion = adapters(0), adapters(appearance_width)
        self.controller = Controller(width, settings.controller_width, settings.decision_width, settings.groups)
        self.blocks_per_group = num_blocks // settings.groups
        self.alphas = torch.empty(0)

    @contextmanager
    def beside(self, transformer: WanTransformer3DModel) -> Iterator[None]:
        """Within the context, the adapters are active in the transformer."""
        # Each pass embeds the patches first, then the time, then runs the blocks.
        pooled = torch.empty(0)
        blocks = zip(transformer.blocks, self.identity, self.motion, strict=True)
        mixtures = [  # group of the block, layer, its adapters
            (
                number // self.blocks_per_group,
                block.get_submodule(layer),
                Mixture(identity.get_submodule(layer), motion.get_submodule(layer)),
            )
            for number, (block, identity, motion) in enumerate(blocks)
            for layer in LAYERS
        ]

        def pool(layer: nn.Module, inputs: tuple[Tensor], patches: Tensor) -> None:
            nonlocal pooled
            pooled = patches.flatten(2).amax(dim=2)

        def weigh(layer: nn.Module, inputs: tuple[Tensor], time: Tensor) -> None:
            self.alphas = self.controller(pooled, time)
            for group, _, mixture in mixtures:
                mixture.alpha = self.alphas[:, group, None, None]

        handles = [
            transformer.patch_embedding.register_forward_hook(pool),
            transformer.condition_embedder.time_embedder.register_forward_hook(weigh),
        ]
        try:
            with beside((layer, mixture) for _, layer, mixture in mixtures):
                yield
        finally:
            for handle in handles:
                handle.remove()
