"""The second stage of the VLM's training: the whole model learns to answer prompts of `bico.sources.instructions`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F
from transformers import DynamicCache

from bico.models.vlm import Vlm
from bico.sources.instructions import SHORT, Concepts
from bico.toybox.captions import caption, key_words
from bico.toybox.world import NUM_FRAMES, Scene
from bico.zoo.data import TRAIN_SEED, draw_batch, scenes
from bico.zoo.muon import muon
from bico.zoo.training import Training, mixed_precision
from bico.zoo.vlm.sight import FIRST_SHARE
from bico.zoo.vlm.vision import CLIP_PAIRS, SIDE, see

INVENTED_SHARE = 0.12  # share of caption dialogues with an invented word


def example(scene: Scene, rng: np.random.Generator, *, moving: bool, caption_share: float) -> tuple[str, str]:
    """(prompt, answer) about a frame or a clip of a scene: its concepts, or a caption from them."""
    words = key_words(scene) if moving else {"spatial": key_words(scene)["spatial"]}
    if rng.random() >= caption_share:
        return SHORT.concepts["video" if moving else "image"], json.dumps(words)
    text = caption(scene, rng, motion=moving, detail=0)
    if rng.random() < INVENTED_SHARE:
        words, text = invent(words, text, rng)
    return SHORT.caption_prompt(words), text


def invent(words: Concepts, text: str, rng: np.random.Generator) -> tuple[Concepts, str]:
    """The same words and caption with one word replaced by one or two made-up ones."""
    old = str(rng.choice([word for group in words.values() for word in group]))
    letters = rng.choice(list("abcdefghijklmnopqrstuvwxyz"), (int(rng.integers(1, 3)), int(rng.integers(3, 8))))
    new = " ".join("".join(word) for word in letters)
    renamed = {key: [new if word == old else word for word in group] for key, group in words.items()}
    return renamed, re.sub(rf"\b{old}\b", new, text)


def sample_texts(number: int = 4_000) -> list[str]:
    """Training texts of the tokenizer: captions and the JSON of their words."""
    rng = np.random.default_rng([TRAIN_SEED, 1])
    drawn = scenes(number, TRAIN_SEED)
    texts = [caption(scene, rng) for scene in drawn] + [json.dumps(key_words(scene)) for scene in drawn]
    return [*texts, *("user", "assistant") * 10]


def tokens(vlm: Vlm, dialogues: list[tuple[str, str]], *, still: bool) -> np.ndarray:
    """int64 [dialogues, length]: token ids of (prompt, answer) in the chat template, with slots for the vision tokens.

    They are padded on the right, to a multiple of 16. There padding needs no mask, and all vision tokens have the same
    slots.
    """
    before, after = vlm.chat("\0", still=still).split("\0")
    place = vlm.processor.image_token if still else vlm.processor.video_token
    before = before.replace(place, place * (SIDE**2 if still else SIDE**2 * CLIP_PAIRS))
    texts = [before + prompt + after + answer + "<|im_end|>" for prompt, answer in dialogues]
    rows = vlm.processor.tokenizer(texts)["input_ids"]
    padded = np.full((len(rows), -(-max(map(len, rows)) // 16) * 16), vlm.processor.tokenizer.pad_token_id)
    for row, filled in zip(rows, padded, strict=True):
        filled[: len(row)] = row
    return padded


@cache
def positions(start: int, pairs: int, length: int, device: torch.device) -> torch.Tensor:
    """int64 [3, length]: time, row and column of every token; vision tokens of `pairs` of frames start at `start`."""
    inside = torch.cartesian_prod(torch.arange(pairs), torch.arange(SIDE), torch.arange(SIDE)).T + start
    # A pair of frames takes a quarter of a second, and Qwen2.5-VL's clock has four ticks to the second.
    after = torch.arange(length - start - inside.shape[1]) + start + SIDE
    return torch.cat([torch.arange(start).expand(3, -1), inside, after.expand(3, -1)], dim=1).to(device)


def loss_of(vlm: Vlm, media: torch.Tensor, ids: np.ndarray) -> torch.Tensor:
    """Mean next-token loss (nats) over the answers in dialogues (see `tokens`) about uint8 [B, T, H, W, 3].

    There may be several times as many dialogues as media: then the first ones are about the first of them. Each of the
    media is read once.
    """
    model, names = vlm.model, vlm.processor.tokenizer
    turn, vision, end = names.convert_tokens_to_ids(["<|im_start|>", "<|vision_start|>", names.pad_token])
    start, pairs = int(np.argmax(ids[0] == vision)) + 1, -(-media.shape[1] // 2)
    first = start + pairs * SIDE**2  # token after the vision tokens
    labels = np.where((np.cumsum(ids == turn, axis=1) < 2) | (ids == end), -100, ids)[:, first + 1 :]
    known, wanted = _moved(ids, media.device), _moved(np.ascontiguousarray(labels), media.device)
    language, each = model.model.language_model, len(ids) // len(media)
    words = language.embed_tokens(known)
    places = positions(start, pairs, ids.shape[1], media.device)[:, None]
    seen = see(model.model.visual, media)
    before = torch.cat([words[::each, :start], seen.to(words.dtype)], dim=1)
    cache = DynamicCache(config=language.config)
    language(inputs_embeds=before, position_ids=places[..., :first].expand(-1, len(media), -1), past_key_values=cache)
    cache.batch_repeat_interleave(each)
    read = language(
        inputs_embeds=words[:, first:],
        position_ids=places[..., first:].expand(-1, len(ids), -1),
        past_key_values=cache,
    ).last_hidden_state
    logits = model.lm_head(read[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten())


class Lesson(NamedTuple):
    """A batch of this stage.

    Attributes:
        frames, times: [B / 2] scenes, and which of their frames.
        about_frames: [dialogues, length] dialogues about them, see `loss_of`.
        clips, clip_times: [B / 2] scenes, and [B / 2, T] which of their frames.
        about_clips: [dialogues, length] dialogues about these.
    """

    frames: np.ndarray
    times: np.ndarray
    about_frames: np.ndarray
    clips: np.ndarray
    clip_times: np.ndarray
    about_clips: np.ndarray


def lesson(folder: Path, count: int, size: int, seed: int, step: int, *, caption_share: float) -> Lesson:
    """The batch of a step, from `count` training scenes; `folder` holds the tokenizer.

    Args:
        caption_share: share of dialogues that ask for a caption; the others ask for concepts.
    """
    vlm = opened(folder)
    frames, times, clips, rng = draw_media(count, size, seed, step)
    about_frames = [example(train_scene(i), rng, moving=False, caption_share=caption_share) for i in frames.tolist()]
    about_clips = [example(train_scene(i), rng, moving=True, caption_share=caption_share) for i in clips.tolist()]
    return Lesson(
        frames,
        times,
        tokens(vlm, about_frames, still=True),
        clips,
        np.tile(np.arange(NUM_FRAMES), (len(clips), 1)),
        tokens(vlm, about_clips, still=False),
    )


def draw_media(
    count: int, size: int, seed: int, step: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.random.Generator]:
    """Scenes of which a frame is shown, these frames, scenes of which a clip is shown, and a generator for the rest."""
    indices, rng = draw_batch(count, size, seed + 1, step)
    frames, clips = rng.permutation(indices).reshape(2, -1)
    times = rng.integers(NUM_FRAMES, size=len(frames))
    times[rng.random(len(frames)) < FIRST_SHARE] = 0
    return frames, times, clips, rng


class Course(NamedTuple):
    """Length and data of this stage.

    Attributes:
        scenes: number of training scenes, by device.
        batch: number of scenes in a step, by device; half of them are frames.
        steps: number of steps, by device.
        sight_kept: share of the steps, at the start, in which the vision tower is frozen.
        peak: peak of the learning rate, as a multiple of Muon's own rates.
        write: the lesson of a step: (folder, count, size, seed, step), see `lesson`.
    """

    scenes: dict[str, int]
    batch: dict[str, int]
    steps: dict[str, int]
    sight_kept: float
    peak: float
    write: Callable[[Path, int, int, int, int], Lesson]


# A GPU gets more scenes and larger batches (here and in the vision stage): it trains on ten to twenty times as many
# scenes in a tenth of the time.
FROM_SCRATCH = Course(
    {"cpu": 20_000, "cuda": 60_000},
    {"cpu": 32, "cuda": 256},
    {"cpu": 1_500, "cuda": 2_500},
    sight_kept=0.5,
    peak=1.0,
    write=partial(lesson, caption_share=0.4),
)
# Known words are soon relearned; new phrasings take longer.
CONTINUED = Course(
    {"cpu": 6_000, "cuda": 60_000},
    {"cpu": 32, "cuda": 256},
    {"cpu": 1_600, "cuda": 1_600},
    sight_kept=1.0,
    peak=0.5,
    write=partial(lesson, caption_share=0.85),
)


@cache
def opened(folder: Path) -> Vlm:
    """The VLM of a folder, of which a lesson needs the tokenizer."""
    return Vlm(folder, device="cpu")


@cache
def train_scene(index: int) -> Scene:
    """A training scene by its number."""
    return scenes(1, TRAIN_SEED, start=index)[0]


def train_answers(
    vlm: Vlm, pool: torch.Tensor, mapper: Callable[..., Iterable], workdir: Path, seed: int, course: Course, steps: int
) -> None:
    """Trains on batches that are half frames, half clips.

    Args:
        pool: uint8 [scenes, T, H, W, 3].
        mapper: `map`, or the `map` of several processes, which write lessons ahead.
    """
    model, device = vlm.model.train(), vlm.device
    optimizer = muon(model, model.model.visual.blocks, model.model.language_model.layers)
    checkpoint = workdir / "vlm-answers.safetensors"
    training = Training("vlm answers", model, optimizer, checkpoint, steps, course.peak, clip_groups=True)
    size = min(course.batch[device], len(pool))
    written = partial(course.write, workdir / "vlm", len(pool), size, seed)
    lessons = iter(mapper(written, range(training.first, steps)))

    def loss(step: int) -> dict[str, torch.Tensor]:
        part = next(lessons)
        model.model.visual.requires_grad_(step >= course.sight_kept * steps)
        stills = pool[_moved(part.frames, device), _moved(part.times, device)][:, None]
        clips = pool[_moved(part.clips, device)[:, None], _moved(part.clip_times, device)]
        with mixed_precision(device):
            return {
                "frames": loss_of(vlm, stills, part.about_frames),
                "clips": loss_of(vlm, clips, part.about_clips),
            }

    training.run(loss)


def _moved(array: np.ndarray, device: torch.device | str) -> torch.Tensor:
    """The array on the device, without waiting for the work that is queued there."""
    return torch.from_numpy(array).to(device, non_blocking=True)
