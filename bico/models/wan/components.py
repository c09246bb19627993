"""The components of a diffusers WanPipeline folder: opened when first used, frozen, and on one device.

They are diffusers' and transformers' own models. Training uses only the transformer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, cast

import torch
from torch import nn

from bico.core.errors import InputError
from bico.models.wan.attention import AttentionProcessor, attention_kernels
from bico.models.wan.special_tokens import check_tokenizer
from bico.models.weights import one_line, open_whole

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from diffusers.models.transformers.transformer_wan import WanAttention, WanTransformerBlock
    from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

Model = TypeVar("Model", bound=nn.Module)

ROOM_FOR_ALL = 32 * 2**30
"""Memory of a GPU, in bytes, with which the text encoder (11 GB in Wan2.1) can stay there together with all else."""


def best_dtype(device: torch.device | str) -> torch.dtype:
    """bfloat16 where its matrix products are faster than in float32: on GPUs, and on CPUs with instructions for them
    (AMX, AVX-512 BF16)."""
    if torch.device(device).type == "cuda" or torch.cpu._is_amx_tile_supported():
        return torch.bfloat16
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def chosen_dtype(dtype: Literal["auto", "float32", "bfloat16"], device: torch.device | str) -> torch.dtype:
    """The dtype that a config asks for; "auto" = `best_dtype`."""
    return best_dtype(device) if dtype == "auto" else getattr(torch, dtype)


def short_of_memory(device: torch.device) -> bool:
    """Whether the text encoder has to be moved off this device while the transformer runs; never on a CPU."""
    return device.type == "cuda" and torch.cuda.get_device_properties(device).total_memory < ROOM_FOR_ALL


def moved(model: Model, device: torch.device | str) -> Model:
    """The model on a device. Type checkers do not see the decorated `to` of diffusers and transformers as a method."""
    return model.to(device)


def blocks_of(transformer: WanTransformer3DModel) -> Sequence[WanTransformerBlock]:
    """The blocks of the transformer, with their type."""
    return cast("Sequence[WanTransformerBlock]", transformer.blocks)


def process_with(processor: Callable[..., torch.Tensor], layer: WanAttention) -> None:
    """Gives an attention layer our own processor. diffusers' annotation allows only its own ones."""
    layer.set_processor(processor)  # pyright: ignore[reportArgumentType]


class Components:
    """The models of a Wan pipeline folder. Opening one whose folder is incomplete raises InputError, one line.

    Attributes:
        folder: a WanPipeline, as diffusers' `save_pretrained` writes it.
        device: device of all models.
        dtype: dtype of transformer and text encoder; the VAE stays in float32.
    """

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        self.folder, self.device, self.dtype = folder, device, dtype

    @cached_property
    def transformer(self) -> WanTransformer3DModel:
        from diffusers import WanTransformer3DModel

        folder = self.folder / "transformer"
        return self.prepared(open_whole(WanTransformer3DModel.from_pretrained, folder, dtype=self.dtype))

    @cached_property
    def vae(self) -> AutoencoderKLWan:
        from diffusers import AutoencoderKLWan

        return self.frozen(open_whole(AutoencoderKLWan.from_pretrained, self.folder / "vae", dtype=torch.float32))

    @cached_property
    def text_encoder(self) -> UMT5EncoderModel:
        from transformers import UMT5EncoderModel

        folder = self.folder / "text_encoder"
        model = open_whole(UMT5EncoderModel.from_pretrained, folder, dtype=self.dtype, ignore_mismatched_sizes=True)
        if model.encoder.embed_tokens.weight is not model.shared.weight:
            raise InputError(
                f"{folder}: its encoder.embed_tokens is not its shared embedding, so prompts would be noise: expected "
                "one embedding; copy the folder again, or install the transformers of uv.lock"
            )
        return self.frozen(model)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer of tokenizer.json. T5's class, which Wan's folder names, would rebuild it from the vocabulary
        and replace each unknown character by `<s>`: it assumes that token 2 is the unknown one, but it is 3 in Wan."""
        from transformers import PreTrainedTokenizerFast

        folder = self.folder / "tokenizer"
        with one_line(folder):
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        check_tokenizer(tokenizer, self.folder)
        return tokenizer

    def prepared(self, model: WanTransformer3DModel) -> WanTransformer3DModel:
        """The transformer ready for the forward pass: frozen, on its device, with our attention."""
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
        """Moves the text encoder to main memory until it is used again, because it is larger than the transformer.

        Nothing happens on a CPU, or if the text encoder has not been opened.
        """
        if "text_encoder" in vars(self):
            for parameter, copy in zip(self.text_encoder.parameters(), self._text_encoder_copy, strict=True):
                parameter.data = copy

    @cached_property
    def _text_encoder_copy(self) -> list[torch.Tensor]:
        """A copy of the text encoder's weights in main memory. They never change, so only the move to the GPU takes
        time."""
        weights = [parameter.data.cpu() for parameter in self.text_encoder.parameters()]
        return [each.pin_memory() for each in weights] if self.device.type == "cuda" else weights
