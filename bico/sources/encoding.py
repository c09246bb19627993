"""A source's media and captions as the tensors that training reads: nothing else has to be in memory then."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from bico.config.benchmark import Kind
from bico.core.files import replacing
from bico.core.records import intact
from bico.models.wan.backbone import Backbone
from bico.prompts.slots import mentions

CAPTION_TOKENS = 60
"""Of a source's longest caption, where there is none yet to count: before a run, and in measurements."""


@dataclass(frozen=True)
class Batch:
    """One training batch: latents [B, C, t, h, w], prompt embeddings [B, L, D], their token counts [B], and which slots
    hold which key word, [B, S]: 0 = none, n = the n-th of the source's spatial and temporal words."""

    latents: Tensor
    prompt_embeds: Tensor
    token_counts: Tensor
    key_slots: Tensor


@dataclass(frozen=True)
class EncodedSource:
    """All that a method may know of a source.

    N captions, F frame captions, each with the frame it describes; token counts hold the end-of-sequence token. S text
    slots, of which the longest caption of a kind fills L: from there on prompt embeddings, width D, would be zero, so
    they end there (512 slots of Wan2.1 take 4 MB a caption). Latents are normalised by the VAE's `latents_mean` and
    `latents_std`.
    """

    kind: Kind
    spatial: list[str]
    temporal: list[str]
    latents: Tensor  # [C, t, h, w]
    prompt_embeds: Tensor  # [N, L, D]
    token_counts: Tensor  # [N]
    key_slots: Tensor  # uint8 [N, S]: where the key words stand, as in `Batch`
    empty_prompt_embeds: Tensor  # [L, D], of a prompt without words
    frame_latents: Tensor | None = None  # [F, C, 1, h, w], videos only, as the three below
    frame_prompt_embeds: Tensor | None = None  # [F, L, D]
    frame_token_counts: Tensor | None = None  # [F]
    frame_key_slots: Tensor | None = None  # [F, S]
    appearance: Tensor | None = None  # [T, E], CLIP image embeddings of all frames, for methods that learn from them

    @property
    def class_word(self) -> str:
        """The word that stands for this source where a method needs just one: its motion, or else its first object."""
        return (self.temporal or self.spatial)[0]

    def captions(self, *, frames: bool) -> int:
        """How many there are: of the image or clip or, if `frames`, of single frames."""
        return len(cast("Tensor", self.frame_token_counts) if frames else self.token_counts)

    def draw(self, batch_size: int, generator: torch.Generator, *, frames: bool) -> Batch:
        """Captions drawn with replacement, as a batch."""
        count = self.captions(frames=frames)
        return self.batch(torch.randint(count, (batch_size,), generator=generator), frames=frames)

    def batch(self, picked: Tensor, *, frames: bool) -> Batch:
        """The captions of these numbers, int64 [B], each with the image or clip or, if `frames`, with the frame that it
        describes."""
        if frames:
            of_frames = self.frame_latents, self.frame_prompt_embeds, self.frame_token_counts, self.frame_key_slots
            return Batch(*(each[picked] for each in cast("tuple[Tensor, ...]", of_frames)))
        captions = self.prompt_embeds, self.token_counts, self.key_slots
        return Batch(self.latents.expand(len(picked), *self.latents.shape), *(each[picked] for each in captions))

    def save(self, path: Path) -> None:
        """Writes one safetensors file, atomically."""
        with replacing(path) as unfinished:
            save_file(self._tensors(), unfinished, metadata={"words": json.dumps(self._words())})

    @classmethod
    def load(cls, path: Path) -> EncodedSource:
        """Raises InputError if the file is damaged."""
        with safe_open(intact(path), framework="pt") as file:
            words = json.loads(file.metadata()["words"])
            return cls(**words, **{name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118

    def _words(self) -> dict[str, Any]:
        return {"kind": self.kind, "spatial": self.spatial, "temporal": self.temporal}

    def _tensors(self) -> dict[str, Tensor]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value.contiguous() for name, value in values.items() if isinstance(value, Tensor)}


def encode_source(backbone: Backbone, frames: np.ndarray, concepts: Mapping[str, Any]) -> EncodedSource:
    """Encodes a source for training.

    Args:
        frames: uint8 [T, H, W, 3], T = 1 for an image.
        concepts: as `results/concepts/<source>.json` holds them.
    """

    def key_slots(captions: Sequence[str], words: Sequence[str]) -> Tensor:
        marked = torch.zeros(len(captions), backbone.text_slots, dtype=torch.uint8)
        for row, caption in zip(marked, captions, strict=True):
            for number, word in enumerate(words, start=1):
                row[mentions(backbone.tokenizer, caption, word, backbone.text_slots)] = number
        return marked

    words = [*concepts["spatial"], *concepts["temporal"]]
    prompt_embeds, token_counts = backbone.encode_prompts(concepts["captions"])
    longest = int(token_counts.max())
    encoded = {"latents": backbone.encode_clip(frames), "token_counts": token_counts}
    encoded["prompt_embeds"] = prompt_embeds[:, :longest]
    encoded["key_slots"] = key_slots(concepts["captions"], words)
    encoded["empty_prompt_embeds"] = backbone.encode_prompts([""])[0][0, :longest]
    if concepts["kind"] == "video":
        described = [frames[index : index + 1] for index in concepts["frame_indices"]]
        encoded["frame_latents"] = torch.stack([backbone.encode_clip(frame) for frame in described])
        frame_prompt_embeds, frame_token_counts = backbone.encode_prompts(concepts["frame_captions"])
        encoded["frame_prompt_embeds"] = frame_prompt_embeds[:, : int(frame_token_counts.max())]
        encoded["frame_token_counts"] = frame_token_counts
        encoded["frame_key_slots"] = key_slots(concepts["frame_captions"], concepts["spatial"])
    return EncodedSource(
        kind=concepts["kind"],
        spatial=concepts["spatial"],
        temporal=concepts["temporal"],
        **{name: tensor.cpu().contiguous() for name, tensor in encoded.items()},  # as a file gives them back
    )
