"""The Toybox's VLM: a Qwen2.5-VL of 2.6 M parameters, trained from scratch to answer the prompts of `sources.concepts`.

    bico zoo vlm FOLDER     six minutes on an H200 that trains the DiT as well; hours on one core

First its vision tower learns to see: what covers each patch, how that is turned and how it moves on in the next frame,
and the words of the whole frame. Without this stage it takes many times as long to tell subjects apart. Then the whole
model learns two things: to name concepts as JSON, from a frame or a clip, and to write a caption that holds the words
of a given JSON. Now and then those words are invented ones, so that it learns to copy any word.

The fixed instructions of `sources.concepts` are single tokens of its vocabulary: they cost next to nothing, and an
edited instruction needs a new training (a test says so).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional as F
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from bico.config.schema import ConceptSettings, KeyWords
from bico.sources import concepts
from bico.toybox.captions import caption, key_words
from bico.toybox.render import masks, render, trajectory
from bico.toybox.world import FPS, LIGHTS, MOTIONS, NUM_FRAMES, SCENES, SIZE, STYLES, SUBJECTS, Scene
from bico.zoo.common import (
    HELD_OUT_SEED,
    TRAIN_SEED,
    Muon,
    Progress,
    batches,
    clip_pool,
    cosine_rate,
    load_checkpoint,
    mixed_precision,
    muon,
    save_checkpoint,
    scenes,
)

# A GPU sees ten to twenty times as much in a tenth of the time; it wants large batches.
POOL = {"cpu": 20_000, "cuda": 60_000}
SIGHT_STEPS, SIGHT_BATCH = {"cpu": 10_000, "cuda": 4_000}, {"cpu": 64, "cuda": 1024}
STEPS, BATCH = {"cpu": 1_500, "cuda": 2_500}, {"cpu": 32, "cuda": 256}
RATE, CHECKPOINT_EVERY, CHUNK = 1.0, 250, 500
FIRST_SHARE = 0.3  # of frames that are the first: there what grows is smallest, and hardest to tell
SIGHT_KEPT = 0.5  # share of the second stage in which the vision tower stays as it is
CAPTION_SHARE, INVENTED_SHARE = 0.4, 0.12
PATCH, MERGE = 6, 2  # pixels of a patch: what grows starts out nine pixels wide
GRID = SIZE // PATCH
SIDE, CLIP_PAIRS = GRID // MERGE, -(-NUM_FRAMES // 2)  # tokens along a frame, pairs of frames in a clip
ACTORS = 2  # at most, in a scene
WORDS = SUBJECTS + SCENES + STYLES + LIGHTS

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}"
    "{% else %}<|vision_start|><|{{ part.type }}_pad|><|vision_end|>{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


# --- the model ------------------------------------------------------------------------------------------------------


def build_tokenizer(corpus: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE, so that any text can be read and written; the instructions are tokens of their own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_tokens([*concepts.CONCEPTS.values(), *concepts.CAPTION.values()])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL[1:]),
        padding_side="left",
        model_max_length=1024,
    )


def build(folder: Path, corpus: list[str], seed: int) -> None:
    """Saves an untrained model and its processor."""
    tokenizer = build_tokenizer(corpus)
    token = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    ends = {"eos_token_id": token["<|im_end|>"], "pad_token_id": token["<|endoftext|>"]}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 160,
            "intermediate_size": 320,
            "num_hidden_layers": 3,
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
            "max_position_embeddings": 1024,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [6, 5, 5]},
            "initializer_range": 0.05,
            "bos_token_id": None,
            **ends,
        },
        vision_config={
            "depth": 4,
            "hidden_size": 160,
            "intermediate_size": 400,
            "num_heads": 5,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "window_size": SIZE,
            "fullatt_block_indexes": [0, 1, 2, 3],
            "out_hidden_size": 160,
            "rope_parameters": {"rope_type": "axial", "rope_theta": 100.0},  # a grid of 8 x 8 needs no slow waves
            "initializer_range": 0.08,
        },
        image_token_id=token["<|image_pad|>"],
        video_token_id=token["<|video_pad|>"],
        vision_start_token_id=token["<|vision_start|>"],
        vision_end_token_id=token["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(**ends)
    model.save_pretrained(folder)
    patches = {"patch_size": PATCH, "merge_size": MERGE, "temporal_patch_size": 2}
    size = {"shortest_edge": SIZE**2 // 2, "longest_edge": SIZE**2}
    Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(size=size, **patches),
        tokenizer,
        Qwen2VLVideoProcessor(size=size, cap_pixels_per_frame=False, **patches),
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)


def patches(frames: torch.Tensor) -> torch.Tensor:
    """uint8 [B, T, H, W, 3] to the patches that the processor makes of them, float32 [B * pairs, patches, values].

    Two frames make a pair; the last one is taken twice where their number is odd.
    """
    if frames.shape[1] % 2:
        frames = torch.cat([frames, frames[:, -1:]], dim=1)
    side = GRID // MERGE
    shape = (-1, 2, side, MERGE, PATCH, side, MERGE, PATCH, 3)
    mean, std = _scale(frames.device)
    return ((frames.float() - mean) / std).view(shape).permute(0, 2, 5, 3, 6, 8, 1, 4, 7).flatten(5).flatten(1, 4)


@cache
def _scale(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The processor's mean and spread of each colour in 0..255."""
    return tuple((255 * torch.tensor(values)).to(device) for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))


