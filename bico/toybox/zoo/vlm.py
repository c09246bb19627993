"""The Toybox's VLM: a Qwen2.5-VL of 2 M parameters, trained from scratch to answer the prompts of `bico.concepts`.

    bico zoo vlm            about half an hour on one core

First its vision tower learns to see: what covers each patch, how that is turned and how it moves on in the next frame,
and the words of the whole frame. Without this stage it takes many times as long to tell subjects apart. Then the whole
model learns two things: to name concepts as JSON, from a frame or a clip, and to write a caption that holds the words
of a given JSON. Now and then those words are invented ones, so that it learns to copy any word.

The fixed instructions of `bico.concepts` are single tokens of its vocabulary: they cost next to nothing, and an edited
instruction needs a new training (a test says so).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from functools import cache, partial
from pathlib import Path

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
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

from bico import concepts
from bico.config import ConceptSettings, KeyWords
from bico.toybox.captions import caption, key_words
from bico.toybox.render import masks, render, trajectory
from bico.toybox.world import FPS, LIGHTS, MOTIONS, NUM_FRAMES, SCENES, SIZE, STYLES, SUBJECTS, Scene
from bico.toybox.zoo.common import (
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

POOL, RATE, CHECKPOINT_EVERY = 20_000, 1.0, 250
SIGHT_STEPS, SIGHT_BATCH = 10_000, 64
STEPS, BATCH = 1_500, 32
SIGHT_KEPT = 0.7  # share of the second stage in which the vision tower stays as it is
CAPTION_SHARE, INVENTED_SHARE = 0.4, 0.12
PATCH, MERGE = 8, 2
GRID = SIZE // PATCH
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
            "hidden_size": 128,
            "intermediate_size": 320,
            "num_heads": 4,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "window_size": SIZE,
            "fullatt_block_indexes": [0, 1, 2, 3],
            "out_hidden_size": 160,
            "rope_parameters": {"rope_type": "axial", "rope_theta": 100.0},  # a grid of 6 x 6 needs no slow waves
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


def quicken(visual: nn.Module) -> None:
    """The same arithmetic of a vision tower, twice as fast on a CPU, for pictures that are all of one size:
    attention of all pictures at once, and a product with the patches instead of a convolution over each of them.
    """
    visual.patch_embed.forward = partial(_embedded, visual.patch_embed)
    for block in visual.blocks:
        block.attn.forward = partial(_attend, block.attn)


def _embedded(embed: nn.Module, patches: torch.Tensor) -> torch.Tensor:
    """[patches, values] to [patches, width]."""
    return F.linear(patches, embed.proj.weight.flatten(1))


def _attend(attn: nn.Module, hidden_states: torch.Tensor, cu_seqlens: torch.Tensor, position_embeddings, **_):
    """Attention inside each picture, [pictures * patches, width] to the same shape."""
    pictures = len(cu_seqlens) - 1
    query, key, value = attn.qkv(hidden_states).unflatten(1, (3, attn.num_heads, -1)).unbind(1)
    query, key = apply_rotary_pos_emb_vision(query, key, *position_embeddings)
    query, key, value = (x.unflatten(0, (pictures, -1)).transpose(1, 2) for x in (query, key, value))
    weights = (query @ key.transpose(2, 3) * attn.scaling).softmax(-1)
    return attn.proj((weights.to(value.dtype) @ value).transpose(1, 2).flatten(0, 1).flatten(1))


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
    """What `Sight` has to read in each frame, patches in the order of the vision tower (2 x 2 blocks)."""

    def blocks(grid: np.ndarray) -> np.ndarray:
        cells = grid.reshape(NUM_FRAMES, GRID // MERGE, MERGE, GRID // MERGE, MERGE, -1)
        return cells.swapaxes(2, 3).reshape(NUM_FRAMES, GRID**2, -1)

    subjects, motions = np.zeros((2, NUM_FRAMES, GRID, GRID), np.int64)
    values = np.zeros((NUM_FRAMES, GRID, GRID, Sight.PARTS[2]), np.float32)
    for actor, mask, known in zip(scene.actors, masks(scene, size=GRID), facts(scene), strict=True):
        subjects[mask] = 1 + SUBJECTS.index(actor.word)
        motions[mask] = 1 + MOTIONS.index(actor.motion.word)
        values = np.where(mask[..., None], known[:, None, None], values)
    present = np.float32([word in key_words(scene)["spatial"] for word in WORDS])
    seen = {"subjects": blocks(subjects)[..., 0], "motions": blocks(motions)[..., 0], "facts": blocks(values)}
    return {"words": present, **seen}


def _at(known: dict[str, np.ndarray], frame: int, move: int) -> dict[str, np.ndarray]:
    """What there is to read in one frame; without a next frame (an image) nothing moves."""
    now = {key: value if key == "words" else value[frame].copy() for key, value in known.items()}
    if not move:
        now["motions"][:] = 0
        now["facts"][:, 5:10] = now["facts"][:, :5]
    return now


def sight_loss(vlm: concepts.Vlm, head: Sight, pairs: list[np.ndarray], seen: list[dict]) -> dict[str, torch.Tensor]:
    """Losses of what is read from pairs of frames, uint8 [2, H, W, 3] each."""
    inputs = vlm.processor.video_processor(pairs, return_tensors="pt")
    tokens = vlm.model.model.visual(inputs["pixel_values_videos"], grid_thw=inputs["video_grid_thw"]).pooler_output
    words, subjects, motions, values = head(tokens.unflatten(0, (len(pairs), -1)))
    truth = {key: torch.from_numpy(np.stack([entry[key] for entry in seen])) for key in seen[0]}
    covered = truth["subjects"] > 0
    weight = torch.tensor([0.3] + [1.0] * len(SUBJECTS))  # most patches are background
    return {
        "words": 5 * F.binary_cross_entropy_with_logits(words, truth["words"]),
        "subjects": 2 * F.cross_entropy(subjects.flatten(0, 1), truth["subjects"].flatten(), weight),
        "motions": F.cross_entropy(motions[covered], truth["motions"][covered]),
        "facts": F.mse_loss(values[covered], truth["facts"][covered]),
    }


def learn_to_see(vlm: concepts.Vlm, pool: np.ndarray, drawn: list[Scene], workdir: Path, seed: int, steps: int) -> None:
    """The first stage: half of the pairs are one frame twice (an image), half are a frame and the next one (a clip)."""
    torch.manual_seed(seed)
    visual = vlm.model.model.visual.train()
    head = Sight(vlm.model.config.vision_config.out_hidden_size)
    known = cache(lambda index: sights(drawn[index]))
    modules = nn.ModuleDict({"visual": visual, "head": head})
    optimizer, checkpoint = muon(modules, visual.blocks), workdir / "vlm-sight.safetensors"
    first = load_checkpoint(checkpoint, modules, optimizer)
    progress = Progress("vlm sight", steps, first)
    for step, indices, rng in batches(len(pool), min(SIGHT_BATCH, len(pool)), range(first, steps), seed):
        starts, moves = rng.integers(NUM_FRAMES - 1, size=len(indices)), rng.integers(2, size=len(indices))
        pairs = [pool[i, [frame, frame + move]] for i, frame, move in zip(indices, starts, moves, strict=True)]
        seen = [_at(known(i), frame, move) for i, frame, move in zip(indices, starts, moves, strict=True)]
        with mixed_precision("cpu"):
            losses = sight_loss(vlm, head, pairs, seen)
        _descend(sum(losses.values()), optimizer, cosine_rate(step, steps, RATE))
        progress.update(step + 1, **{name: loss.item() for name, loss in losses.items()})
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
            save_checkpoint(checkpoint, step + 1, modules, optimizer)


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


def loss_of(vlm: concepts.Vlm, media: list[np.ndarray], dialogues: list[tuple[str, str]]) -> torch.Tensor:
    """Mean next-token loss (nats) over the answers to (prompt, answer) dialogues about `media`."""
    still = len(media[0]) == 1
    texts = [vlm.chat(prompt, still=still) + answer + "<|im_end|>" for prompt, answer in dialogues]
    inputs = vlm.inputs(media, texts, FPS)
    ids = inputs["input_ids"]
    turn = ids == vlm.processor.tokenizer.convert_tokens_to_ids("<|im_start|>")
    labels = ids.masked_fill(turn.cumsum(1) < 2, -100)
    return vlm.model(**inputs, labels=labels, use_cache=False).loss


def learn_to_answer(vlm: concepts.Vlm, pool: np.ndarray, drawn: list[Scene], workdir: Path, seed: int, steps: int):
    """The second stage: the whole model; every batch is half frames, half clips. The vision tower joins in late."""
    model = vlm.model.train()
    inside = model.model.visual.blocks, model.model.language_model.layers
    optimizer, checkpoint = muon(model, *inside), workdir / "vlm.safetensors"
    first = load_checkpoint(checkpoint, {"model": model}, optimizer)
    progress = Progress("vlm", steps, first)
    for step, indices, rng in batches(len(pool), min(BATCH, len(pool)), range(first, steps), seed + 1):
        model.model.visual.requires_grad_(step >= SIGHT_KEPT * steps)
        frames, clips = rng.permutation(indices).reshape(2, -1)
        stills = [pool[i, rng.integers(NUM_FRAMES)][None] for i in frames]
        about = [example(drawn[i], rng, moving=False) for i in frames]
        about_clips = [example(drawn[i], rng, moving=True) for i in clips]
        with mixed_precision("cpu"):
            losses = {
                "frames": loss_of(vlm, stills, about),
                "clips": loss_of(vlm, [pool[i] for i in clips], about_clips),
            }
        _descend(sum(losses.values()), optimizer, cosine_rate(step, steps, RATE))
        progress.update(step + 1, **{name: loss.item() for name, loss in losses.items()})
        if (step + 1) % CHECKPOINT_EVERY == 0:
            save_checkpoint(checkpoint, step + 1, {"model": model}, optimizer)


def train(out: Path, *, workdir: Path, seed: int = 0, sight_steps: int = SIGHT_STEPS, steps: int = STEPS) -> None:
    """Trains both stages and saves the folder `out`; goes on from the checkpoints in `workdir` after a stop."""
    pool, drawn = clip_pool(workdir / "clips.npy", POOL, TRAIN_SEED), scenes(POOL, TRAIN_SEED)
    start = workdir / "vlm"
    if not (start / "config.json").exists():
        build(start, sample_texts(), seed)
    vlm = concepts.Vlm(start, device="cpu")
    quicken(vlm.model.model.visual)
    learn_to_see(vlm, pool, drawn, workdir, seed, sight_steps)
    learn_to_answer(vlm, pool, drawn, workdir, seed, steps)
    _publish(vlm, out)


def _publish(vlm: concepts.Vlm, out: Path) -> None:
    """Weights in bfloat16 (they are opened in float32), processor beside them; replaces the folder as a whole."""
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    vlm.model.to(torch.bfloat16).save_pretrained(part)
    vlm.processor.save_pretrained(part)
    shutil.rmtree(out, ignore_errors=True)
    os.replace(part, out)


# --- quality --------------------------------------------------------------------------------------------------------


def evaluate(folder: Path, *, count: int = 300, seed: int = HELD_OUT_SEED) -> dict[str, float]:
    """Quality on held-out scenes, shares in 0..1 unless said otherwise.

    valid_json: answers of the right form, on frames and clips. subject, scene, look, motion: scenes whose words of that
    kind are exactly right (motion on clips, the others on frames). exact: all words of a clip right.
    verbatim: captions that hold all words before any is asked for again. distinct: different captions of one scene.
    """
    settings = ConceptSettings(attempts=1)
    vlm = concepts.Vlm(folder)
    drawn = scenes(count, seed)
    clips = [render(scene) for scene in drawn]
    answers = {"image": _read(vlm, [clip[:1] for clip in clips], settings), "video": _read(vlm, clips, settings)}
    right = [_right(scene, image, video) for scene, image, video in zip(drawn, *answers.values(), strict=True)]
    result = {
        "valid_json": float(np.mean([found is not None for group in answers.values() for found in group])),
        **{key: float(np.mean([row[key] for row in right])) for key in right[0]},
    }
    written = [_write(vlm, clip, scene, settings) for scene, clip in list(zip(drawn, clips, strict=True))[:40]]
    return result | {key: float(np.mean([row[key] for row in written])) for key in written[0]}


def _read(vlm: concepts.Vlm, media: list[np.ndarray], settings: ConceptSettings) -> list[concepts.Concepts | None]:
    kind = "image" if len(media[0]) == 1 else "video"
    answers = vlm.answer(media, concepts.CONCEPTS[kind], [None] * len(media), settings, FPS)
    return [concepts.parse_concepts(answer, kind) for answer in answers]


def _right(scene: Scene, image: concepts.Concepts | None, video: concepts.Concepts | None) -> dict[str, bool]:
    truth = key_words(scene)
    seen, moved = set((image or {}).get("spatial", [])), set((video or {}).get("temporal", []))
    words = {"subject": SUBJECTS, "scene": SCENES, "look": STYLES + LIGHTS}
    right = {name: seen & set(group) == set(truth["spatial"]) & set(group) for name, group in words.items()}
    return right | {"motion": moved == set(truth["temporal"]), "exact": video == truth}


def _write(vlm: concepts.Vlm, clip: np.ndarray, scene: Scene, settings: ConceptSettings) -> dict[str, float]:
    """12 captions of a clip and one of each frame, from the true words and without a second attempt."""
    settings = settings.model_copy(update={"captions": 12})
    found = concepts.extract(clip, "video", settings, vlm, fps=FPS, key_words=KeyWords(**key_words(scene)))
    counts = found["counts"]
    return {
        "verbatim": 1 - counts["template"] / counts["asked"],
        "distinct": len(set(found["captions"])) / len(found["captions"]),
    }
