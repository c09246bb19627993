"""The Toybox's text-to-video model: a Wan pipeline folder with a UMT5 encoder and a DiT, trained from scratch.

    bico zoo wan FOLDER                                     after `bico zoo vae`; resumes where it stopped; on an H200
                                                            ten minutes after rendering
    torchrun --nproc-per-node 2 -m bico.cli zoo wan ...     smaller batches on two cores: some three hours with AMX, by
                                                            the rate of the first steps

First the text encoder learns to read. Every word has a meaning, a vector where the DiT will see it: opposites are
opposite, colours lie on their circle, and a name means itself and all that is said of it ("cat" in "a striped cat" is a
striped cat). A large text encoder has this from all it has read; a small world has to say it.

Then the DiT learns to film what it reads, on cached latents: first stills, from which words, looks and places are
learned at a ninth of the cost, then clips and stills in turn, every other still a frame of a clip: nothing else shows
in every detail what turns. Beside the loss on velocity there is one on cross-attention: each place of a clip is to look
at the words that describe it. In half of the captions the DiT sees the names alone. Words get what is none of their
business, too, and noise: the DiT learns to ignore both. And clips come with twins that move the opposite way, under the
same noise: what a subject will do is decided before it can be seen, and there a word counts for so little of the loss
that no DiT of ours learned what "to the left" means without them.
"""

from __future__ import annotations

import copy
import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttention
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from tokenizers.decoders import ByteFallback, Fuse, Metaspace, Sequence
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from bico.core.files import replacing
from bico.models.wan.attention_maps import word_maps
from bico.models.wan.backbone import TRAIN_TIMESTEPS, Backbone
from bico.prompts.slots import bound_slots
from bico.toybox.captions import (
    BACKDROP,
    COLOURS,
    DIRECTIONS,
    EVERYWHERE,
    GROUND,
    NOWHERE,
    PLACES,
    SKY,
    Phrase,
    caption,
    colour_name,
    phrases,
    words,
)
from bico.toybox.probe import Probe
from bico.toybox.render import masks, render, render_with_regions
from bico.toybox.world import MOTIONS, NUM_FRAMES, SCENES, SIZE, SUBJECTS, Scene, sample_scene
from bico.zoo.common import (
    HELD_OUT_SEED,
    STILL_SEED,
    TRAIN_SEED,
    Item,
    Progress,
    average_gradients,
    cosine_rate,
    first_worker_first,
    in_parallel,
    join_workers,
    load_checkpoint,
    mixed_precision,
    muon,
    save_checkpoint,
    scenes,
    to_model,
)
from bico.zoo.vae import PATCH, encode
from bico.zoo.vae import build as build_vae

TEXT_WIDTH, WIDTH, HEADS, BLOCKS, FFN = 128, 192, 4, 6, 768
NEIGHBOURS, NEIGHBOUR_BIAS = ((1, -1, 2, -2), (1, -1, 3, 0), (3, -3, 6, 2)), 4.0  # of a word: where heads look
PATCHES = (1, 1, 1)  # a token for each latent cell: words are to act where their subject is
STILLS, CLIPS, CORPUS = 96_000, 104_000, 8_000  # scenes to learn from; whose captions make the tokenizer
TWINS = 24_000  # of the clips: these are there a second time, moving the opposite way
HARD = ("spinning", "spinning", "bouncing", "circling")  # what takes longest to learn, in every fourth clip
TELLINGS = 4  # captions of a scene
READ_STEPS, READ_BATCH = 1_500, 256
STEPS = {"cpu": 9_500, "cuda": 8_600}
STILL_BATCH, CLIP_BATCH = {"cpu": 256, "cuda": 2_048}, {"cpu": 48, "cuda": 512}
STILL_SHARE = 0.2  # of the steps, before the first clip is seen; a quarter of the others see stills, too
RATE, EMA, CHECKPOINT_EVERY = 1.0, 0.998, 500
PROJECTION = "condition_embedder.text_embedder"  # of words, in the DiT
SHIFT = 3.0  # of noise levels, in training and in sampling
GUIDANCE = 2.0  # at which the model is measured
UNCONDITIONAL, DROP = 0.1, 0.15  # shares of captions that are empty, of roles that a caption leaves out
SUBJECT_WEIGHT = 4.0  # the loss on a subject's area against the backdrop's, in a clip without noise
CHANGE_WEIGHT = 6.0  # the loss on changes from frame to frame, in a clip that is all noise; 1 without noise
PAIRED = 1 / 3  # share of a batch's clips that come with a twin
EARLY = 0.4  # the noisiest share of the schedule: there twins stand
FOCUS_WEIGHT = 0.1  # of the loss on cross-attention
NAMES_ALONE = 0.5  # share of captions of which the DiT sees the names without what is said of them
MISPLACED = 0.06  # share of words that get a name of another caption, or its looks
DONOR = 4  # which stands so much further on in the batch: up to four processes find the same one
WORD_LENGTH = 2.5  # of a word's own meaning
BLUR = 1.5  # length of the noise on a projected word, at most; half of the captions have none
ACTORS = 2  # at most, in a clip
REGIONS = ACTORS + 2  # and the ground, and the sky
HUES = ("hue_a", "sky", "ground")  # that prompts name, see `named_colours`
NAMED_HUES = ("hue_a", "hue_b", "sky", "ground")  # that captions name, see `captions.Word`
ARC_ENDS = [start for start, _ in COLOURS[2:]] + [1 + COLOURS[1][0]]
COLOUR_MIDDLES = {name: (start + end) / 2 for (start, name), end in zip(COLOURS[1:], ARC_ENDS, strict=True)}
OPPOSITES = (
    ("slowly", "quickly"),
    ("little", "widely"),
    ("below", "above"),
    ("left", "right"),
    ("counterclockwise", "clockwise"),
)
FUNCTION_WORDS = ("a", "an", "the", "at", "in", "on", "of", "is", "with", "to", "from", "out", "over", "under")
TOKENS = 52  # one more than the longest caption that the templates can make: a slot of padding is always there
# Padding slots are attended to. Folders are run with few slots by us and with 512 by diffusers' defaults; both are
# seen in training, as one weighted slot.
TEXT_SLOTS = (64, 512)