def see(visual: nn.Module, frames: torch.Tensor) -> torch.Tensor:
    """What the vision tower tells of frames, uint8 [B, T, H, W, 3] to [B, tokens, width].

    The tower's own arithmetic for pictures that are all of one size: all are attended to at once, and nothing is worked
    out picture by picture.
    """
    seen = F.linear(patches(frames), visual.patch_embed.proj.weight.flatten(1))
    config = visual.config
    turns = _turns(config.hidden_size // config.num_heads, config.rope_parameters["rope_theta"], seen.device)
    for block in visual.blocks:
        seen = seen + _attend(block.attn, block.norm1(seen), turns)
        seen = seen + block.mlp(block.norm2(seen))
    return visual.merger(seen).view(len(frames), -1, config.out_hidden_size)


@cache
def _turns(width: int, theta: float, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines [patches, 1, width] by which a patch's place turns the queries and keys of a head."""
    axis = torch.arange(GRID).view(-1, MERGE)
    places = torch.stack(torch.meshgrid(axis.flatten(), axis.flatten(), indexing="ij"), dim=-1)
    blocks = places.unflatten(1, (-1, MERGE)).unflatten(0, (-1, MERGE)).transpose(1, 2).reshape(-1, 2)
    waves = theta ** -(torch.arange(width // 4) / (width // 4))
    angles = (blocks[..., None] * waves).flatten(1).repeat(1, 2)[:, None].to(device)
    return angles.cos(), angles.sin()


def _attend(attn: nn.Module, seen: torch.Tensor, turns: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Attention inside each picture, [pictures, patches, width] to the same shape."""
    query, key, value = attn.qkv(seen).unflatten(2, (3, attn.num_heads, -1)).unbind(2)
    query, key = (_turned(x, *turns).to(value.dtype).transpose(1, 2) for x in (query, key))
    weights = (query @ key.transpose(2, 3) * attn.scaling).softmax(-1)
    return attn.proj((weights.to(value.dtype) @ value.transpose(1, 2)).transpose(1, 2).flatten(2))


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    one, other = x.float().chunk(2, dim=-1)
    return torch.cat([one, other], -1) * cos + torch.cat([-other, one], -1) * sin


# --- first stage: sight ---------------------------------------------------------------------------------------------


class Sight(nn.Module):
    """What is there to see, read from the merged tokens of a frame (or of a pair of frames): dropped after training."""

    PARTS = (1 + len(SUBJECTS), 1 + len(MOTIONS), 14)  # of a patch: its subject or none, its motion or none, `facts`

    def __init__(self, width: int) -> None:
        super().__init__()
        self.words = nn.Linear(width, len(WORDS))
        self.patches = nn.Linear(width, MERGE**2 * sum(self.PARTS))

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """[B, tokens, width] to logits of words [B, W], then [B, patches, part] of the parts, facts as numbers."""
        patches = self.patches(tokens).unflatten(2, (MERGE**2, -1)).flatten(1, 2)
        return self.words(tokens.mean(1)), *patches.split(self.PARTS, dim=2)


def facts(scene: Scene) -> np.ndarray:
    """float32 [actors, T, 14]: pose (turn, size, place) in a frame and in the next one, hue and pattern."""
    x, y, size, angle = np.moveaxis(trajectory(scene), 2, 0)
    pose = np.stack([np.cos(angle), np.sin(angle), 3 * size, 2 * x, 2 * y], axis=2)
    look = [
        [np.cos(2 * np.pi * a.hue_a), np.sin(2 * np.pi * a.hue_a), a.pattern == "striped", a.pattern == "spotted"]
        for a in scene.actors
    ]
    after = np.concatenate([pose[:, 1:], pose[:, -1:]], axis=1)
    return np.concatenate([pose, after, np.repeat(np.float32(look)[:, None], len(x[0]), axis=1)], axis=2)


def sights(scene: Scene) -> dict[str, np.ndarray]:
    """What `Sight` has to read in a scene; patches in the order of the vision tower (2 x 2 blocks).

    Returns:
        words: float32 [WORDS], a one for each that is there.
        actors: uint8 [T, patches], number of the actor that covers a patch, from 1, or 0.
        subjects, motions: uint8 [1 + ACTORS], the words of each number, from 1, or 0.
        facts: float32 [1 + ACTORS, T, 14], those of each number.
    """
    actors = np.zeros((NUM_FRAMES, GRID, GRID), np.uint8)
    subjects, motions = np.zeros((2, 1 + ACTORS), np.uint8)
    values = np.zeros((1 + ACTORS, NUM_FRAMES, Sight.PARTS[2]), np.float32)
    values[1 : 1 + len(scene.actors)] = facts(scene)
    for number, (actor, mask) in enumerate(zip(scene.actors, masks(scene, size=GRID), strict=True), start=1):
        actors[mask] = number
        subjects[number], motions[number] = 1 + SUBJECTS.index(actor.word), 1 + MOTIONS.index(actor.motion.word)
    cells = actors.reshape(NUM_FRAMES, GRID // MERGE, MERGE, GRID // MERGE, MERGE)
    return {
        "words": np.float32([word in key_words(scene)["spatial"] for word in WORDS]),
        "actors": cells.swapaxes(2, 3).reshape(NUM_FRAMES, -1),
        "subjects": subjects,
        "motions": motions,
        "facts": values,
    }


def _sights_of(count: int, start: int) -> dict[str, np.ndarray]:
    """`sights` of training scenes from `start` on, stacked."""
    seen = [sights(scene) for scene in scenes(count, TRAIN_SEED, start)]
    return {key: np.stack([entry[key] for entry in seen]) for key in seen[0]}


def all_sights(count: int, spread: Callable[..., Iterable]) -> dict[str, torch.Tensor]:
    """`sights` of all training scenes, stacked; `spread` is `map`, or that of several processes."""
    starts = range(0, count, CHUNK)
    parts = list(spread(_sights_of, [min(CHUNK, count - start) for start in starts], starts))
    return {key: torch.from_numpy(np.concatenate([part[key] for part in parts])) for key in parts[0]}


def at(known: dict[str, torch.Tensor], chosen: torch.Tensor, frames: torch.Tensor, moves: torch.Tensor):
    """What there is to read in one frame of each chosen scene, patch by patch; nothing moves without a next frame.

    Args:
        chosen, frames: [B] scenes and their frames.
        moves: [B], 1 with a next frame and 0 without (an image).
    """
    actors = known["actors"][chosen, frames].long()
    subjects, motions = (known[key][chosen].long().gather(1, actors) for key in ("subjects", "motions"))
    values = known["facts"][chosen, :, frames]
    values = values.gather(1, actors[..., None].expand(-1, -1, values.shape[2]))
    now, then, look = values.split([5, 5, 4], dim=2)
    then = torch.where(moves.bool()[:, None, None], then, now)
    facts = torch.cat([now, then, look], dim=2)
    return {"words": known["words"][chosen], "subjects": subjects, "motions": motions * moves[:, None], "facts": facts}


def sight_loss(
    visual: nn.Module, head: Sight, pairs: torch.Tensor, truth: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Losses of what is read from pairs of frames, uint8 [B, 2, H, W, 3]."""
    words, subjects, motions, values = head(see(visual, pairs))
    covered = truth["subjects"] > 0
    weight = torch.ones(1 + len(SUBJECTS), device=pairs.device)
    weight[0] = 0.3  # most patches are background
    error = (values - truth["facts"]).square().mean(2)
    return {
        "words": 5 * F.binary_cross_entropy_with_logits(words, truth["words"]),
        "subjects": 2 * F.cross_entropy(subjects.flatten(0, 1), truth["subjects"].flatten(), weight),
        "motions": F.cross_entropy(motions.flatten(0, 1), truth["motions"].masked_fill(~covered, -100).flatten()),
        "facts": (error * covered).sum() / covered.sum(),
    }


def learn_to_see(
    vlm: concepts.Vlm, pool: torch.Tensor, known: dict[str, torch.Tensor], workdir: Path, seed: int, steps: int
) -> None:
    """The first stage: half of the pairs are one frame twice (an image), half are a frame and the next one (a clip)."""
    torch.manual_seed(seed)
    visual, device = vlm.model.model.visual.train(), vlm.device
    head = Sight(vlm.model.config.vision_config.out_hidden_size).to(device)
    modules = nn.ModuleDict({"visual": visual, "head": head})
    optimizer, checkpoint = muon(modules, visual.blocks), workdir / "vlm-sight.safetensors"
    first = load_checkpoint(checkpoint, modules, optimizer)
    progress = Progress("vlm sight", steps, first)
    for step, indices, rng in batches(len(pool), min(SIGHT_BATCH[device], len(pool)), range(first, steps), seed):
        starts, moves = rng.integers(NUM_FRAMES - 1, size=len(indices)), rng.integers(2, size=len(indices))
        starts[rng.random(len(indices)) < FIRST_SHARE] = 0
        chosen, starts, moves = _moved(np.stack([indices, starts, moves]), device)
        pairs = pool[chosen[:, None], torch.stack([starts, starts + moves], dim=1)]
        with mixed_precision(device):
            losses = sight_loss(visual, head, pairs, at(known, chosen, starts, moves))
        _descend(sum(losses.values()), optimizer, cosine_rate(step, steps, RATE))
        progress.update(step + 1, **losses)
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
            save_checkpoint(checkpoint, step + 1, modules, optimizer)


def _moved(array: np.ndarray, device: torch.device | str) -> torch.Tensor:
    """On the device, without waiting for what it is doing."""
    return torch.from_numpy(array).to(device, non_blocking=True)


def _descend(loss: torch.Tensor, optimizer: Muon, rate: float) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.set_rate(rate)
    for group in optimizer.param_groups:
        torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
    optimizer.step()


# --- second stage: answers ------------------------------------------------------------------------------------------


def example(scene: Scene, rng: np.random.Generator, *, moving: bool) -> tuple[str, str]:
    """(prompt, answer) about a frame or a clip of a scene: its concepts, or a caption from them."""
    words = key_words(scene) if moving else {"spatial": key_words(scene)["spatial"]}
    if rng.random() >= CAPTION_SHARE:
        return concepts.CONCEPTS["video" if moving else "image"], json.dumps(words)
    text = caption(scene, rng, motion=moving, detail=0)
    if rng.random() < INVENTED_SHARE:
        words, text = invent(words, text, rng)
    return concepts.caption_prompt(words), text


def invent(words: concepts.Concepts, text: str, rng: np.random.Generator) -> tuple[concepts.Concepts, str]:
    """The same words and caption with one word replaced by one or two made-up ones."""
    old = str(rng.choice([word for group in words.values() for word in group]))
    letters = rng.choice(list("abcdefghijklmnopqrstuvwxyz"), (int(rng.integers(1, 3)), int(rng.integers(3, 8))))
    new = " ".join("".join(word) for word in letters)
    renamed = {key: [new if word == old else word for word in group] for key, group in words.items()}
    return renamed, re.sub(rf"\b{old}\b", new, text)


def sample_texts(number: int = 4_000) -> list[str]:
    """What the tokenizer learns from: captions and the JSON of their words."""
    rng = np.random.default_rng([TRAIN_SEED, 1])
    drawn = scenes(number, TRAIN_SEED)
    texts = [caption(scene, rng) for scene in drawn] + [json.dumps(key_words(scene)) for scene in drawn]
    return [*texts, *("user", "assistant") * 10]


def tokens(vlm: concepts.Vlm, dialogues: list[tuple[str, str]], *, still: bool) -> np.ndarray:
    """int64 [dialogues, length]: (prompt, answer) as the model reads them, places for what it sees among them.

    Padded on the right, to a multiple of 16: there padding needs no mask, and pictures stand in the same places.
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
    """int64 [3, length]: time, row and column of every token, of which those of `pairs` of frames start at `start`."""
    inside = torch.cartesian_prod(torch.arange(pairs), torch.arange(SIDE), torch.arange(SIDE)).T + start
    # A pair of frames takes a quarter of a second, and Qwen2.5-VL's clock has four ticks to the second.
    after = torch.arange(length - start - inside.shape[1]) + start + SIDE
    return torch.cat([torch.arange(start).expand(3, -1), inside, after.expand(3, -1)], dim=1).to(device)


def loss_of(vlm: concepts.Vlm, media: torch.Tensor, ids: np.ndarray) -> torch.Tensor:
    """Mean next-token loss (nats) over the answers in dialogues (see `tokens`) about uint8 [B, T, H, W, 3]."""
    model, names = vlm.model, vlm.processor.tokenizer
    turn, vision, end = names.convert_tokens_to_ids(["<|im_start|>", "<|vision_start|>", names.pad_token])
    start, pairs = int(np.argmax(ids[0] == vision)) + 1, -(-media.shape[1] // 2)
    first = start + pairs * SIDE**2  # token after what is seen
    labels = np.where((np.cumsum(ids == turn, axis=1) < 2) | (ids == end), -100, ids)[:, first:]
    ids, labels = _moved(ids, media.device), _moved(np.ascontiguousarray(labels), media.device)
    seen = see(model.model.visual, media)
    words = model.model.language_model.embed_tokens(ids)
    read = model.model.language_model(
        inputs_embeds=torch.cat([words[:, :start], seen.to(words.dtype), words[:, first:]], dim=1),
        position_ids=positions(start, pairs, ids.shape[1], media.device)[:, None].expand(-1, len(ids), -1),
        use_cache=False,
    ).last_hidden_state
    logits = model.lm_head(read[:, first - 1 : -1])
    return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())


class Lesson(NamedTuple):
    """A batch of the second stage: frames and clips of which scenes, and dialogues about them as tokens."""

    frames: np.ndarray
    times: np.ndarray
    about_frames: np.ndarray
    clips: np.ndarray
    about_clips: np.ndarray


def lesson(folder: Path, count: int, size: int, seed: int, step: int) -> Lesson:
    """The batch of a step, from `count` training scenes; `folder` knows the tokenizer."""
    vlm = _opened(folder)
    _, indices, rng = next(batches(count, size, range(step, step + 1), seed + 1))
    frames, clips = rng.permutation(indices).reshape(2, -1)
    times = rng.integers(NUM_FRAMES, size=len(frames))
    times[rng.random(len(frames)) < FIRST_SHARE] = 0
    about_frames = [example(_scene(i), rng, moving=False) for i in frames.tolist()]
    about_clips = [example(_scene(i), rng, moving=True) for i in clips.tolist()]
    return Lesson(frames, times, tokens(vlm, about_frames, still=True), clips, tokens(vlm, about_clips, still=False))


@cache
def _opened(folder: Path) -> concepts.Vlm:
    return concepts.Vlm(folder, device="cpu")


@cache
def _scene(index: int) -> Scene:
    return scenes(1, TRAIN_SEED, start=index)[0]


def learn_to_answer(
    vlm: concepts.Vlm, pool: torch.Tensor, spread: Callable[..., Iterable], workdir: Path, seed: int, steps: int
) -> None:
    """The second stage: the whole model; every batch is half frames, half clips. The vision tower joins in halfway."""
    model, device = vlm.model.train(), vlm.device
    inside = model.model.visual.blocks, model.model.language_model.layers
    optimizer, checkpoint = muon(model, *inside), workdir / "vlm.safetensors"
    first = load_checkpoint(checkpoint, {"model": model}, optimizer)
    progress = Progress("vlm", steps, first)
    written = partial(lesson, workdir / "vlm", len(pool), min(BATCH[device], len(pool)), seed)
    for step, part in enumerate(spread(written, range(first, steps)), start=first):
        model.model.visual.requires_grad_(step >= SIGHT_KEPT * steps)
        stills = pool[_moved(part.frames, device), _moved(part.times, device)][:, None]
        clips = pool[_moved(part.clips, device)]
        with mixed_precision(device):
            losses = {
                "frames": loss_of(vlm, stills, part.about_frames),
                "clips": loss_of(vlm, clips, part.about_clips),
            }
        _descend(sum(losses.values()), optimizer, cosine_rate(step, steps, RATE))
        progress.update(step + 1, **losses)
        if (step + 1) % CHECKPOINT_EVERY == 0:
            save_checkpoint(checkpoint, step + 1, {"model": model}, optimizer)


def train(out: Path, *, workdir: Path, seed: int = 0, sight_steps: int | None = None, steps: int | None = None) -> None:
    """Trains both stages and saves the folder `out`; goes on from the checkpoints in `workdir` after a stop."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    count, path, start = POOL[device], workdir / "clips.npy", workdir / "vlm"
    if not (start / "config.json").exists():
        build(start, sample_texts(), seed)
    clip_pool(path, count, TRAIN_SEED)
    vlm = concepts.Vlm(start, device="cpu")
    vlm.device = device
    vlm.model.to(device)
    with _several(device) as spread:
        known = {key: value.to(device) for key, value in all_sights(count, spread).items()}
        pool = torch.from_numpy(np.load(path, mmap_mode="c")).to(device)
        learn_to_see(vlm, pool, known, workdir, seed, SIGHT_STEPS[device] if sight_steps is None else sight_steps)
        learn_to_answer(vlm, pool, spread, workdir, seed, STEPS[device] if steps is None else steps)
    _publish(vlm, out)


@contextmanager
def _several(device: str) -> Iterator[Callable[..., Iterable]]:
    """`map`, and beside a GPU one that works ahead in other processes: what it would wait for is written there."""
    if device == "cpu":
        yield map
        return
    cores = len(os.sched_getaffinity(0))
    executor = ProcessPoolExecutor(max(1, min(12, cores - 2)), mp_context=multiprocessing.get_context("spawn"))
    try:
        yield executor.map
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _publish(vlm: concepts.Vlm, out: Path) -> None:
    """Weights in bfloat16 (they are opened in float32), processor beside them; replaces the folder as a whole."""
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    vlm.model.to("cpu", torch.bfloat16).save_pretrained(part)
    vlm.processor.save_pretrained(part)
    shutil.rmtree(out, ignore_errors=True)
    os.replace(part, out)


# --- quality --------------------------------------------------------------------------------------------------------


def evaluate(folder: Path, *, count: int = 300, seed: int = HELD_OUT_SEED) -> dict[str, float]:
    """Quality on held-out scenes, shares in 0..1 unless said otherwise.

    valid_json: answers of the right form, on images and clips. subject, scene, look, motion, exact: clips of which the
    words of that kind, or all words, are exactly right; image_...: images of the same scenes, in which nothing moves.
    verbatim: captions that hold all words before any is asked for again. distinct: different captions of one scene.
    """
    settings = ConceptSettings(attempts=1)
    vlm = concepts.Vlm(folder)
    drawn = scenes(count, seed)
    clips = [render(scene) for scene in drawn]
    stills = [scene.still() for scene in drawn]
    images = [render(still, num_frames=1) for still in stills]
    of_clips, of_images = (_read(vlm, media, settings) for media in (clips, images))
    result = {
        "valid_json": float(np.mean([found is not None for found in of_clips + of_images])),
        **_right(drawn, of_clips),
        **{f"image_{kind}": share for kind, share in _right(stills, of_images).items() if kind != "motion"},
    }
    written = [_write(vlm, clip, scene, settings) for scene, clip in list(zip(drawn, clips, strict=True))[:40]]
    return result | _means(written)


def _read(vlm: concepts.Vlm, media: list[np.ndarray], settings: ConceptSettings) -> list[concepts.Concepts | None]:
    kind = "image" if len(media[0]) == 1 else "video"
    answers = vlm.answer(media, concepts.CONCEPTS[kind], [None] * len(media), settings, FPS)
    return [concepts.parse_concepts(answer, kind) for answer in answers]


def _right(drawn: list[Scene], answers: list[concepts.Concepts | None]) -> dict[str, float]:
    """Shares of scenes of which the answer holds exactly the right words, kind by kind."""
    words = {"subject": SUBJECTS, "scene": SCENES, "look": STYLES + LIGHTS, "motion": MOTIONS}
    rows = []
    for scene, answer in zip(drawn, answers, strict=True):
        true, told = key_words(scene), {"temporal": [], **(answer or {})}
        asked, named = ({word for group in each.values() for word in group} for each in (true, told))
        right = {kind: named & set(group) == asked & set(group) for kind, group in words.items()}
        rows.append(right | {"exact": told == true})
    return _means(rows)


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def _write(vlm: concepts.Vlm, clip: np.ndarray, scene: Scene, settings: ConceptSettings) -> dict[str, float]:
    """12 captions of a clip and one of each frame, from the true words and without a second attempt."""
    settings = settings.model_copy(update={"captions": 12})
    found = concepts.extract(clip, "video", settings, vlm, fps=FPS, key_words=KeyWords(**key_words(scene)))
    counts = found["counts"]
    return {
        "verbatim": 1 - counts["template"] / counts["asked"],
        "distinct": len(set(found["captions"])) / len(found["captions"]),
    }
