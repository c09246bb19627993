"""Encodes a source's media and captions as tensors. Training needs nothing else in memory."""

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
from torch.nn import functional

from bico.config.benchmark import Kind
from bico.core.files import replacing
from bico.core.records import intact
from bico.models.wan.backbone import Backbone
from bico.prompts.slots import mentions


@dataclass(frozen=True)
class Batch:
    """One training batch: latents [B, C, t, h, w], prompt embeddings [B, L, D], their token counts [B], the key word in
    each slot [B, S] (0 = none, n = the n-th of the source's spatial and temporal words), and the masks of the latents,
    [B, 1, 1, h, w], if the source has some."""

    latents: Tensor
    prompt_embeds: Tensor
    token_counts: Tensor
    key_slots: Tensor
    mask: Tensor | None = None


@dataclass(frozen=True)
class EncodedSource:
    """Everything that a method may know about a source.

    There are N captions, and F frame captions, each with the frame that it describes. Token counts include the
    end-of-sequence token. Of the S text slots the longest caption of a kind fills L. Prompt embeddings, width D, end
    there, because they would be zero afterwards (512 slots of Wan2.1 take 4 MB per caption). Latents are normalised by
    the VAE's `latents_mean` and `latents_std`.
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
    photo_latents: Tensor | None = None  # [P, C, 1, h, w], of several photographs, the first of which is `latents`
    caption_photos: Tensor | None = None  # int64 [N], the photograph that each caption describes
    masks: Tensor | None = None  # [P, 1, 1, h, w], see `mask_weights`; P = 1 for an image alone
    appearance: Tensor | None = None  # [T, E], CLIP image embeddings of all frames, for methods that learn from them

    @property
    def class_word(self) -> str:
        """The word for this source if a method needs only one: its motion, or without a motion its first object."""
        return (self.temporal or self.spatial)[0]

    def captions(self, *, frames: bool) -> int:
        """Number of captions of the image or clip or, with `frames`, of single frames."""
        return len(cast("Tensor", self.frame_token_counts) if frames else self.token_counts)

    def draw(self, batch_size: int, generator: torch.Generator, *, frames: bool) -> Batch:
        """Captions drawn with replacement, as a batch."""
        count = self.captions(frames=frames)
        return self.batch(torch.randint(count, (batch_size,), generator=generator), frames=frames)

    def batch(self, picked: Tensor, *, frames: bool) -> Batch:
        """The captions with these numbers, int64 [B], each with the image or clip, or with the frame that it describes
        (`frames`). With several photographs it is the one that the caption describes."""
        if frames:
            of_frames = self.frame_latents, self.frame_prompt_embeds, self.frame_token_counts, self.frame_key_slots
            return Batch(*(each[picked] for each in cast("tuple[Tensor, ...]", of_frames)))
        captions = self.prompt_embeds, self.token_counts, self.key_slots
        photos = None if self.caption_photos is None else self.caption_photos[picked]
        latents, mask = self._looks(len(picked), photos)
        return Batch(latents, *(each[picked] for each in captions), mask=mask)

    def draw_looks(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """The image or clip without a caption, [B, C, t, h, w], and its masks [B, 1, 1, h, w] if there are any.

        Several photographs are drawn with replacement. With one image nothing is drawn.
        """
        photos = None
        if self.photo_latents is not None:
            photos = torch.randint(len(self.photo_latents), (batch_size,), generator=generator)
        return self._looks(batch_size, photos)

    def _looks(self, count: int, photos: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """`count` copies of the image or clip, or the photographs with these numbers; and their masks."""
        if self.photo_latents is None or photos is None:
            mask = None if self.masks is None else self.masks.expand(count, *self.masks.shape[1:])
            return self.latents.expand(count, *self.latents.shape), mask
        return self.photo_latents[photos], None if self.masks is None else self.masks[photos]

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


def mask_weights(mask: np.ndarray, grid: tuple[int, int]) -> Tensor:
    """Weights of the training loss at the places of a latent, float32 [1, 1, h, w].

    The weight of a place is w = m / mean(m). m is the mean of the mask over the pixels of that place, and mean(m) is
    the mean of m over all places. So the mean weight is 1, and a small subject has as much weight as a large one.

    Args:
        mask: float [H, W], 0 (do not learn) to 1, not 0 everywhere.
        grid: height and width of the latent.
    """
    share = functional.adaptive_avg_pool2d(torch.from_numpy(mask)[None, None], grid)
    return share / share.mean()


def encode_source(
    backbone: Backbone, frames: np.ndarray, concepts: Mapping[str, Any], masks: Sequence[np.ndarray] = ()
) -> EncodedSource:
    """Encodes a source for training.

    Args:
        frames: uint8 [T, H, W, 3]; for an image T is the number of its photographs.
        concepts: the contents of `results/concepts/<source>.json`.
        masks: masks of the photographs, float [H, W] each, 0 to 1; none, or one for each.
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
    encoded = {"token_counts": token_counts}
    if concepts["kind"] == "image" and len(frames) > 1:
        encoded["photo_latents"] = torch.stack([backbone.encode_clip(photo[None]) for photo in frames])
        encoded["caption_photos"] = torch.tensor(concepts["caption_photos"])
        encoded["latents"] = encoded["photo_latents"][0].clone()
    else:
        encoded["latents"] = backbone.encode_clip(frames)
    if masks:
        height, width = encoded["latents"].shape[-2:]
        encoded["masks"] = torch.stack([mask_weights(mask, (height, width)) for mask in masks])
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
        **{name: tensor.cpu().contiguous() for name, tensor in encoded.items()},  # as they are when read from a file
    )
