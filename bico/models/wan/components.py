"""The components of a diffusers WanPipeline folder: opened when first used, frozen, and on one device.

They are diffusers' and transformers' own models. Training touches nothing but the transformer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import torch
from torch import nn

from bico.models.wan.attention import AttentionProcessor, attention_kernels

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from diffusers.models.transformers.transformer_wan import WanAttention, WanTransformerBlock
    from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

Model = TypeVar("Model", bound=nn.Module)


def best_dtype(device: torch.device | str) -> torch.dtype:
    """bfloat16 where matrix products are faster in it than in float32: on GPUs, and on CPUs with tiles (AMX)."""
    fast = torch.device(device).type == "cuda" or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def moved(model: Model, device: torch.device | str) -> Model:
    """The model on a device. For a type checker the `to` of diffusers and of transformers, decorated, is no method."""
    return model.to(device)


def blocks_of(transformer: WanTransformer3DModel) -> Sequence[WanTransformerBlock]:
    """The blocks of the transformer, which torch takes for any modules."""
    return cast("Sequence[WanTransformerBlock]", transformer.blocks)


def process_with(processor: Callable[..., torch.Tensor], layer: WanAttention) -> None:
    """Gives an attention layer a processor of ours, while diffusers' annotation names its own ones."""
    layer.set_processor(processor)  # pyright: ignore[reportArgumentType]


class Components:
    """The models of a Wan pipeline folder.

    Attributes:
        folder: what diffusers' `save_pretrained` writes of a WanPipeline.
        device: of all models.
        dtype: of transformer and text encoder; the VAE stays in float32.
    """

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        self.folder, self.device, self.dtype = folder, device, dtype

    @cached_property
    def transformer(self) -> WanTransformer3DModel:
        from diffusers import WanTransformer3DModel

        model = WanTransformer3DModel.from_pretrained(self.folder, subfolder="transformer", dtype=self.dtype)
        return self.prepared(model)

    @cached_property
    def vae(self) -> AutoencoderKLWan:
        from diffusers import AutoencoderKLWan

        return self.frozen(AutoencoderKLWan.from_pretrained(self.folder, subfolder="vae", dtype=torch.float32))

    @cached_property
    def text_encoder(self) -> UMT5EncoderModel:
        from transformers import UMT5EncoderModel

        return self.frozen(UMT5EncoderModel.from_pretrained(self.folder, subfolder="text_encoder", dtype=self.dtype))

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder, subfolder="tokenizer")

    def prepared(self, model: WanTransformer3DModel) -> WanTransformer3DModel:
        """The transformer as the forward pass runs it: frozen, on its device, with our attention."""
        capability = torch.cuda.get_device_capability(self.device) if self.device.type == "cuda" else None
        processor = AttentionProcessor(attention_kernels(capability, self.dtype))
        for block in blocks_of(model):
            process_with(processor, block.attn1)
            process_with(processor, block.attn2)
        return self.frozen(model)

    def frozen(self, model: Model) -> Model:
        """The model on its device, for inference."""
        return model.to(self.device).eval().requires_grad_(False)

    def offload_text_encoder(self) -> None:
        """Moves the text encoder to main memory until it is used again: it is larger than the transformer.

        Nothing happens on a CPU, or as long as the text encoder has not been opened.
        """
        if "text_encoder" in vars(self):
            moved(self.text_encoder, "cpu")
