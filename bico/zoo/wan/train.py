"""The whole training of the text-to-video model, and the pipeline folder that it writes."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline
from transformers import PreTrainedTokenizerFast

from bico.core.errors import InputError
from bico.models.wan.components import moved
from bico.zoo.vae import build as build_vae
from bico.zoo.wan import settings
from bico.zoo.wan.captions import Captions
from bico.zoo.wan.flow_matching import train_transformer
from bico.zoo.wan.pool import pools
from bico.zoo.wan.text_encoder import Reader, build_text_encoder, meanings, train_text_encoder
from bico.zoo.wan.tokenizer import build_tokenizer, sample_texts
from bico.zoo.wan.transformer import Trainee, build_transformer
from bico.zoo.workers import first_worker_first, join_workers

PROJECTION = "condition_embedder.text_embedder"  # of words, in the DiT


def train(
    out: Path, *, workdir: Path, text_steps: int = settings.TEXT_STEPS, steps: int | None = None, seed: int = 0
) -> None:
    """Trains text encoder and DiT for the VAE in `out`/vae, or resumes from the checkpoints in `workdir`.

    `out` becomes a folder that `WanPipeline.from_pretrained` opens.

    Args:
        steps: of the DiT; by default those of the device in STEPS.
    """
    if not (out / "vae" / "config.json").exists():
        raise InputError(f"{out / 'vae'}: no VAE: expected what 'python -m bico.zoo vae {out / 'vae'}' writes")
    rank, workers = join_workers()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    steps = steps or settings.STEPS[device]
    vae = moved(AutoencoderKLWan.from_pretrained(out / "vae"), device)
    tokenizer = build_tokenizer(sample_texts(seed))
    with first_worker_first(rank, workers):
        stills, clips = (pool.to(device) for pool in pools(vae, tokenizer, workdir))
    torch.manual_seed(seed)
    transformer = build_transformer(vae.config["z_dim"])
    reader = Reader(build_text_encoder(len(tokenizer)), transformer.condition_embedder.text_embedder).to(device)
    captions = Captions(*(torch.cat(both) for both in zip(stills.captions, clips.captions, strict=True)))
    train_text_encoder(reader, captions, meanings(tokenizer, seed).to(device), workdir, text_steps, seed)
    model = Trainee(transformer).to(device)
    average = copy.deepcopy(model)
    train_transformer(model, average, reader.requires_grad_(False), stills, clips, workdir, steps, seed)
    if rank == 0:
        save(out, reader.cpu(), average.cpu(), tokenizer, vae.cpu())


def save(out: Path, reader: Reader, model: Trainee, tokenizer: PreTrainedTokenizerFast, vae: AutoencoderKLWan) -> None:
    """Writes the pipeline folder; VAE and DiT in float16, which diffusers reads back as float32."""
    transformer = build_transformer(vae.config["z_dim"])
    projection = {f"{PROJECTION}.{key}": value for key, value in reader.project.state_dict().items()}
    transformer.load_state_dict(model.transformer.state_dict() | projection)
    # A model that was opened from a folder would save that folder's path; a new one has none.
    nameless = build_vae(vae.config["latents_mean"], vae.config["latents_std"])
    nameless.load_state_dict(vae.state_dict())
    tokenizer.backend_tokenizer.no_padding()  # the padding of captions in training is not saved
    WanPipeline(
        tokenizer=tokenizer,  # pyright: ignore[reportArgumentType]  # diffusers names the factory of tokenizers
        text_encoder=reader.text_encoder,
        vae=nameless.half(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=settings.SHIFT),
        transformer=transformer.half(),
    ).save_pretrained(out)
