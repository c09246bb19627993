"""The Toybox's text-to-video model: a Wan pipeline folder with a DiT and a UMT5 encoder trained together from scratch.

    bico zoo wan                                            after `bico zoo vae`; resumes where it stopped
    torchrun --nproc-per-node 2 -m bico.cli zoo wan ...     the same batches on two cores: some 4 hours with AMX

Trained on cached latents: first of stills, from which words, looks and places are learned at a ninth of the cost, then
of clips and stills in turn. Beside the loss on velocity there is one on cross-attention: each place of a clip is to
look at the words that describe it; one on the text encoder: the embedding of a word is to tell what the word is about;
and one on projected words: a name is to carry what is said of it, for in half of the captions the DiT sees the names
alone. Words get what is none of their business, too, and noise: the DiT learns to ignore both. And clips come with
twins that move the opposite way, under the same noise: what a subject will do is decided before it can be seen, and
there a word counts for so little of the loss that no DiT of ours learned what "to the left" means without them. Large
models come to all this by the variety of what they see and read; a small world has to say it.
"""

from __future__ import annotations

import copy
import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable
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

from bico.attention import word_maps
from bico.backbone import Backbone
from bico.files import replacing
from bico.prompts import bound_slots
from bico.toybox.captions import (
    BACKDROP,
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
from bico.toybox.render import ground_mask, masks, render
from bico.toybox.world import MOTIONS, NUM_FRAMES, SCENES, SIZE, SUBJECTS, Scene, sample_scene
from bico.toybox.zoo.common import (
    HELD_OUT_SEED,
    STILL_SEED,
    TRAIN_SEED,
    Progress,
    average_gradients,
    cosine_rate,
    first_worker_first,
    join_workers,
    load_checkpoint,
    mixed_precision,
    muon,
    save_checkpoint,
    scenes,
    to_model,
)
from bico.toybox.zoo.vae import PATCH, encode
from bico.toybox.zoo.vae import build as build_vae

TEXT_WIDTH, WIDTH, HEADS, BLOCKS, FFN = 128, 192, 4, 6, 768
NEIGHBOURS, NEIGHBOUR_BIAS = ((1, -1, 2, -2), (1, -1, 3, 0), (3, -3, 6, 2)), 4.0  # of a word: where heads look
PATCHES = (1, 1, 1)  # a token for each latent cell: words are to act where their subject is
STILLS, CLIPS, CORPUS = 48_000, 32_000, 8_000  # scenes to learn from; whose captions make the tokenizer
TWINS = 8_000  # of the clips: these are there a second time, moving the opposite way
STILL_BATCH, CLIP_BATCH = 256, 48
STILL_SHARE = 0.2  # of the steps, before the first clip is seen; a quarter of the others see stills, too
RATE, EMA, CHECKPOINT_EVERY = 1.0, 0.998, 200
SHIFT = 3.0  # of noise levels, in training and in sampling
GUIDANCE = 2.0  # at which the model is measured
UNCONDITIONAL, DROP = 0.1, 0.15  # shares of captions that are empty, of roles that a caption leaves out
SUBJECT_WEIGHT = 4.0  # the loss on a subject's area against the backdrop's, in a clip without noise
CHANGE_WEIGHT = 6.0  # the loss on changes from frame to frame, in a clip that is all noise; 1 without noise
PAIRS = 16  # clips of a batch that come with a twin
EARLY = 0.4  # the noisiest share of the schedule: there twins stand
FOCUS_WEIGHT, GRAMMAR_WEIGHT = 0.1, 0.3  # of the losses on cross-attention and on the text encoder
PHRASE_WEIGHT, LENGTH_WEIGHT = 0.3, 0.1  # and of those on projected words
NAMES_ALONE = 0.5  # share of captions of which the DiT sees the names without what is said of them
MISPLACED = 0.06  # share of words that get a name of another caption, or its looks
DONOR = 4  # which stands so much further on in the batch: up to four processes find the same one
WORD_LENGTH = 2.5  # of a projected word
BLUR = 1.5  # length of the noise on a projected word, at most; half of the captions have none
ACTORS = 2  # at most, in a clip
REGIONS = ACTORS + 2  # and the ground, and the sky
HUES = ("hue_a", "sky", "ground")  # that captions may name
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
    """Explicit softmax attention, whose backward pass is much faster on a CPU than the fused one's.

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


def _latent_masks(scene: Scene, num_frames: int) -> np.ndarray:
    """float32 [REGIONS, T, h, w]: the share of each latent cell that is an actor's, zero for one that is not there, the
    ground's and the sky's.
    """
    seen = np.zeros((REGIONS, num_frames, SIZE, SIZE), bool)
    seen[: len(scene.actors)] = masks(scene, num_frames)
    ground = ground_mask(scene.backdrop)
    seen[ACTORS:] = ~seen.any(axis=0) & np.stack([ground, ~ground])[:, None]
    cells = SIZE // PATCH
    return seen.reshape(REGIONS, num_frames, cells, PATCH, cells, PATCH).mean((3, 5), dtype=np.float32)


def _still_scenes(count: int, start: int = 0) -> list[Scene]:
    return [scene.still() for scene in scenes(count, STILL_SEED, start)]


def _clip_scenes(count: int, start: int = 0) -> list[Scene]:
    return scenes(count, TRAIN_SEED, start)


def _twin_scenes(count: int, start: int = 0) -> list[Scene]:
    return [scene.twin() for scene in _clip_scenes(count, start)]


def _fingerprint(vae: AutoencoderKLWan) -> str:
    """Tells one encoder from another; the decoder does not count."""
    weights = [vae.encoder.conv_in.weight, vae.encoder.conv_out.weight, torch.tensor(vae.config.latents_std)]
    return hashlib.sha256(b"".join(each.detach().numpy().tobytes() for each in weights)).hexdigest()[:12]


@torch.no_grad()
def latent_pool(
    path: Path, vae: AutoencoderKLWan, count: int, draw: Callable[[int, int], list[Scene]], num_frames: int
) -> dict[str, torch.Tensor]:
    """{"latents": float16 [N, C, T, h, w], normalised; "masks": float16 [N, REGIONS, T, h, w]} of what `draw` gives."""
    if not path.exists():
        mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std))
        progress = Progress("encode", count)
        latents, covered = [], []
        for start in range(0, count, 32):
            part = draw(32, start)
            clips = to_model(np.stack([render(scene, num_frames) for scene in part]))
            latents.append(((encode(vae, clips) - mean) / std).half())
            covered.append(torch.from_numpy(np.stack([_latent_masks(scene, num_frames) for scene in part])).half())
            progress.update(start + len(part))
        whole = {"latents": torch.cat(latents)[:count], "masks": torch.cat(covered)[:count]}
        with replacing(path) as unfinished:
            save_file({key: value.contiguous() for key, value in whole.items()}, unfinished)
    return load_file(path)


# --- training -------------------------------------------------------------------------------------------------------


class Captions(NamedTuple):
    """A batch of tokenised captions, [B, L] each but for `about`.

    Attributes:
        tokens: with their `mask`, at least one slot of padding each.
        about: float32 [B, REGIONS, L], a one in the rows of the regions that a token describes.
        said_of: slot of the name that a token is said of, its own for names and all others.
        role: of that name: 0 subject, 1 motion, 2 scene, -1 none of them.
        says: whether it is a word that says something of a name (no function word).
    """

    tokens: torch.Tensor
    mask: torch.Tensor
    about: torch.Tensor
    said_of: torch.Tensor
    role: torch.Tensor
    says: torch.Tensor

    @property
    def stands(self) -> torch.Tensor:
        """Tokens that are said of no other, float32 [B, L]."""
        return (self.said_of == torch.arange(self.said_of.shape[1], device=self.said_of.device)) * self.mask.float()

    @property
    def said(self) -> torch.Tensor:
        """float32 [B, L, L]: a one where the word of the column is said of the name of the row."""
        rows = torch.nn.functional.one_hot(self.said_of, self.said_of.shape[1]).transpose(1, 2)
        return rows * self.says[:, None].float()


class Trainee(torch.nn.Module):
    """DiT and text encoder as one module: noisy latents, noise levels and words in, velocity out.

    The DiT's text projection stands beside it here: what is asked of projected words is asked outside.
    """

    def __init__(self, transformer: WanTransformer3DModel, text_encoder: UMT5EncoderModel):
        super().__init__()
        self.transformer, self.text_encoder = transformer, text_encoder
        self.project = transformer.condition_embedder.text_embedder
        transformer.condition_embedder.text_embedder = torch.nn.Identity()
        self.grammar = torch.nn.Linear(TEXT_WIDTH, REGIONS)  # dropped after training
        self.words = PlainAttention()
        for block in transformer.blocks:
            block.attn1.set_processor(PlainAttention())
            block.attn2.set_processor(self.words)

    def read(self, tokens: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Projected words [B, L, WIDTH] of tokens [B, L], and logits of what each is about, [B, REGIONS, L]."""
        prompt_embeds = self.text_encoder(tokens, mask).last_hidden_state * mask[..., None]
        return self.project(prompt_embeds), self.grammar(prompt_embeds).transpose(1, 2)

    def forward(
        self,
        noisy: torch.Tensor,
        sigmas: torch.Tensor,
        context: torch.Tensor,
        mask: torch.Tensor,
        own: torch.Tensor,
        slots: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Velocity, like `noisy`, and how far each clip's cross-attention looks past its places' words, [B].

        Args:
            noisy: [B, C, t, h, w]; `sigmas` [B] in 0..1.
            context: projected words [B, L, WIDTH], seen where `mask` [B, L] is 1; all else is padding, at least one
                slot of each caption, and stands for all slots up to `slots`.
            own: [B, t * h * w, L], see `PlainAttention`.
        """
        seen = mask.sum(1, keepdim=True)
        weight = torch.log((slots - seen) / (mask.shape[1] - seen))
        self.words.bias, self.words.own = ((1 - mask) * weight)[:, None, None], own
        self.words.focus = torch.zeros_like(sigmas)
        padding = self.project(context.new_zeros(1, TEXT_WIDTH))
        context = torch.where(mask[..., None] > 0, context, padding)
        velocity = self.transformer(noisy, sigmas * 1000, context, return_dict=False)[0]
        return velocity, self.words.focus / len(self.transformer.blocks)


def _captions(cast: list[Scene], rng: np.random.Generator, motion: bool) -> list[list[Phrase]]:
    return [[] if rng.random() < UNCONDITIONAL else phrases(s, rng, motion=motion, drop=DROP) for s in cast]


def _tokens(tokenizer: PreTrainedTokenizerFast, captions: list[list[Phrase]]) -> Captions:
    """The captions as tokens. Function words describe nothing and say nothing."""
    texts = [" ".join(part.text for part in parts) for parts in captions]
    encoded = tokenizer(
        texts, padding="max_length", max_length=TOKENS, return_offsets_mapping=True, return_tensors="np"
    )
    shape = encoded.input_ids.shape
    about = np.zeros((shape[0], REGIONS, shape[1]), np.float32)
    said_of = np.tile(np.arange(shape[1]), (shape[0], 1))
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
    empty, *kinds = (
        tokenizer.convert_tokens_to_ids([f"▁{word}" for word in known])
        for known in (FUNCTION_WORDS, SUBJECTS, MOTIONS, SCENES)
    )
    names = np.take_along_axis(encoded.input_ids, said_of, axis=1)
    role = np.select([np.isin(names, kind) for kind in kinds], range(len(kinds)), -1)
    content = ~np.isin(encoded.input_ids, empty)
    says = content & (said_of != np.arange(shape[1]))
    arrays = encoded.input_ids, encoded.attention_mask, about * content[:, None], said_of, role, says
    return Captions(*map(torch.from_numpy, arrays))


def _own_words(regions: torch.Tensor, about: torch.Tensor) -> torch.Tensor:
    """[B, places, TOKENS] for `PlainAttention`, from masks [B, REGIONS, t, h, w] and what tokens are about."""
    return (regions.flatten(2).transpose(1, 2) @ about).clamp(max=1)


def grammar_loss(logits: torch.Tensor, about: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of what words are said to be about, [B, REGIONS, L], mean over the words in `mask` [B, L]. Whose
    colour is "green"? The word alone does not tell, so its embedding has to take up its neighbours.
    """
    missed = torch.nn.functional.binary_cross_entropy_with_logits(logits, about, reduction="none").mean(1)
    return (missed * mask).sum() / mask.sum()


def phrase_loss(whole: torch.Tensor, plain: torch.Tensor, captions: Captions) -> torch.Tensor:
    """A name is to carry what is said of it: its projected embedding in the `whole` caption, [B, L, WIDTH], is to be
    the sum of that in the caption without what is said of names, `plain`, and of the words that are said of it. All
    others are to stay as they are in `plain`. Squared error relative to the word's length, mean over words.

    Large text encoders have this from all they have read. Without it "cat" is the same whichever cat is meant, and
    there is no way to change it into that cat.
    """
    target = (plain + captions.said @ whole).detach()
    missed = (whole - target).square().sum(-1) / (target.square().sum(-1) + 1e-3)
    return (missed * captions.stands).sum() / captions.stands.sum()


def length_loss(whole: torch.Tensor, plain: torch.Tensor, captions: Captions) -> torch.Tensor:
    """Squared logarithm of how much longer or shorter than WORD_LENGTH a projected word is, where it stands alone.

    A binder changes all words by the same length: where "in" is twenty times as long as "forest", what hardly moves one
    turns the other around.
    """
    alone = torch.where(captions.stands[..., None] > 0, plain, whole)
    missed = torch.log(alone.norm(dim=-1).clamp(min=1e-3) / WORD_LENGTH).square()
    return (missed * captions.mask).sum() / captions.mask.sum()


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
        each.roll(-shift, 0) for each in (captions.says, captions.stands > 0, captions.role, whole)
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
    length = BLUR * (2 * torch.rand((size, 1, 1), generator=generator) - 1).clamp(min=0)
    return torch.randn((size, TOKENS, WIDTH), generator=generator) * length / WIDTH**0.5


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


def train(out: Path, *, workdir: Path, steps: int = 9_500, seed: int = 0) -> None:
    """Trains DiT and text encoder for the VAE in `out`/vae, or goes on from the checkpoint in `workdir`.

    `out` becomes a folder that `WanPipeline.from_pretrained` opens.
    """
    torch.manual_seed(seed)
    rank, workers = join_workers()
    vae = AutoencoderKLWan.from_pretrained(out / "vae")
    name = _fingerprint(vae)
    with first_worker_first(rank, workers):
        stills = latent_pool(workdir / f"stills-{name}.safetensors", vae, STILLS, _still_scenes, 1)
        clips = latent_pool(workdir / f"clips-{name}.safetensors", vae, CLIPS, _clip_scenes, NUM_FRAMES)
        twins = latent_pool(workdir / f"twins-{name}.safetensors", vae, TWINS, _twin_scenes, NUM_FRAMES)
    clips = {key: torch.cat([clips[key], twins[key]]) for key in clips}
    still_cast, clip_cast = _still_scenes(STILLS), _clip_scenes(CLIPS)
    clip_cast += [scene.twin() for scene in clip_cast[:TWINS]]
    corpus_rng = np.random.default_rng(seed)
    corpus = [caption(s, corpus_rng, motion=moves, drop=DROP) for s in _clip_scenes(CORPUS) for moves in (True, False)]
    tokenizer = build_tokenizer(corpus)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Trainee(build_transformer(vae.config.z_dim), build_text_encoder(len(tokenizer))).to(device)
    average = copy.deepcopy(model)
    optimizer = muon(model, model.transformer.blocks, model.text_encoder.encoder.block)
    checkpoint = workdir / "wan.safetensors"
    first = load_checkpoint(checkpoint, {"model": model, "average": average}, optimizer)
    progress = Progress("wan", steps, done=first)
    model.transformer.compile(dynamic=False)
    for step in range(first, steps):
        still = step < STILL_SHARE * steps or step % 4 == 0
        pool, cast, size = (stills, still_cast, STILL_BATCH) if still else (clips, clip_cast, CLIP_BATCH)
        rng = np.random.default_rng([seed, step])
        chosen = rng.choice(STILLS if still else CLIPS, size, replace=False)
        texts = _captions([cast[i] for i in chosen], rng, motion=not still)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        position = torch.rand(size, generator=generator)
        noise = torch.randn((size, *pool["latents"].shape[1:]), generator=generator)
        names_alone, draws = torch.rand(size, generator=generator), torch.rand((size, TOKENS, 4), generator=generator)
        blurs = blur(size, generator)
        if not still:
            # Twins look alike under the noise, and their captions differ in nothing but how they move.
            one, other = slice(PAIRS), slice(PAIRS, 2 * PAIRS)
            chosen[one] = rng.choice(TWINS, PAIRS, replace=False)
            chosen[other] = CLIPS + chosen[one]
            for twin in (one, other):
                texts[twin] = _captions(
                    [cast[i] for i in chosen[twin]], np.random.default_rng([seed, step, 1]), motion=True
                )
            position[one] = 1 - EARLY * position[one]
            for drawn in (position, noise, names_alone):
                drawn[other] = drawn[one]
        # Each process takes its part of a batch that does not depend on how many there are.
        everything = chosen, texts, position, noise, names_alone, draws, blurs
        chosen, texts, position, noise, names_alone, draws, blurs = (part[rank::workers] for part in everything)
        position, noise = position.to(device), noise.to(device)
        latents = pool["latents"][chosen].to(device, torch.float32)
        regions = pool["masks"][chosen].to(device, torch.float32)
        captions = Captions(*(each.to(device) for each in _tokens(tokenizer, texts)))
        sigmas = SHIFT * position / (1 + (SHIFT - 1) * position)
        noisy = torch.lerp(latents, noise, sigmas.view(-1, 1, 1, 1, 1))
        slots = torch.tensor(float(rng.choice(TEXT_SLOTS)), device=device)
        names_alone, draws = names_alone.to(device)[:, None], draws.to(device)
        shown = torch.where(names_alone < NAMES_ALONE, captions.stands, captions.mask.float())
        optimizer.set_rate(cosine_rate(step, steps, RATE, warmup=300))
        with mixed_precision(device):
            (whole, said), (plain, _) = (
                model.read(captions.tokens, mask) for mask in (captions.mask.float(), captions.stands)
            )
            context = whole + misplaced(whole, captions, draws, DONOR // workers).detach() + blurs.to(device)
            own = _own_words(regions, captions.about * shown[:, None])
            velocity, focus = model(noisy, sigmas, context, shown, own, slots)
        loss = velocity_loss(velocity.float() - (noise - latents), regions[:, :ACTORS], sigmas)
        parts = {
            "focus": FOCUS_WEIGHT * focus.mean(),
            "grammar": GRAMMAR_WEIGHT * grammar_loss(said.float(), captions.about, captions.mask),
            "phrase": PHRASE_WEIGHT * phrase_loss(whole.float(), plain.float(), captions),
            "length": LENGTH_WEIGHT * length_loss(whole.float(), plain.float(), captions),
        }
        (loss + sum(parts.values())).backward()
        average_gradients(model, workers)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            keep = min(EMA, (step + 1) / (step + 10))
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)
        if rank > 0:
            continue
        seen = {"still" if still else "clip": loss.item()}
        progress.update(step + 1, **seen, **{name: part.item() for name, part in parts.items()})
        if (step + 1) % CHECKPOINT_EVERY == 0:
            save_checkpoint(checkpoint, step + 1, {"model": model, "average": average}, optimizer)
    if rank == 0:
        save(out, average, tokenizer, vae)


def save(out: Path, model: Trainee, tokenizer: PreTrainedTokenizerFast, vae: AutoencoderKLWan) -> None:
    """Writes the pipeline folder; the large models in float16, which diffusers reads back as float32."""
    transformer = build_transformer(vae.config.z_dim)
    projection = {f"condition_embedder.text_embedder.{key}": value for key, value in model.project.state_dict().items()}
    transformer.load_state_dict(model.transformer.state_dict() | projection)
    # Built anew, the models do not remember the folder of this machine that they were opened from.
    nameless = build_vae(vae.config.latents_mean, vae.config.latents_std)
    nameless.load_state_dict(vae.state_dict())
    WanPipeline(
        tokenizer=tokenizer,
        text_encoder=model.text_encoder,
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
        spread: how much the looks of one prompt's clips vary from seed to seed, 1 = as much as the world's.
        word_focus, word_focus_of_two: see `word_focus`; in clips of one subject, and of two.
    """
    pipeline, judge = WanPipeline.from_pretrained(folder), Probe.open(probe)
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
        "spread": spread(pipeline, judge, prompts[:3], steps, seed),
        "word_focus": word_focus(folder, actors=1),
        "word_focus_of_two": word_focus(folder, actors=2),
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


def word_focus(folder: Path, *, actors: int, count: int = 40) -> float:
    """Do words act where they belong? Attention to a subject's word inside its mask over that outside, by area, on
    held-out renders at middle noise levels. 1 = the word acts everywhere alike.
    """
    backbone = Backbone.open(folder, text_slots=TEXT_SLOTS[0])
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
