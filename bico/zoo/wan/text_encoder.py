"""The text encoder and its training: words become vectors in the width of the DiT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from transformers import UMT5Config, UMT5EncoderModel

from bico.zoo.muon import muon
from bico.zoo.training import Training, mixed_precision
from bico.zoo.wan import settings
from bico.zoo.wan.captions import Captions
from bico.zoo.wan.words import Words
from bico.zoo.workers import join_workers

if TYPE_CHECKING:
    from transformers.models.umt5.modeling_umt5 import UMT5Attention


def build_text_encoder(vocabulary: int) -> UMT5EncoderModel:
    """An untrained encoder in which a head starts out attending to one relative position, or to all alike.

    Without that start 9,500 steps did not teach the encoder that a colour belongs to the word after it.
    """
    encoder = UMT5EncoderModel(
        UMT5Config(
            vocab_size=vocabulary,
            d_model=settings.TEXT_WIDTH,
            d_kv=32,
            d_ff=256,
            num_layers=len(settings.NEIGHBOURS),
            num_heads=len(settings.NEIGHBOURS[0]),
            relative_attention_num_buckets=16,
            relative_attention_max_distance=32,
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
            is_encoder_decoder=False,
            use_cache=False,
        )
    )
    for block, neighbours in zip(encoder.encoder.block, settings.NEIGHBOURS, strict=True):
        attention = cast("UMT5Attention", block.get_submodule("layer.0.SelfAttention"))
        heads = [head for head, position in enumerate(neighbours) if position is not None]
        buckets = attention._relative_position_bucket(torch.tensor([neighbours[head] for head in heads]))
        attention.relative_attention_bias.weight.data[buckets, heads] += settings.NEIGHBOUR_BIAS
    return encoder


class Reader(torch.nn.Module):
    """The text encoder and the DiT's text projection."""

    def __init__(self, text_encoder: UMT5EncoderModel, project: torch.nn.Module) -> None:
        super().__init__()
        self.text_encoder, self.project = text_encoder, project

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Projected words [B, L, WIDTH] of tokens [B, L] where `mask` is 1, the DiT's padding elsewhere."""
        mask = mask.long()
        prompt_embeds = self.text_encoder(tokens.long(), mask).last_hidden_state * mask[..., None]
        return self.project(prompt_embeds)


def train_text_encoder(
    reader: Reader,
    captions: Captions,
    words: Words,
    lean: float,
    workdir: Path,
    steps: int,
    seed: int,
) -> None:
    """Trains the text encoder and the projection on the target vectors; resumes from the checkpoint in `workdir`."""
    rank, workers = join_workers()
    device = words.meaning.device
    optimizer = muon(reader, reader.text_encoder.encoder.block, reader.project)

    def loss(step: int) -> dict[str, torch.Tensor]:
        draw = torch.Generator(device).manual_seed(seed * 1_000_003 + step)
        size = (settings.TEXT_BATCH,)
        chosen = torch.randint(len(captions.tokens), size, generator=draw, device=device)[rank::workers]
        batch = captions.at(chosen)
        with mixed_precision(device.type):
            read = reader(batch.tokens, batch.mask)
        return {"missed": words.missed(read.float(), batch, lean)}

    Training("wan text encoder", reader, optimizer, workdir / "wan-text-encoder.safetensors", steps).run(loss)
