"""The frozen video model that every method shares: a diffusers WanPipeline folder.

`Backbone` puts its parts together: components, text, latents and forward pass. What acts on a backbone is imported
where it is needed, so that an edit of one leaves results of the other as they are:

* `bico.models.wan.sampling`: makes clips.
* `bico.models.wan.acceleration`: makes training faster.
* `bico.models.wan.attention_maps`: shows where words act.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from bico.models.wan.forward_pass import ForwardPass
from bico.models.wan.latents import LatentSpace
from bico.models.wan.text import PromptEncoding

GradientCheckpointing = Literal["auto", "always", "never"]
"""Whether training computes the activations of each block a second time instead of keeping them."""


class Backbone(PromptEncoding, LatentSpace, ForwardPass):
    """A Wan pipeline folder. Components open when first used: training touches nothing but the transformer.

    Attributes:
        compiles, gradient_checkpointing: see `open`.
    """

    gradient_checkpointing: GradientCheckpointing

    def __init__(
        self,
        folder: Path,
        text_slots: int,
        device: torch.device,
        dtype: torch.dtype,
        compiles: bool,
        gradient_checkpointing: GradientCheckpointing,
    ) -> None:
        super().__init__(folder, device, dtype)
        self.text_slots, self.compiles, self.gradient_checkpointing = text_slots, compiles, gradient_checkpointing

    @classmethod
    def open(
        cls,
        folder: Path | str,
        *,
        text_slots: int = 512,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        compiles: bool = False,
        gradient_checkpointing: GradientCheckpointing = "auto",
    ) -> Backbone:
        """Opens a folder; nothing is read from it before it is used.

            backbone = Backbone.open("Wan2.1-T2V-1.3B-Diffusers", device="cuda", dtype=torch.bfloat16)
            prompt_embeds, token_counts = backbone.encode_prompts(["a cat at the beach", ""])
            context, negative = backbone.context(prompt_embeds).split(1)
            clip = generate(backbone, context, negative, [0], Sampling(), Media())[0]  # of `bico.models.wan.sampling`

        Args:
            folder: what diffusers' `save_pretrained` writes of a WanPipeline.
            text_slots: length to which prompts are padded; `max_sequence_length` of diffusers' pipeline.
            device: of all models.
            dtype: of transformer and text encoder; the VAE stays in float32. `best_dtype`, of
                `bico.models.wan.components`, says which is fast.
            compiles: whether blocks run compiled in training, inside `bico.models.wan.acceleration.accelerated`.
            gradient_checkpointing: whether training there computes activations a second time instead of keeping them;
                "auto" = from 4096 patch tokens on, which would not fit a GPU otherwise.
        """
        return cls(Path(folder), text_slots, torch.device(device), dtype, compiles, gradient_checkpointing)