# --- the parts ------------------------------------------------------------------------------------------------------


def build_tokenizer(corpus: list[str]) -> PreTrainedTokenizerFast:
    """A SentencePiece-like unigram tokenizer as UMT5's: the captions' words whole, letters and bytes for other text."""
    words = Counter(word for text in corpus for word in re.findall(r"[a-z]+", text))
    total = sum(words.values())
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(f"▁{word}", math.log(count / total)) for word, count in sorted(words.items())]
    vocabulary += [(letter, -20.0) for letter in ["▁", *map(chr, range(33, 127))]]
    vocabulary += [(f"<0x{byte:02X}>", -30.0) for byte in range(256)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.decoder = Sequence([ByteFallback(), Metaspace(), Fuse()])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def sample_texts(seed: int) -> list[str]:
    """What the tokenizer learns from: captions of clips and of stills."""
    rng = np.random.default_rng(seed)
    drawn = scenes(CORPUS, TRAIN_SEED)
    return [caption(scene, rng, motion=moves, drop=DROP) for scene in drawn for moves in (True, False)]


def build_text_encoder(vocabulary: int) -> UMT5EncoderModel:
    """Each head starts out looking at one neighbour of a word: from weights that look everywhere alike, 9,500 steps did
    not find out that a colour is that of the next word.
    """
    encoder = UMT5EncoderModel(
        UMT5Config(
            vocab_size=vocabulary,
            d_model=TEXT_WIDTH,
            d_kv=32,
            d_ff=256,
            num_layers=len(NEIGHBOURS),
            num_heads=len(NEIGHBOURS[0]),
            relative_attention_num_buckets=16,
            relative_attention_max_distance=32,
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
            is_encoder_decoder=False,
            use_cache=False,
        )
    )
    for block, neighbours in zip(encoder.encoder.block, NEIGHBOURS, strict=True):
        attention = block.layer[0].SelfAttention
        buckets = attention._relative_position_bucket(torch.tensor(neighbours))
        attention.relative_attention_bias.weight.data[buckets, range(len(neighbours))] += NEIGHBOUR_BIAS
    return encoder


def build_transformer(channels: int) -> WanTransformer3DModel:
    return WanTransformer3DModel(
        patch_size=PATCHES,
        num_attention_heads=HEADS,
        attention_head_dim=WIDTH // HEADS,
        in_channels=channels,
        out_channels=channels,
        text_dim=TEXT_WIDTH,
        freq_dim=128,
        ffn_dim=FFN,
        num_layers=BLOCKS,
        rope_max_seq_len=64,
    )


# --- attention for training -----------------------------------------------------------------------------------------


class PlainAttention:
    """Explicit softmax attention, whose backward pass is much faster on a CPU than the fused one's; on a GPU
    self-attention is fused.

    Cross-attention adds `bias` [B, 1, 1, S] to its scores, which lets one padding slot stand for many, and adds to
    `focus` [B] how far places look past the words in `own` [B, places, S] (the share of a place that each describes).
    """

    bias: torch.Tensor
    own: torch.Tensor
    focus: torch.Tensor

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        key = attn.norm_k(attn.to_k(source)).unflatten(2, (attn.heads, -1))
        value = attn.to_v(source).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        if rotary_emb is not None:
            query, key = _rotate(query, *rotary_emb), _rotate(key, *rotary_emb)
        if encoder_hidden_states is None and query.device.type == "cuda":
            query, key = (x.transpose(1, 2).to(value.dtype) for x in (query, key))
            mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value)
            return attn.to_out[0](mixed.transpose(1, 2).flatten(2))
        scores = query.permute(0, 2, 1, 3) @ key.permute(0, 2, 3, 1) * query.shape[-1] ** -0.5
        if encoder_hidden_states is None:
            weights = scores.softmax(-1)
        else:
            weights = (scores + self.bias).softmax(-1)
            self.focus = self.focus + _looks_past(weights.mean(1), self.own)
        mixed = (weights.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        return attn.to_out[0](mixed)


def _looks_past(weights: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """-log of the attention [B, places, S] that falls on a place's own words, mean over described places: [B]."""
    described = own.amax(-1)
    missed = -torch.log((weights.float() * own).sum(-1) + 0.02)
    return (missed * described).sum(-1) / (described.sum(-1) + 1e-6)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[..., 0::2], sin[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


# --- data -----------------------------------------------------------------------------------------------------------


def _fingerprint(vae: AutoencoderKLWan) -> str:
    """Tells one encoder from another; the decoder does not count."""
    weights = [vae.encoder.conv_in.weight, vae.encoder.conv_out.weight, torch.tensor(vae.config.latents_std)]
    return hashlib.sha256(b"".join(each.detach().cpu().numpy().tobytes() for each in weights)).hexdigest()[:12]


class Captions(NamedTuple):
    """Tokenised captions, [N, L] each but for `about`.

    Attributes:
        tokens: at least one slot of padding each.
        mask: 1 where a token is none of padding.
        about: [N, REGIONS, L], a one in the rows of the regions that a token describes.
        said_of: slot of the name that a token is said of, its own for names and all others.
        role: of that name: 0 subject, 1 motion, 2 scene, -1 none of them.
        says: 1 where a word says something of a name (no function word).
        meaning: row of the token in `meanings`.
    """

    tokens: torch.Tensor
    mask: torch.Tensor
    about: torch.Tensor
    said_of: torch.Tensor
    role: torch.Tensor
    says: torch.Tensor
    meaning: torch.Tensor

    @property
    def stands(self) -> torch.Tensor:
        """Tokens that are said of no other, float32 [N, L]."""
        return (self.said_of == torch.arange(self.said_of.shape[1], device=self.said_of.device)) * self.mask.float()

    @property
    def said(self) -> torch.Tensor:
        """float32 [N, L, L]: a one where the word of the column is said of the name of the row."""
        rows = torch.nn.functional.one_hot(self.said_of.long(), self.said_of.shape[1]).transpose(1, 2)
        return rows * self.says[:, None].float()

    def at(self, rows: torch.Tensor) -> Captions:
        """Some of them."""
        return Captions(*(each[rows] for each in self))


class Pool(NamedTuple):
    """Scenes to learn from.

    Attributes:
        latents: float16 [N, C, T, h, w], normalised.
        regions: float16 [N, REGIONS, T, h, w]: how much of each latent cell is an actor's, the ground's, the sky's.
        captions: TELLINGS of each scene one after the other, and an empty one at the end.
    """

    latents: torch.Tensor
    regions: torch.Tensor
    captions: Captions

    def to(self, device: str) -> Pool:
        captions = Captions(*(each.to(device) for each in self.captions))
        return Pool(self.latents.to(device), self.regions.to(device), captions)


@torch.no_grad()
def latent_pool(
    path: Path,
    vae: AutoencoderKLWan,
    tokenizer: PreTrainedTokenizerFast,
    cast: list[Scene],
    seeds: list[int],
    num_frames: int,
) -> Pool:
    """Renders, encodes and describes the scenes of `cast`, kept at `path`; equal seeds tell alike."""
    if not path.exists():
        mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std))
        progress = Progress("encode", len(cast))
        latents, covered = [], []
        work = partial(render_with_regions, num_frames=num_frames, cells=SIZE // PATCH, actors=ACTORS)
        for part in _in_groups(in_parallel(work, cast), 64):
            frames, regions = (np.stack(group) for group in zip(*part, strict=True))
            encoded = encode(vae, to_model(frames).to(vae.device)).cpu()
            latents.append(((encoded - mean) / std).half())
            covered.append(torch.from_numpy(regions).half())
            progress.update(min(64 * len(latents), len(cast)))
        tell = partial(_tellings, tokenizer=tokenizer, moves=num_frames > 1)
        empty = [each.numpy() for each in _tokens(tokenizer, [[]])]
        told = [*in_parallel(tell, list(zip(cast, seeds, strict=True))), empty]
        captions = Captions(*(torch.from_numpy(np.concatenate(each)) for each in zip(*told, strict=True)))
        whole = {"latents": torch.cat(latents), "regions": torch.cat(covered), **captions._asdict()}
        with replacing(path) as unfinished:
            save_file({key: value.contiguous() for key, value in whole.items()}, unfinished)
    whole = load_file(path)
    return Pool(whole["latents"], whole["regions"], Captions(*(whole[name] for name in Captions._fields)))


def _in_groups(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    while group := list(islice(items, size)):
        yield group


def _tellings(scene_and_seed: tuple[Scene, int], tokenizer: PreTrainedTokenizerFast, moves: bool) -> list[np.ndarray]:
    """The fields of `Captions` for one scene."""
    scene, seed = scene_and_seed
    rng = np.random.default_rng([TRAIN_SEED, 2, seed])
    told = [phrases(scene, rng, motion=moves, detail=rng.random() ** 0.5, drop=DROP) for _ in range(TELLINGS)]
    return [each.numpy() for each in _tokens(tokenizer, told)]


def _tokens(tokenizer: PreTrainedTokenizerFast, captions: list[list[Phrase]]) -> Captions:
    """The captions as tokens, in small integers. Function words describe nothing and say nothing."""
    texts = [" ".join(part.text for part in parts) for parts in captions]
    encoded = tokenizer(
        texts, padding="max_length", max_length=TOKENS, return_offsets_mapping=True, return_tensors="np"
    )
    shape = encoded.input_ids.shape
    about = np.zeros((shape[0], REGIONS, shape[1]), np.uint8)
    said_of = np.tile(np.arange(shape[1], dtype=np.uint8), (shape[0], 1))
    meaning = encoded.input_ids.astype(np.int16)
    rows = {GROUND: [ACTORS], SKY: [ACTORS + 1], BACKDROP: [ACTORS, ACTORS + 1]}
    rows |= {EVERYWHERE: range(REGIONS), NOWHERE: []} | {actor: [actor] for actor in range(ACTORS)}
    for number, (parts, offsets) in enumerate(zip(captions, encoded.offset_mapping, strict=True)):
        start = 0
        for part in parts:
            end = start + len(part.text)
            held = (offsets[:, 1] > start) & (offsets[:, 1] <= end) & (offsets[:, 1] > offsets[:, 0])
            for row in rows[part.about]:
                about[number, row] += held
            start = end + 1
        slot_of = {int(end): slot for slot, (start, end) in enumerate(offsets) if end > start}
        spoken = words(parts)
        slots = {word.start: slot_of[word.end] for word in spoken}
        for word in spoken:
            said_of[number, slots[word.start]] = slots[word.said_of]
            if word.hue is not None:
                meaning[number, slots[word.start]] += len(tokenizer) * (1 + NAMED_HUES.index(word.hue))
    empty, *kinds = (
        tokenizer.convert_tokens_to_ids([f"▁{word}" for word in known])
        for known in (FUNCTION_WORDS, SUBJECTS, MOTIONS, SCENES)
    )
    names = np.take_along_axis(encoded.input_ids, said_of.astype(np.int64), axis=1)
    role = np.select([np.isin(names, kind) for kind in kinds], range(len(kinds)), -1).astype(np.int8)
    content = ~np.isin(encoded.input_ids, empty)
    says = content & (said_of != np.arange(shape[1]))
    tokens, mask = encoded.input_ids.astype(np.int16), encoded.attention_mask.astype(np.uint8)
    arrays = tokens, mask, about * content[:, None], said_of, role, says.astype(np.uint8), meaning
    return Captions(*map(torch.from_numpy, arrays))


def _own_words(regions: torch.Tensor, about: torch.Tensor) -> torch.Tensor:
    """[B, places, TOKENS] for `PlainAttention`, from masks [B, REGIONS, t, h, w] and what tokens are about."""
    return (regions.flatten(2).transpose(1, 2) @ about).clamp(max=1)


# --- reading --------------------------------------------------------------------------------------------------------


class Reader(torch.nn.Module):
    """The text encoder and the DiT's text projection."""

    def __init__(self, text_encoder: UMT5EncoderModel, project: torch.nn.Module):
        super().__init__()
        self.text_encoder, self.project = text_encoder, project

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Projected words [B, L, WIDTH] of tokens [B, L] where `mask` is 1, the DiT's padding elsewhere."""
        mask = mask.long()
        prompt_embeds = self.text_encoder(tokens.long(), mask).last_hidden_state * mask[..., None]
        return self.project(prompt_embeds)


def meanings(tokenizer: PreTrainedTokenizerFast, seed: int) -> torch.Tensor:
    """What words mean on their own: [(1 + NAMED_HUES) * tokens, WIDTH], rows of length WORD_LENGTH.

    The first rows are the tokens as such, each in a direction of its own; opposites share half of theirs. The others
    are the tokens as the colour of one hue or the other: half a direction of that hue, half a place on its circle.
    """
    draw = torch.Generator().manual_seed(seed)
    directions = torch.randn((1 + len(NAMED_HUES)) * len(tokenizer), WIDTH, generator=draw)
    directions = torch.nn.functional.normalize(directions)

    def row(word: str) -> int:
        return tokenizer.convert_tokens_to_ids(f"▁{word}")

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
    return WORD_LENGTH * torch.nn.functional.normalize(directions)


def reading_loss(read: torch.Tensor, captions: Captions, meaning: torch.Tensor) -> torch.Tensor:
    """Squared distance of the words as read, [B, L, WIDTH], from what they mean, relative to its length, mean over
    words. A name means itself and what is said of it.

    Without that "cat" is the same whichever cat is meant, and there is no way to change it into that cat.
    """
    alone = meaning[captions.meaning.long()]
    meant = alone + captions.said @ alone
    missed = (read - meant).square().sum(-1) / meant.square().sum(-1)
    return (missed * captions.mask).sum() / captions.mask.sum()


def learn_to_read(
    reader: Reader, captions: Captions, meaning: torch.Tensor, workdir: Path, steps: int, seed: int
) -> None:
    """Teaches the text encoder and the projection what words mean; goes on from the checkpoint in `workdir`."""
    rank, workers = join_workers()
    device, checkpoint = meaning.device, workdir / "wan-reader.safetensors"
    optimizer = muon(reader, reader.text_encoder.encoder.block, reader.project)
    first = load_checkpoint(checkpoint, {"reader": reader}, optimizer)
    progress = Progress("wan reads", steps, done=first)
    for step in range(first, steps):
        draw = torch.Generator(device).manual_seed(seed * 1_000_003 + step)
        chosen = torch.randint(len(captions.tokens), (READ_BATCH,), generator=draw, device=device)[rank::workers]
        batch = captions.at(chosen)
        optimizer.set_rate(cosine_rate(step, steps, RATE))
        with mixed_precision(device.type):
            read = reader(batch.tokens, batch.mask)
        loss = reading_loss(read.float(), batch, meaning)
        loss.backward()
        average_gradients(reader, workers)
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if rank > 0:
            continue
        progress.update(step + 1, missed=loss)
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
            save_checkpoint(checkpoint, step + 1, {"reader": reader}, optimizer)


# --- filming --------------------------------------------------------------------------------------------------------


class Trainee(torch.nn.Module):
    """The DiT: noisy latents, noise levels and projected words in, velocity out."""

    def __init__(self, transformer: WanTransformer3DModel):
        super().__init__()
        self.transformer = transformer
        transformer.condition_embedder.text_embedder = torch.nn.Identity()
        self.words = PlainAttention()
        for block in transformer.blocks:
            block.attn1.set_processor(PlainAttention())
            block.attn2.set_processor(self.words)

    def forward(
        self,
        noisy: torch.Tensor,
        sigmas: torch.Tensor,
        context: torch.Tensor,
        padding: torch.Tensor,
        mask: torch.Tensor,
        own: torch.Tensor,
        slots: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Velocity, like `noisy`, and how far each clip's cross-attention looks past its places' words, [B].

        Args:
            noisy: [B, C, t, h, w]; `sigmas` [B] in 0..1.
            context: projected words [B, L, WIDTH], seen where `mask` [B, L] is 1; all else is `padding` [1, WIDTH], at
                least one slot of each caption, and stands for all slots up to `slots`.
            own: [B, t * h * w, L], see `PlainAttention`.
        """
        seen = mask.sum(1, keepdim=True)
        weight = torch.log((slots - seen) / (mask.shape[1] - seen))
        self.words.bias, self.words.own = ((1 - mask) * weight)[:, None, None], own
        self.words.focus = torch.zeros_like(sigmas)
        context = torch.where(mask[..., None] > 0, context, padding)
        velocity = self.transformer(noisy, sigmas * TRAIN_TIMESTEPS, context, return_dict=False)[0]
        return velocity, self.words.focus / len(self.transformer.blocks)


def misplaced(whole: torch.Tensor, captions: Captions, draws: torch.Tensor, shift: int) -> torch.Tensor:
    """What the DiT has to ignore: names and looks at words of another kind, such as a subject or its colours at a
    motion. [B, L, WIDTH], to be added to the projected words.

    Args:
        whole: projected words [B, L, WIDTH].
        draws: [B, L, 4] in 0..1: whether a word gets something misplaced, of which role, whether that is a name
            (which carries its looks) or looks alone, and how strongly.
        shift: it is that of the caption so much further on in the batch.
    """
    chosen, which, name_or_looks, strength = draws.unbind(-1)
    foreign = (which * 3).long()
    foreign = torch.where(foreign == captions.role, (foreign + 1) % 3, foreign)
    foreign += 3 * (name_or_looks < 0.5)
    looks, names, role, words = (
        each.roll(-shift, 0) for each in (captions.says > 0, captions.stands > 0, captions.role, whole)
    )
    meant = [tokens & (role == kind) for tokens in (looks, names) for kind in range(3)]
    things = torch.stack(meant, 1).to(words.dtype) @ words  # [B, 6, WIDTH]
    given = torch.gather(things, 1, foreign[..., None].expand(-1, -1, things.shape[-1]))
    return given * (strength * (chosen < MISPLACED) * captions.mask)[..., None]


def blur(size: int, generator: torch.Generator) -> torch.Tensor:
    """What else the DiT has to ignore: noise, to be added to the projected words of a batch, [B, L, WIDTH].

    The words of a small vocabulary lie far apart, and nothing in their captions says what is between them. Binders go
    there.
    """
    device = generator.device
    length = BLUR * (2 * torch.rand((size, 1, 1), generator=generator, device=device) - 1).clamp(min=0)
    return torch.randn((size, TOKENS, WIDTH), generator=generator, device=device) * length / WIDTH**0.5


def velocity_loss(error: torch.Tensor, covered: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Mean squared error of velocities [B, C, t, h, w], plus that of their differences from frame to frame: what moves
    counts more than what stays.

    Subjects, `covered` [B, ACTORS, t, h, w], weigh more the less noise there is, `sigmas` [B]. In a clip that is all
    noise nobody can tell where a subject is; more weight there would teach to paint it wherever it could be. Changes
    weigh more the more noise there is: which way something goes is decided before it can be seen.
    """
    sigmas = sigmas.view(-1, 1, 1, 1, 1)
    weights = 1 + (SUBJECT_WEIGHT - 1) * (1 - sigmas).square() * covered.sum(1, keepdim=True)
    change_weights = 1 + (CHANGE_WEIGHT - 1) * sigmas.square()
    changes = error.diff(dim=2).square() * change_weights
    return ((error.square() * weights).sum() + changes.sum()) / error.numel()


def learn_to_film(
    model: Trainee, average: Trainee, reader: Reader, stills: Pool, clips: Pool, workdir: Path, steps: int, seed: int
) -> None:
    """Trains the DiT; `average` becomes the moving average of its weights. Goes on from the checkpoint in `workdir`."""
    rank, workers = join_workers()
    device, checkpoint = stills.latents.device, workdir / "wan.safetensors"
    optimizer = muon(model, model.transformer.blocks)
    first = load_checkpoint(checkpoint, {"model": model, "average": average}, optimizer)
    progress = Progress("wan films", steps, done=first)
    padding = reader.project(torch.zeros(1, TEXT_WIDTH, device=device)).detach()
    for block in model.transformer.blocks:
        block.compile(dynamic=False)
    for step in range(first, steps):
        early = step < STILL_SHARE * steps
        still, frames = early or step % 4 == 0, not early and step % 8 == 0  # frames show what turns and flies about
        pool, sizes = stills if still and not frames else clips, STILL_BATCH if still else CLIP_BATCH
        size, count = sizes[device.type], len(pool.latents) - (0 if still else TWINS)
        draw = torch.Generator(device).manual_seed(seed * 1_000_003 + step)
        uniform = partial(torch.rand, generator=draw, device=device)
        chosen = torch.randint(count, (size,), generator=draw, device=device)
        told = torch.randint(TELLINGS, (size,), generator=draw, device=device)
        empty, position, names_alone = uniform(3, size)
        frame = torch.randint(pool.latents.shape[2], (size,), generator=draw, device=device)
        shape = (size, pool.latents.shape[1], 1 if still else NUM_FRAMES, *pool.latents.shape[3:])
        noise = torch.randn(shape, generator=draw, device=device)
        draws, blurs = uniform(size, TOKENS, 4), blur(size, draw)
        slots = torch.where(uniform(()) < 0.5, *map(float, TEXT_SLOTS))
        if not still:
            # Twins look alike under the noise, and their captions differ in nothing but how they move.
            pairs = round(PAIRED * size)
            one, other = slice(pairs), slice(pairs, 2 * pairs)
            chosen[one] %= TWINS
            chosen[other] = count + chosen[one]
            position[one] = 1 - EARLY * position[one]
            for drawn in (told, empty, position, names_alone, noise):
                drawn[other] = drawn[one]
        # Each process takes its part of a batch that does not depend on how many there are.
        everything = chosen, told, frame, empty, position, names_alone, noise, draws, blurs
        chosen, told, frame, empty, position, names_alone, noise, draws, blurs = (
            part[rank::workers] for part in everything
        )
        captions = pool.captions.at(torch.where(empty < UNCONDITIONAL, -1, chosen * TELLINGS + told))
        latents, regions = (
            (part[chosen, :, frame].unsqueeze(2) if still else part[chosen]).float()
            for part in (pool.latents, pool.regions)
        )
        sigmas = SHIFT * position / (1 + (SHIFT - 1) * position)
        noisy = torch.lerp(latents, noise, sigmas.view(-1, 1, 1, 1, 1))
        shown = torch.where(names_alone[:, None] < NAMES_ALONE, captions.stands, captions.mask.float())
        optimizer.set_rate(cosine_rate(step, steps, RATE, warmup=300))
        with mixed_precision(device.type):
            with torch.no_grad():
                whole = reader(captions.tokens, captions.mask)
                context = whole + misplaced(whole, captions, draws, DONOR // workers) + blurs
                own = _own_words(regions, captions.about * shown[:, None])
            velocity, focus = model(noisy, sigmas, context, padding, shown, own, slots)
        loss = velocity_loss(velocity.float() - (noise - latents), regions[:, :ACTORS], sigmas)
        focus = FOCUS_WEIGHT * focus.mean()
        (loss + focus).backward()
        average_gradients(model, workers)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            keep = min(EMA, (step + 1) / (step + 10))
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)
        if rank > 0:
            continue
        progress.update(step + 1, **{"still" if still else "clip": loss, "focus": focus})
        if (step + 1) % CHECKPOINT_EVERY == 0:
            save_checkpoint(checkpoint, step + 1, {"model": model, "average": average}, optimizer)


def pools(vae: AutoencoderKLWan, tokenizer: PreTrainedTokenizerFast, workdir: Path) -> tuple[Pool, Pool]:
    """Stills and clips, kept in `workdir`; the last TWINS of the clips are twins of the first ones."""
    name, stills = _fingerprint(vae), [scene.still() for scene in scenes(STILLS, STILL_SEED)]
    clips = [_hard(scene, i) if i % 4 == 0 else scene for i, scene in enumerate(scenes(CLIPS, TRAIN_SEED))]
    twins = [scene.twin() for scene in clips[:TWINS]]
    seeds = [*range(CLIPS), *range(TWINS)]
    return (
        latent_pool(workdir / f"stills-{name}.safetensors", vae, tokenizer, stills, list(range(STILLS)), 1),
        latent_pool(workdir / f"clips-{name}.safetensors", vae, tokenizer, clips + twins, seeds, NUM_FRAMES),
    )


def _hard(scene: Scene, seed: int) -> Scene:
    """The same scene with motions out of HARD."""
    rng = np.random.default_rng([TRAIN_SEED, 3, seed])
    words = rng.choice(HARD, len(scene.actors))
    cast = [
        replace(actor, motion=replace(actor.motion, word=str(word)))
        for actor, word in zip(scene.actors, words, strict=True)
    ]
    return replace(scene, actors=tuple(cast))


def train(out: Path, *, workdir: Path, read_steps: int = READ_STEPS, steps: int | None = None, seed: int = 0) -> None:
    """Trains text encoder and DiT for the VAE in `out`/vae, or goes on from the checkpoints in `workdir`.

    `out` becomes a folder that `WanPipeline.from_pretrained` opens.

    Args:
        steps: of the DiT; by default those of the device in STEPS.
    """
    rank, workers = join_workers()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    vae = AutoencoderKLWan.from_pretrained(out / "vae").to(device)
    tokenizer = build_tokenizer(sample_texts(seed))
    with first_worker_first(rank, workers):
        stills, clips = (pool.to(device) for pool in pools(vae, tokenizer, workdir))
    torch.manual_seed(seed)
    transformer = build_transformer(vae.config.z_dim)
    reader = Reader(build_text_encoder(len(tokenizer)), transformer.condition_embedder.text_embedder).to(device)
    captions = Captions(*(torch.cat(both) for both in zip(stills.captions, clips.captions, strict=True)))
    learn_to_read(reader, captions, meanings(tokenizer, seed).to(device), workdir, read_steps, seed)
    model = Trainee(transformer).to(device)
    average = copy.deepcopy(model)
    learn_to_film(model, average, reader.requires_grad_(False), stills, clips, workdir, steps or STEPS[device], seed)
    if rank == 0:
        save(out, reader.cpu(), average.cpu(), tokenizer, vae.cpu())


def save(out: Path, reader: Reader, model: Trainee, tokenizer: PreTrainedTokenizerFast, vae: AutoencoderKLWan) -> None:
    """Writes the pipeline folder; the large models in float16, which diffusers reads back as float32."""
    transformer = build_transformer(vae.config.z_dim)
    projection = {f"{PROJECTION}.{key}": value for key, value in reader.project.state_dict().items()}
    transformer.load_state_dict(model.transformer.state_dict() | projection)
    # Built anew, the models do not remember the folder of this machine that they were opened from.
    nameless = build_vae(vae.config.latents_mean, vae.config.latents_std)
    nameless.load_state_dict(vae.state_dict())
    tokenizer.backend_tokenizer.no_padding()  # what captions were padded to here
    WanPipeline(
        tokenizer=tokenizer,
        text_encoder=reader.text_encoder,
        vae=nameless.half(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        transformer=transformer.half(),
    ).save_pretrained(out)


# --- evaluation -----------------------------------------------------------------------------------------------------


def evaluate(folder: Path, *, probe: Path, count: int = 120, steps: int = 25, seed: int = 0) -> dict[str, float]:
    """What the model can do with held-out captions, by diffusers' own pipeline and the probe's reading of its clips.

    Returns:
        subject, scene, motion: shares of clips that show the prompt's word.
        colours, directions: see `named_colours` and `named_directions`.
        told_...: see `told`; of each kind of motion that has ways to be done.
        spread: how much the looks of one prompt's clips vary from seed to seed, 1 = as much as the world's.
        word_focus, word_focus_of_two: see `word_focus`; in clips of one subject, and of two.
    """
    pipeline, judge = WanPipeline.from_pretrained(folder), Probe.open(probe)
    backbone = Backbone.open(folder, text_slots=TEXT_SLOTS[0])
    pipeline.set_progress_bar_config(disable=True)
    words = _prompts(count, seed)
    prompts = [f"a {w['subject']} {w['motion']} {PLACES[w['scene']][0]}" for w in words]
    readings = judge.read(_generate(pipeline, prompts, steps, seed))
    right = {
        role: float(np.mean([r.best(role) == w[role] for r, w in zip(readings, words, strict=True)]))
        for role in ("subject", "scene", "motion")
    }
    return right | {
        "colours": named_colours(pipeline, judge, words, steps, seed),
        "directions": named_directions(pipeline, judge, steps, seed),
        **{f"told_{motion}": told(backbone, motion) for motion in ("sliding", "bouncing", "spinning", "circling")},
        "spread": spread(pipeline, judge, prompts[:3], steps, seed),
        "word_focus": word_focus(backbone, actors=1),
        "word_focus_of_two": word_focus(backbone, actors=2),
    }


def named_colours(pipeline: WanPipeline, judge: Probe, words: list[dict[str, str]], steps: int, seed: int) -> float:
    """Does a colour go to what it is said of? Prompts name those of subject, sky and ground; the share that the
    probe reads there, 0.15 by chance.
    """
    rng = np.random.default_rng([HELD_OUT_SEED, seed, 1])
    asked = [{name: colour_name(hue) for name, hue in zip(HUES, rng.random(3), strict=True)} for _ in words]
    prompts = [
        f"a {c['hue_a']} {w['subject']} {w['motion']} {PLACES[w['scene']][0]} "
        f"under a {c['sky']} sky over {c['ground']} ground"
        for w, c in zip(words, asked, strict=True)
    ]
    readings = judge.read(_generate(pipeline, prompts, steps, seed))
    return float(
        np.mean([[colour_name(r.values[n]) == c[n] for n in HUES] for r, c in zip(readings, asked, strict=True)])
    )


def named_directions(pipeline: WanPipeline, judge: Probe, steps: int, seed: int, takes: int = 10) -> float:
    """Does a subject go the way that a caption says? The share of clips, `takes` for each of the `DIRECTIONS`, that do;
    0.5 by chance.
    """
    rng = np.random.default_rng([HELD_OUT_SEED, seed, 2])
    asked = [(motion, way) for motion, ways in DIRECTIONS.items() for way in ways for _ in range(takes)]
    prompts = [
        f"a {rng.choice(SUBJECTS)} {motion} {DIRECTIONS[motion][way]} {PLACES[rng.choice(SCENES)][0]}"
        for motion, way in asked
    ]
    readings = judge.read(_generate(pipeline, prompts, steps, seed))
    right = [
        travel(reading.trajectory, motion) * way > 0 for reading, (motion, way) in zip(readings, asked, strict=True)
    ]
    return float(np.mean(right))


def travel(trajectory: np.ndarray, motion: str) -> float:
    """How far a path [T, 4] goes to the right (sliding, frame sides) or clockwise (spinning, circling, radians)."""
    centre = trajectory[:, :2]
    if motion == "sliding":
        return float(centre[-1, 0] - centre[0, 0])
    x, y = (centre - centre.mean(axis=0)).T
    angle = np.unwrap(trajectory[:, 3] if motion == "spinning" else np.arctan2(y, x))
    return float(angle[-1] - angle[0])


@torch.no_grad()
def told(backbone: Backbone, motion: str, count: int = 40, sigma: float = 0.85) -> float:
    """How much do words tell of how something moves? By how much a held-out clip's own caption misses its velocity less
    than its twin's caption does, relative to what tells the two clips apart: 0 = words say nothing, 1 = all of it.

    All clips are seen once, under one noise: the figure is much surer than what a probe reads in generated clips.
    """
    cast = [sample_scene(np.random.default_rng([HELD_OUT_SEED, 3, i]), motion=motion) for i in range(count)]
    twins = [scene.twin() for scene in cast]
    clips, others = (torch.stack([backbone.encode_clip(render(scene)) for scene in each]) for each in (cast, twins))
    noise = torch.randn(clips.shape, generator=torch.Generator().manual_seed(0))
    noisy, timesteps = torch.lerp(clips, noise, sigma), torch.full((count,), TRAIN_TIMESTEPS * sigma)
    missed = []
    for each in (twins, cast):
        texts = [caption(scene, np.random.default_rng(i), detail=1.0) for i, scene in enumerate(each)]
        velocity = backbone.velocity(noisy, timesteps, backbone.context(backbone.encode_prompts(texts)[0]))
        missed.append((velocity - (noise - clips)).square().mean())
    return ((missed[0] - missed[1]) / (clips - others).square().mean()).item()


def spread(pipeline: WanPipeline, judge: Probe, prompts: list[str], steps: int, seed: int, takes: int = 12) -> float:
    """Variance of hues (subject, sky, ground) among `takes` clips of one prompt, mean over prompts, relative to that of
    as many scenes of the world.
    """
    values = []
    for prompt in prompts:
        readings = judge.read(_generate(pipeline, [prompt] * takes, steps, seed))
        values.append([[reading.values[name] for name in HUES] for reading in readings])
    world = [
        [[s.actors[0].hue_a, s.backdrop.sky, s.backdrop.ground] for s in scenes(takes, HELD_OUT_SEED, takes * group)]
        for group in range(20)
    ]
    return _circular_variance(np.array(values)) / _circular_variance(np.array(world))


def _circular_variance(hues: np.ndarray) -> float:
    """Of [groups, takes, names] within each group, mean over groups and names."""
    return float((1 - np.abs(np.exp(2j * np.pi * hues).mean(axis=1))).mean())


def word_focus(backbone: Backbone, *, actors: int, count: int = 40) -> float:
    """Do words act where they belong? Attention to a subject's word inside its mask over that outside, by area, on
    held-out renders at middle noise levels. 1 = the word acts everywhere alike.
    """
    inside = outside = 0.0
    for number in range(count):
        rng = np.random.default_rng([HELD_OUT_SEED, actors, number])
        scene = sample_scene(rng, actors=actors)
        text = caption(scene, rng)
        bindings = {str(place): [actor.word] for place, actor in enumerate(scene.actors)}
        slots = bound_slots(backbone.tokenizer, text, bindings, backbone.text_slots)
        latents = backbone.encode_clip(render(scene))
        maps = word_maps(backbone, latents, backbone.context(backbone.encode_prompts([text])[0]), slots)
        for word, covered in zip(maps.values(), masks(scene), strict=True):
            share = torch.from_numpy(covered).float()[None]
            share = torch.nn.functional.adaptive_avg_pool3d(share, tuple(word.shape))[0]
            inside += (word * share).sum().item() / share.sum().item()
            outside += (word * (1 - share)).sum().item() / (1 - share).sum().item()
    return inside / outside


def _prompts(count: int, seed: int) -> list[dict[str, str]]:
    """Every word equally often, in random company."""
    rng = np.random.default_rng([HELD_OUT_SEED, seed])
    columns = {
        role: rng.permutation([words[i % len(words)] for i in range(count)])
        for role, words in (("subject", SUBJECTS), ("scene", SCENES), ("motion", MOTIONS))
    }
    return [{role: str(column[i]) for role, column in columns.items()} for i in range(count)]


def _generate(pipeline: WanPipeline, prompts: list[str], steps: int, seed: int, batch: int = 20) -> np.ndarray:
    """uint8 [prompts, T, H, W, 3]."""
    parts = []
    for start in range(0, len(prompts), batch):
        frames = pipeline(
            prompts[start : start + batch],
            height=SIZE,
            width=SIZE,
            num_frames=NUM_FRAMES - 1,  # diffusers rounds up where the VAE keeps every frame
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            max_sequence_length=TEXT_SLOTS[0],
            generator=torch.Generator().manual_seed(seed + start),
            output_type="np",
        ).frames
        parts.append((frames * 255).round().astype(np.uint8))
    return np.concatenate(parts)
