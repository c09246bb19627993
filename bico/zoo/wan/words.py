"""Target vectors of words after the text projection: the meaning of each word, and how it depends on its sentence."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from bico.core.errors import InputError
from bico.core.files import replacing
from bico.models.wan.components import blocks_of
from bico.toybox.captions import COLOURS
from bico.zoo.wan import settings
from bico.zoo.wan.captions import NAMED_HUES, Captions

ARC_ENDS = [start for start, _ in COLOURS[2:]] + [1 + COLOURS[1][0]]
COLOUR_MIDDLES = {name: (start + end) / 2 for (start, name), end in zip(COLOURS[1:], ARC_ENDS, strict=True)}
OPPOSITES = (
    ("slowly", "quickly"),
    ("little", "widely"),
    ("below", "above"),
    ("left", "right"),
    ("counterclockwise", "clockwise"),
)
FILE = "words.safetensors"  # beside the models that WanPipeline opens


@dataclass(frozen=True)
class Words:
    """Target vectors of the words of a vocabulary.

    Attributes:
        tokenizer: has the vocabulary.
        meaning: [(1 + NAMED_HUES) * tokens, WIDTH], rows of length WORD_LENGTH: see `drawn`.
        leaning: [tokens, WIDTH], what each token adds to the other words of its sentence.
    """

    tokenizer: PreTrainedTokenizerFast
    meaning: torch.Tensor
    leaning: torch.Tensor

    @classmethod
    def drawn(cls, tokenizer: PreTrainedTokenizerFast, directions: torch.Tensor, seed: int) -> Words:
        """Words at random places, which lean in the span of the orthonormal `directions` [LEAN_DIRECTIONS, WIDTH].

        The first rows of `meaning` are one random direction for each token; opposites are a shared direction plus and
        minus another one. The other rows are the tokens as colours of each hue: the sum of a direction of that hue and
        a point on its circle.
        """
        draw = torch.Generator().manual_seed(seed)
        meaning = torch.randn((1 + len(NAMED_HUES)) * len(tokenizer), settings.WIDTH, generator=draw)
        meaning = torch.nn.functional.normalize(meaning)

        def row(word: str) -> int:
            return cast(int, tokenizer.convert_tokens_to_ids(f"▁{word}"))

        for low, high in OPPOSITES:
            shared, axis = meaning[row(low)].clone(), meaning[row(high)].clone()
            meaning[row(low)], meaning[row(high)] = shared - axis, shared + axis
        for number in range(len(NAMED_HUES)):
            start = len(tokenizer) * (1 + number)
            hue, *circle = meaning[start : start + 3].clone()
            for word, middle in COLOUR_MIDDLES.items():
                angle = 2 * math.pi * middle
                place = math.cos(angle) * circle[0] + math.sin(angle) * circle[1]
                meaning[start + row(word)] = hue + place
        meaning = settings.WORD_LENGTH * torch.nn.functional.normalize(meaning)
        shares = torch.randn(len(tokenizer), len(directions), generator=torch.Generator().manual_seed(seed + 1))
        return cls(tokenizer, meaning, shares @ directions)

    @classmethod
    def open(cls, folder: Path) -> Words:
        """The target vectors that the text encoder in a pipeline folder has learned."""
        if not (folder / FILE).is_file():
            raise InputError(f"{folder / FILE}: no such file: expected the folder of a wan that bico.zoo has trained")
        tensors = {key: value.float() for key, value in load_file(folder / FILE).items()}
        return cls(PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer"), **tensors)

    def save(self, folder: Path) -> None:
        """Writes them to a pipeline folder, in float16."""
        tensors = {"meaning": self.meaning, "leaning": self.leaning}
        with replacing(folder / FILE) as unfinished:
            save_file({key: value.half().cpu().contiguous() for key, value in tensors.items()}, unfinished)

    def grown(self, tokenizer: PreTrainedTokenizerFast) -> Words:
        """The words of another vocabulary: those known here keep their places, the others are drawn."""
        directions = torch.linalg.svd(self.leaning, full_matrices=False).Vh[: settings.LEAN_DIRECTIONS]
        # A seed of its own for each vocabulary: with the same one a new word would get the place of a known one.
        seed = zlib.crc32(" ".join(sorted(tokenizer.get_vocab())).encode())
        grown, places = Words.drawn(tokenizer, directions, seed), self.tokenizer.get_vocab()
        for token, place in tokenizer.get_vocab().items():
            if token in places:
                grown.meaning[place :: len(tokenizer)] = self.meaning[places[token] :: len(self.tokenizer)]
                grown.leaning[place] = self.leaning[places[token]]
        return grown

    def to(self, device: str) -> Words:
        return Words(self.tokenizer, self.meaning.to(device), self.leaning.to(device))

    def targets(self, captions: Captions, lean: float) -> torch.Tensor:
        """Target vectors of the words of captions: [B, L, WIDTH].

        The vector of a name is the sum of its own meaning and the words that describe it. Without this sum "cat" would
        have the same vector for every cat, and no edit of it could change the cat. To its meaning each word adds a part
        of length lean * WORD_LENGTH that depends only on the other words of the sentence. Without this part "cat" would
        have the same vector in every sentence, unlike in large text encoders, and a binder would learn from one caption
        as much as from sixty.
        """
        alone = self.meaning[captions.meaning.long()]
        added = self.leaning[captions.tokens.long()] * captions.mask[..., None]
        others = torch.nn.functional.normalize(added.sum(1, keepdim=True) - added, dim=-1)
        return alone + captions.said @ alone + lean * settings.WORD_LENGTH * others

    def missed(self, read: torch.Tensor, captions: Captions, lean: float) -> torch.Tensor:
        """Squared distance of projected words [B, L, WIDTH] from their targets, relative to the targets' length, mean
        over words.
        """
        meant = self.targets(captions, lean)
        missed = (read - meant).square().sum(-1) / meant.square().sum(-1)
        return (missed * captions.mask).sum() / captions.mask.sum()


def quiet_directions(transformer: WanTransformer3DModel) -> torch.Tensor:
    """The directions with the least effect on keys and values of all blocks: orthonormal [LEAN_DIRECTIONS, WIDTH].

    In an untrained DiT they are arbitrary.
    """
    layers = [layer for block in blocks_of(transformer) for layer in (block.attn2.to_k, block.attn2.to_v)]
    heard = torch.stack([layer.weight.detach().mT @ layer.weight.detach() for layer in layers])
    heard = (heard / heard.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]).mean(0)
    return torch.linalg.eigh(heard).eigenvectors[:, : settings.LEAN_DIRECTIONS].mT.contiguous()
