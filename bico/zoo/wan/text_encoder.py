"""The text encoder and its training: words become vectors in the width of the DiT."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from bico.toybox.captions import COLOURS
from bico.zoo.muon import muon
from bico.zoo.training import Training, mixed_precision
from bico.zoo.wan import settings
from bico.zoo.wan.captions import NAMED_HUES, Captions
from bico.zoo.workers import join_workers

if TYPE_CHECKING:
    from transformers.models.umt5.modeling_umt5 import UMT5Attention

ARC_ENDS = [start for start, _ in COLOURS[2:]] + [1 + COLOURS[1][0]]
COLOUR_MIDDLES = {name: (start + end) / 2 for (start, name), end in zip(COLOURS[1:], ARC_ENDS, strict=True)}
OPPOSITES = (
    ("slowly", "quickly"),
    ("little", "widely"),
    ("below", "above"),
    ("left", "right"),
    ("counterclockwise", "clockwise"),
)


def build_text_encoder(vocabulary: int) -> UMT5EncoderModel:
    """An untrained encoder in which each head starts out attending to one relative position.

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
        buckets = attention._relative_position_bucket(torch.tensor(neighbours))
        attention.relative_attention_bias.weight.data[buckets, range(len(neighbours))] += settings.NEIGHBOUR_BIAS
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


def meanings(tokenizer: PreTrainedTokenizerFast, seed: int) -> torch.Tensor:
    """Targets of single words: [(1 + NAMED_HUES) * tokens, WIDTH], rows of length WORD_LENGTH.

    The first rows are one random direction for each token; opposites are a shared direction plus and minus another one.
    The other rows are the tokens as colours of each hue: the sum of a direction of that hue and a point on its circle.
    """
    draw = torch.Generator().manual_seed(seed)
    directions = torch.randn((1 + len(NAMED_HUES)) * len(tokenizer), settings.WIDTH, generator=draw)
    directions = torch.nn.functional.normalize(directions)

    def row(word: str) -> int:
        return cast(int, tokenizer.convert_tokens_to_ids(f"▁{word}"))

    for low, high in OPPOSITES:
        shared, axis = directions[row(low)].clone(), directions[row(high)].clone()
        directions[row(low)], directions[row(high)] = shared - axis, shared + axis
    for number in range(len(NAMED_HUES)):
        start = len(tokenizer) * (1 + number)
        hue, *circle = directions[start : start + 3].clone()
        for word, middle in COLOUR_MIDDLES.items():
            angle = 2 * math.pi * middle
            place = math.cos(angle) * circle[0] + math.sin(angle) * circle[1]
            directions[start + row(word)] = hue + place
    return settings.WORD_LENGTH * torch.nn.functional.normalize(directions)


def meaning_loss(read: torch.Tensor, captions: Captions, meaning: torch.Tensor) -> torch.Tensor:
    """Squared distance of projected words [B, L, WIDTH] from their targets, relative to the targets' length, mean over
    words. The target of a name is its own meaning plus those of the words said of it.

    Without that sum "cat" would be the same vector for every cat, and no edit of it could change which cat is meant.
    """
    alone = meaning[captions.meaning.long()]
    meant = alone + captions.said @ alone
    missed = (read - meant).square().sum(-1) / meant.square().sum(-1)
    return (missed * captions.mask).sum() / captions.mask.sum()


def train_text_encoder(
    reader: Reader, captions: Captions, meaning: torch.Tensor, workdir: Path, steps: int, seed: int
) -> None:
    """Teaches the text encoder and the projection what words mean; resumes from the checkpoint in `workdir`."""
    rank, workers = join_workers()
    device = meaning.device
    optimizer = muon(reader, reader.text_encoder.encoder.block, reader.project)

    def loss(step: int) -> dict[str, torch.Tensor]:
        draw = torch.Generator(device).manual_seed(seed * 1_000_003 + step)
        size = (settings.TEXT_BATCH,)
        chosen = torch.randint(len(captions.tokens), size, generator=draw, device=device)[rank::workers]
        batch = captions.at(chosen)
        with mixed_precision(device.type):
            read = reader(batch.tokens, batch.mask)
        return {"missed": meaning_loss(read.float(), batch, meaning)}

    Training("wan text encoder", reader, optimizer, workdir / "wan-text-encoder.safetensors", steps).run(loss)
