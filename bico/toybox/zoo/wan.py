"""The Toybox's text-to-video model: a Wan pipeline folder with a DiT and a UMT5 encoder trained together from scratch.

    bico zoo wan            after `bico zoo vae`; resumes where it stopped

Trained on cached latents of rendered clips, a quarter of the steps on single frames: each latent frame of a clip is the
latent of its frame as an image, so images cost nothing more to prepare.
"""

from __future__ import annotations

import copy
import hashlib
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttention
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from tokenizers.decoders import ByteFallback, Fuse, Metaspace, Sequence
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from bico.files import replacing
from bico.toybox.captions import PLACES, caption
from bico.toybox.probe import Probe
from bico.toybox.render import masks, render
from bico.toybox.world import MOTIONS, NUM_FRAMES, SCENES, SIZE, SUBJECTS, Scene
from bico.toybox.zoo.common import (
    HELD_OUT_SEED,
    TRAIN_SEED,
    Progress,
    batches,
    cosine_rate,
    load_checkpoint,
    save_checkpoint,
    scenes,
    to_model,
)
from bico.toybox.zoo.vae import PATCH, encode
from bico.toybox.zoo.vae import build as build_vae

TEXT_WIDTH, WIDTH, HEADS, BLOCKS, FFN = 128, 192, 4, 6, 768
CLIPS, BATCH, RATE, EMA = 16_000, 32, 1e-3, 0.998
SHIFT = 3.0  # of noise levels, in training and in sampling
UNCONDITIONAL, DROP = 0.1, 0.12  # shares of captions that are empty, of roles that a caption leaves out
SUBJECT_WEIGHT = 4.0  # the loss on a subject's area against the backdrop's
TOKENS = 36  # one more than the longest caption that the templates can make: a slot of padding is always there
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
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=vocabulary,
            d_model=TEXT_WIDTH,
            d_kv=32,
            d_ff=256,
            num_layers=2,
            num_heads=4,
            relative_attention_num_buckets=16,
            relative_attention_max_distance=32,
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
            is_encoder_decoder=False,
            use_cache=False,
        )
    )


