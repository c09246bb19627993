"""A WanPipeline folder with random weights, small enough for tests to open and run in a second."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from itertools import count
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch._dynamo.utils import counters
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from bico.config.settings import Media, Sampling
from bico.models.wan.backbone import Backbone
from bico.prompts.slots import mentions
from bico.sources.encoding import EncodedSource

TEXT_SLOTS = 32
MEDIA = Media(height=32, width=32, num_frames=5, fps=8)
SAMPLING = Sampling(steps=3, guidance_scale=4.0, shift=3.0, negative_prompt="blurry")
PROMPT = "a striped cat  bouncing at the beach"
APPEARANCE = 6  # width of a CLIP image embedding
CAPTIONS = ["a cat bouncing at the beach", "the cat at a beach, bouncing", "a video of a bouncing cat at the beach"]


def tokenizer() -> PreTrainedTokenizerFast:
    """A unigram model over sentencepiece-like pieces with T5's special tokens.

    Short words are one piece ("▁cat"), "bouncing" and "striped" are two, anything else falls into letters.
    """
    pieces = ["▁a", "▁the", "▁cat", "▁car", "▁at", "▁beach", "▁bounc", "▁strip", "ing", "ed", "cat", "▁video", "▁of"]
    letters = ["▁", *"abcdefghijklmnopqrstuvwxyz,.'-"]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0)]
    scores = [(piece, -3.0) for piece in pieces] + [(letter, -6.0) for letter in letters]
    tiny = Tokenizer(models.Unigram(special + scores, unk_id=2))
    tiny.normalizer = normalizers.NFKC()
    tiny.pre_tokenizer = pre_tokenizers.Metaspace()
    tiny.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tiny, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=TEXT_SLOTS
    )


def pipeline() -> WanPipeline:
    torch.manual_seed(0)
    words = tokenizer()
    return WanPipeline(
        tokenizer=words,
        text_encoder=UMT5EncoderModel(
            UMT5Config(vocab_size=len(words), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
        ).eval(),
        transformer=WanTransformer3DModel(
            patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4,
            text_dim=32, freq_dim=16, ffn_dim=48, num_layers=3,
        ).eval(),
        vae=AutoencoderKLWan(
            base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
            latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[0.7, 1.3, 0.9, 1.1],
        ).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SAMPLING.shift),
    )  # fmt: skip


@cache
def folder() -> Path:
    """The pipeline on disk; written once a test run."""
    path = Path(mkdtemp(prefix="tiny-wan-"))
    pipeline().save_pretrained(path)
    return path


def saved_pipeline() -> WanPipeline:
    """The folder as diffusers opens it."""
    opened = WanPipeline.from_pretrained(folder())
    opened.set_progress_bar_config(disable=True)
    return opened


def backbone() -> Backbone:
    return Backbone.open(folder(), text_slots=TEXT_SLOTS)


@torch.no_grad()
def contexts(opened: Backbone) -> tuple[torch.Tensor, torch.Tensor]:
    """PROMPT and the negative prompt, projected."""
    prompt_embeds, _ = opened.encode_prompts([PROMPT, SAMPLING.negative_prompt])
    return opened.context(prompt_embeds[:1]), opened.context(prompt_embeds[1:])


def compiling(monkeypatch, gradient_checkpointing: str = "never") -> Backbone:
    """The backbone with blocks that run compiled in training: all of it but the kernels, which take a minute and a C++
    compiler. `counters` says what was compiled since."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr("bico.models.wan.acceleration.compiles_on", lambda device: True)
    torch._dynamo.reset()
    counters.clear()
    return Backbone.open(folder(), text_slots=TEXT_SLOTS, compiles=True, gradient_checkpointing=gradient_checkpointing)


@contextmanager
def breaking_off(monkeypatch, step: int) -> Iterator[None]:
    """Within the context a training breaks off in this one, from 0, of its passes with a gradient. An evaluation has
    none."""
    velocity_of, calls = Backbone.velocity, count()

    def breaking(self, *arguments, training: bool = False, **options):
        if training and next(calls) == step:
            raise KeyboardInterrupt
        return velocity_of(self, *arguments, training=training, **options)

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(Backbone, "velocity", breaking)
        yield


def source(kind: str = "video", seed: int = 0) -> EncodedSource:
    """A source that was encoded from random latents: the prompts are real, the pictures are not."""
    opened = backbone()
    noise = torch.Generator().manual_seed(seed)
    frames = (MEDIA.num_frames - 1) // 4 + 1 if kind == "video" else 1
    prompt_embeds, token_counts = opened.encode_prompts(CAPTIONS)
    prompt_embeds = prompt_embeds[:, : token_counts.max()]
    words = ["cat", "beach", "bouncing"]
    key_slots = torch.zeros(len(CAPTIONS), TEXT_SLOTS, dtype=torch.uint8)
    for row, caption in zip(key_slots, CAPTIONS, strict=True):
        for number, word in enumerate(words, start=1):
            row[mentions(opened.tokenizer, caption, word, TEXT_SLOTS)] = number
    clip = {
        "frame_latents": torch.randn(3, 4, 1, 4, 4, generator=noise),
        "frame_prompt_embeds": prompt_embeds.clone(),
        "frame_token_counts": token_counts.clone(),
        "frame_key_slots": key_slots.clone(),
    }
    return EncodedSource(
        kind=kind,
        spatial=["cat", "beach"],
        temporal=["bouncing"] if kind == "video" else [],
        latents=torch.randn(4, frames, 4, 4, generator=noise),
        prompt_embeds=prompt_embeds,
        token_counts=token_counts,
        key_slots=key_slots,
        empty_prompt_embeds=opened.encode_prompts([""])[0][0, : token_counts.max()],
        appearance=torch.randn(MEDIA.num_frames if kind == "video" else 1, APPEARANCE, generator=noise),
        **(clip if kind == "video" else {}),
    )


def sources() -> dict[str, EncodedSource]:
    """An image and a video."""
    return {"still": source("image", seed=1), "clip": source("video", seed=2)}
