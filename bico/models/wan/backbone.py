"""The frozen video model that every method shares: a diffusers WanPipeline folder.

`Backbone` combines its parts: components, text, latents and forward pass. The modules below act on a backbone and are
imported only where they are needed, so that an edit of one does not make results of the others stale:

* `bico.models.wan.sampling`: generates clips.
* `bico.models.wan.acceleration`: makes training faster.
* `bico.models.wan.attention_maps`: computes attention maps of words.
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
    """A Wan pipeline folder. Components are opened when first used; training uses only the transformer.

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
        """Opens a folder. Each component is read when it is first used.

            backbone = Backbone.open("Wan2.1-T2V-1.3B-Diffusers", device="cuda", dtype=torch.bfloat16)
            prompt_embeds, token_counts = backbone.encode_prompts(["a cat at the beach", ""])
            context, negative = backbone.context(prompt_embeds).split(1)
            clip = generate(backbone, context, negative, [0], Sampling(), Media())[0]  # of `bico.models.wan.sampling`

        Args:
            folder: a WanPipeline, as diffusers' `save_pretrained` writes it.
            text_slots: length to which prompts are padded; `max_sequence_length` of diffusers' pipeline.
            device: device of all models.
            dtype: dtype of transformer and text encoder; the VAE stays in float32. `best_dtype`, of
                `bico.models.wan.components`, returns the faster one.
            compiles: whether blocks run compiled in training, inside `bico.models.wan.acceleration.accelerated`.
            gradient_checkpointing: whether training there computes activations a second time instead of keeping them;
                "auto" = for 4096 patch tokens or more, which would not fit a GPU otherwise.
        """
        return cls(Path(folder), text_slots, torch.device(device), dtype, compiles, gradient_checkpointing)