def build_transformer(channels: int) -> WanTransformer3DModel:
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
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

    `bias` [B, 1, 1, S] is added to the scores of cross-attention: it lets one padding slot stand for many.
    """

    def __init__(self, bias: torch.Tensor | None = None):
        self.bias = bias

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
        if encoder_hidden_states is not None:
            scores = scores + self.bias
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        return attn.to_out[0](mixed)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[..., 0::2], sin[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


# --- data -----------------------------------------------------------------------------------------------------------


def _latent_masks(scene: Scene) -> np.ndarray:
    """float32 [T, h, w]: the share of each latent cell that a subject covers."""
    covered = masks(scene).any(0).astype(np.float32)
    cells = SIZE // PATCH
    return covered.reshape(NUM_FRAMES, cells, PATCH, cells, PATCH).mean((2, 4))


def _fingerprint(vae: AutoencoderKLWan) -> str:
    """Tells one encoder from another; the decoder does not count."""
    weights = [vae.encoder.conv_in.weight, vae.encoder.conv_out.weight, torch.tensor(vae.config.latents_std)]
    return hashlib.sha256(b"".join(each.detach().numpy().tobytes() for each in weights)).hexdigest()[:12]


@torch.no_grad()
def latent_pool(path: Path, vae: AutoencoderKLWan, count: int) -> dict[str, torch.Tensor]:
    """{"latents": float16 [N, C, T, h, w], normalised; "masks": float16 [N, T, h, w]} of the training scenes."""
    if not path.exists():
        mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std))
        progress = Progress("encode", count)
        latents, covered = [], []
        for start in range(0, count, 32):
            part = scenes(32, TRAIN_SEED, start)
            clips = to_model(np.stack([render(scene) for scene in part]))
            latents.append(((encode(vae, clips) - mean) / std).half())
            covered.append(torch.from_numpy(np.stack([_latent_masks(scene) for scene in part])).half())
            progress.update(start + len(part))
        whole = {"latents": torch.cat(latents)[:count], "masks": torch.cat(covered)[:count]}
        with replacing(path) as unfinished:
            save_file({key: value.contiguous() for key, value in whole.items()}, unfinished)
    return load_file(path)


# --- training -------------------------------------------------------------------------------------------------------


class Trainee(torch.nn.Module):
    """DiT and text encoder as one module: noisy latents, noise levels and tokens in, velocity out."""

    def __init__(self, transformer: WanTransformer3DModel, text_encoder: UMT5EncoderModel):
        super().__init__()
        self.transformer, self.text_encoder = transformer, text_encoder
        self.words = PlainAttention()
        for block in transformer.blocks:
            block.attn1.set_processor(PlainAttention())
            block.attn2.set_processor(self.words)

    def forward(
        self, noisy: torch.Tensor, sigmas: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor, slots: torch.Tensor
    ) -> torch.Tensor:
        """noisy [B, C, t, h, w]; sigmas [B] in 0..1; tokens and mask [B, L], at least one slot of padding each."""
        prompt_embeds = self.text_encoder(tokens, mask).last_hidden_state * mask[..., None]
        padding = mask.shape[1] - mask.sum(1, keepdim=True)
        weight = torch.log((slots - mask.sum(1, keepdim=True)) / padding)
        self.words.bias = ((1 - mask) * weight)[:, None, None]
        return self.transformer(noisy, sigmas * 1000, prompt_embeds, return_dict=False)[0]


def _captions(cast: list[Scene], rng: np.random.Generator, motion: bool) -> list[str]:
    return ["" if rng.random() < UNCONDITIONAL else caption(s, rng, motion=motion, drop=DROP) for s in cast]


def train(out: Path, *, workdir: Path, steps: int = 4_000, seed: int = 0) -> None:
    """Trains DiT and text encoder for the VAE in `out`/vae, or goes on from the checkpoint in `workdir`.

    `out` becomes a folder that `WanPipeline.from_pretrained` opens.
    """
    torch.manual_seed(seed)
    vae = AutoencoderKLWan.from_pretrained(out / "vae")
    pool = latent_pool(workdir / f"latents-{_fingerprint(vae)}.safetensors", vae, CLIPS)
    cast = scenes(CLIPS, TRAIN_SEED)
    corpus_rng = np.random.default_rng(seed)
    tokenizer = build_tokenizer([caption(scene, corpus_rng, drop=DROP) for scene in cast[:8000]])
    model = Trainee(build_transformer(vae.config.z_dim), build_text_encoder(len(tokenizer)))
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    checkpoint = workdir / "wan.safetensors"
    first = load_checkpoint(checkpoint, {"model": model, "average": average}, optimizer)
    progress = Progress("wan", steps, done=first)
    model.transformer.compile(dynamic=False)
    for step, chosen, rng in batches(CLIPS, BATCH, range(first, steps), seed):
        still = step % 4 == 3
        frames = slice(0, 1 if still else None)
        latents = pool["latents"][chosen][:, :, frames].float()
        weights = 1 + (SUBJECT_WEIGHT - 1) * pool["masks"][chosen][:, None, frames].float()
        texts = _captions([cast[i] for i in chosen], rng, motion=not still)
        tokens = tokenizer(texts, padding="max_length", max_length=TOKENS, return_tensors="pt")
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        position = torch.rand(BATCH, generator=generator)
        sigmas = SHIFT * position / (1 + (SHIFT - 1) * position)
        noise = torch.randn(latents.shape, generator=generator)
        noisy = torch.lerp(latents, noise, sigmas.view(-1, 1, 1, 1, 1))
        slots = torch.tensor(float(rng.choice(TEXT_SLOTS)))
        optimizer.param_groups[0]["lr"] = cosine_rate(step, steps, RATE, warmup=300)
        velocity = model(noisy, sigmas, tokens.input_ids, tokens.attention_mask.float(), slots)
        loss = ((velocity - (noise - latents)).square() * weights).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            keep = min(EMA, (step + 1) / (step + 10))
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)
        progress.update(step + 1, **{"still" if still else "loss": loss.item()})
        if (step + 1) % 500 == 0:
            save_checkpoint(checkpoint, step + 1, {"model": model, "average": average}, optimizer)
    save(out, average, tokenizer, vae)


def save(out: Path, model: Trainee, tokenizer: PreTrainedTokenizerFast, vae: AutoencoderKLWan) -> None:
    """Writes the pipeline folder; the large models in float16, which diffusers reads back as float32."""
    transformer = build_transformer(vae.config.z_dim)
    transformer.load_state_dict(model.transformer.state_dict())
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


def evaluate(folder: Path, *, probe: Path, count: int = 60, steps: int = 25, seed: int = 0) -> dict[str, float]:
    """Generates clips of held-out captions by diffusers' own pipeline and lets the probe read them.

    Returns the share of clips in which subject, scene and motion are read as the prompt says.
    """
    words = _prompts(count, seed)
    pipeline = WanPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    clips = np.concatenate([_generate(pipeline, words[i : i + 20], steps, seed + i) for i in range(0, count, 20)])
    readings = Probe.open(probe).read(clips)
    roles = ("subject", "scene", "motion")
    return {
        role: float(np.mean([r.best(role) == w[role] for r, w in zip(readings, words, strict=True)])) for role in roles
    }


def _prompts(count: int, seed: int) -> list[dict[str, str]]:
    """Every word equally often, in random company."""
    rng = np.random.default_rng([HELD_OUT_SEED, seed])
    columns = {
        role: rng.permutation([words[i % len(words)] for i in range(count)])
        for role, words in (("subject", SUBJECTS), ("scene", SCENES), ("motion", MOTIONS))
    }
    return [{role: str(column[i]) for role, column in columns.items()} for i in range(count)]


def _generate(pipeline: WanPipeline, words: list[dict[str, str]], steps: int, seed: int) -> np.ndarray:
    """uint8 [B, T, H, W, 3]."""
    prompts = [f"a {w['subject']} {w['motion']} {PLACES[w['scene']][0]}" for w in words]
    frames = pipeline(
        prompts,
        height=SIZE,
        width=SIZE,
        num_frames=NUM_FRAMES - 1,  # diffusers rounds up where the VAE keeps every frame
        num_inference_steps=steps,
        max_sequence_length=TEXT_SLOTS[0],
        generator=torch.Generator().manual_seed(seed),
        output_type="np",
    ).frames
    return (frames * 255).round().astype(np.uint8)
