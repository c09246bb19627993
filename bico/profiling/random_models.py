"""A Wan pipeline and an encoded source of given sizes, with random weights, so nothing is downloaded."""

from __future__ import annotations

import string
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from tokenizers import Tokenizer, models, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from bico.models.wan.backbone import Backbone
from bico.profiling.presets import CAPTION_TOKENS, Sizes
from bico.sources.encoding import EncodedSource

APPEARANCE = 1024
"""Width of CLIP ViT-H/14's image embeddings."""


class RandomBackbone(Backbone):
    """A Wan pipeline of these sizes whose weights are random."""

    def __init__(self, sizes: Sizes, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(Path(), sizes.text_slots, device, dtype, sizes.compiles, "auto")
        self.sizes = sizes

    @cached_property
    def transformer(self) -> WanTransformer3DModel:
        return self.prepared(random_transformer(self.sizes, self.device, self.dtype))

    @cached_property
    def vae(self) -> AutoencoderKLWan:
        with self.device:
            return AutoencoderKLWan(**self.sizes.vae)

    @cached_property
    def text_encoder(self) -> UMT5EncoderModel:
        return self.frozen(random_text_encoder(self.sizes, self.device, self.dtype))

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """A token for each letter."""
        special = ["<pad>", "</s>", "<unk>"]
        ids = {piece: number for number, piece in enumerate([*special, *string.ascii_lowercase, " "])}
        letters = Tokenizer(models.BPE(ids, [], unk_token="<unk>"))
        letters.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", ids["</s>"])])
        pad, end, unknown = special
        return PreTrainedTokenizerFast(tokenizer_object=letters, pad_token=pad, eos_token=end, unk_token=unknown)


def random_transformer(sizes: Sizes, device: torch.device, dtype: torch.dtype) -> WanTransformer3DModel:
    """A transformer in `dtype`, except for the layers that diffusers always keeps in float32 for a Wan folder."""
    with device:
        model = WanTransformer3DModel(**sizes.transformer)
    for name, parameter in model.named_parameters():
        if not {*name.split(".")} & {*model._keep_in_fp32_modules}:
            parameter.data = parameter.data.to(dtype)
    return model.eval().requires_grad_(False)


def random_text_encoder(sizes: Sizes, device: torch.device, dtype: torch.dtype) -> UMT5EncoderModel:
    """A text encoder, all of it in `dtype`."""
    with weights_in(dtype), device:  # 5.7 billion weights in float32 would take 23 GB first
        return UMT5EncoderModel(UMT5Config(**sizes.text_encoder)).eval()


@contextmanager
def weights_in(dtype: torch.dtype) -> Iterator[None]:
    """Models that are built within the context have weights of this dtype from the start."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def random_source(sizes: Sizes, frames: int) -> EncodedSource:
    """A random encoded source, as training reads it; an image if `frames` is 1."""
    draw = torch.Generator().manual_seed(0)
    slots, channels = sizes.text_slots, sizes.transformer["in_channels"]
    tokens = min(CAPTION_TOKENS, slots)
    prompt_embeds = torch.randn(1, tokens, sizes.transformer["text_dim"], generator=draw)
    captions = {
        "prompt_embeds": prompt_embeds,
        "token_counts": torch.tensor([tokens]),
        "key_slots": torch.zeros(1, slots, dtype=torch.uint8),
    }
    stills = {f"frame_{name}": tensor for name, tensor in captions.items()}
    stills["frame_latents"] = torch.randn(1, channels, 1, *sizes.latent_shape(1)[2:], generator=draw)
    return EncodedSource(
        kind="image" if frames == 1 else "video",
        spatial=["cat"],
        temporal=[] if frames == 1 else ["bouncing"],
        latents=torch.randn(sizes.latent_shape(frames), generator=draw),
        empty_prompt_embeds=torch.zeros_like(prompt_embeds[0]),
        appearance=torch.randn(frames, APPEARANCE, generator=draw),
        **captions,
        **({} if frames == 1 else stills),
    )
