"""The forward pass of the transformer: from noisy latents, noise levels and contexts to a velocity.

We have our own forward pass because BiCo gives every block its own context. In addition, keys and values of the
cross-attention depend neither on the noise level nor on the latents, so they are computed once per prompt for all
denoising steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from bico.models.wan.attention import CrossAttentionInput, KeyValue, SelfAttentionInput, keys_values
from bico.models.wan.components import Components, blocks_of

TRAIN_TIMESTEPS = 1000
"""Wan's time embedding reads sigma * 1000."""

Contexts = Tensor | Sequence[Tensor]
"""Projected prompts for cross-attention: one [batch, slots, width] for all blocks, or one for each block. One of shape
[2, batch, slots, width] holds a prompt for the keys and one for the values."""

BlockInput = Tensor | CrossAttentionInput | SelfAttentionInput

TrainingPass = Callable[[Tensor, Tensor, Contexts], Tensor]
"""Function for the velocity in training, with the arguments of `ForwardPass.velocity`; latents have the dtype of the
transformer."""


def run_block(block: nn.Module, *inputs: BlockInput) -> Tensor:
    """A block's output, [batch, tokens, width]."""
    return block(*inputs)


class ForwardPass(Components):
    """The transformer side of the backbone.

    Attributes:
        training_pass: computes the velocity of training inside `bico.models.wan.acceleration.accelerated`.
    """

    training_pass: TrainingPass | None = None

    @property
    def width(self) -> int:
        """Width of a patch token and of a projected text token."""
        return self.transformer.config["num_attention_heads"] * self.transformer.config["attention_head_dim"]

    @property
    def num_blocks(self) -> int:
        return self.transformer.config["num_layers"]

    def velocity(self, latents: Tensor, timesteps: Tensor, contexts: Contexts, *, training: bool = False) -> Tensor:
        """d latents / d sigma at the given noise levels, [batch, channels, t, h, w].

        Args:
            latents: [batch, channels, t, h, w].
            timesteps: sigma * 1000, [batch].
            contexts: projected prompts.
            training: whether a gradient is needed. The pass then uses operations whose backward pass is fast too. It
                rounds differently than at inference: on a CPU attention is computed by separate operations, and blocks
                may be compiled.
        """
        latents = latents.to(self.dtype)
        if training and self.training_pass is not None:
            return self.training_pass(latents, timesteps, contexts)
        return self.forward(latents, timesteps, self.keys_values(contexts), training=training)

    def keys_values(self, contexts: Contexts) -> list[KeyValue]:
        """Cross-attention keys and values of each block."""
        if isinstance(contexts, Tensor):
            contexts = [contexts] * self.num_blocks
        found = []
        for block, context in zip(blocks_of(self.transformer), contexts, strict=True):
            states = context.to(self.device, self.dtype)
            found.append(keys_values(block.attn2, *(states if states.dim() == 4 else (states, states))))
        return found

    def forward(
        self,
        latents: Tensor,
        timesteps: Tensor,
        keys_values: Sequence[KeyValue],
        *,
        training: bool = False,
        run_block: Callable[..., Tensor] = run_block,
    ) -> Tensor:
        """`velocity` from finished keys and values.

        Args:
            latents: in the dtype of the transformer.
            training: as for `velocity`.
            run_block: function of a block and its inputs that returns the block's output.
        """
        model = self.transformer
        cos, sin = model.rope(latents)
        rotary_emb = SelfAttentionInput(cos, sin, training)
        hidden = model.patch_embedding(latents).flatten(2).transpose(1, 2).contiguous()
        temb, modulation = self._time_embedding(timesteps, hidden)
        for block, key_value in zip(model.blocks, keys_values, strict=True):
            hidden = run_block(block, hidden, CrossAttentionInput(*key_value, training), modulation, rotary_emb)
        shift, scale = (model.scale_shift_table + temb.unsqueeze(1)).chunk(2, dim=1)
        hidden = (model.norm_out(hidden.float()) * (1 + scale) + shift).type_as(hidden)
        return self._unpatchify(model.proj_out(hidden), latents.shape)

    def _time_embedding(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Time embedding [batch, width] and the blocks' modulation [batch, 6, width]."""
        embedder = self.transformer.condition_embedder
        frequencies = embedder.timesteps_proj(timesteps).to(next(embedder.time_embedder.parameters()).dtype)
        temb = embedder.time_embedder(frequencies).type_as(like)
        return temb, embedder.time_proj(embedder.act_fn(temb)).unflatten(1, (6, -1))

    def _unpatchify(self, hidden: Tensor, shape: torch.Size) -> Tensor:
        """Patch tokens [batch, t * h * w, patch * channels] back to [batch, channels, T, H, W]."""
        hidden = hidden.unflatten(2, (*self.transformer.config["patch_size"], -1)).unflatten(1, self.patch_grid(shape))
        return hidden.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)

    def patch_grid(self, shape: torch.Size) -> list[int]:
        """Numbers of patch tokens along the axes t, h and w of latents of `shape` [..., t, h, w]."""
        patch = self.transformer.config["patch_size"]
        return [size // part for size, part in zip(shape[-3:], patch, strict=True)]

    def at_places(self, values: Tensor, shape: torch.Size) -> Tensor:
        """Values of patch tokens [batch, tokens], expanded to the places of latents of `shape`: [batch, 1, t, h, w]."""
        grid = values.view(len(values), 1, *self.patch_grid(shape))
        for axis, part in enumerate(self.transformer.config["patch_size"], start=2):
            grid = grid.repeat_interleave(part, dim=axis)
        return grid
