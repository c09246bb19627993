"""The whole training of the text-to-video model, and the pipeline folder that it writes."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel

from bico.core.errors import InputError
from bico.core.fingerprints import folder_digest
from bico.models.wan.components import moved
from bico.zoo.checkpoints import own_folder
from bico.zoo.vae import build as build_vae
from bico.zoo.wan import settings
from bico.zoo.wan.captions import Captions
from bico.zoo.wan.flow_matching import train_transformer
from bico.zoo.wan.pool import pools
from bico.zoo.wan.text_encoder import Reader, build_text_encoder, train_text_encoder
from bico.zoo.wan.tokenizer import build_tokenizer, sample_texts
from bico.zoo.wan.transformer import Trainee, build_transformer
from bico.zoo.wan.words import Words, quiet_directions
from bico.zoo.workers import first_worker_first, join_workers

PROJECTION = "condition_embedder.text_embedder"  # name of the text projection in the DiT


def train(
    out: Path,
    *,
    workdir: Path,
    start: Path | None = None,
    lean: float = settings.LEAN,
    course: settings.Course | None = None,
    text_steps: int | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> None:
    """Trains text encoder and DiT for the VAE in `out`/vae or `start`/vae, or resumes from checkpoints in `workdir`.

    `out` becomes a folder that `WanPipeline.from_pretrained` opens.

    Args:
        start: the folder of a DiT that goes on learning; its words keep their places. By default one that knows
            nothing learns from scratch.
        lean: length of the part of a word that depends on the other words, relative to that of its own meaning.
        course: by default FROM_SCRATCH, or CONTINUED with a start.
        text_steps, steps: of the text encoder and of the DiT; by default those of the course.
    """
    source = (start or out) / "vae"
    if not (source / "config.json").exists():
        raise InputError(f"{source}: no VAE: expected what 'python -m bico.zoo vae {source}' writes")
    rank, workers = join_workers()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    course = course or (settings.CONTINUED if start else settings.FROM_SCRATCH)
    steps, text_steps = steps or course.steps[device], text_steps or course.text_steps
    vae = moved(AutoencoderKLWan.from_pretrained(source), device)
    tokenizer = build_tokenizer(sample_texts(seed))
    with first_worker_first(rank, workers):
        stills, clips = (pool.to(device) for pool in pools(vae, tokenizer, course, workdir))
    torch.manual_seed(seed)
    transformer = build_transformer(vae.config["z_dim"])
    if start is not None:
        trained = WanTransformer3DModel.from_pretrained(start / "transformer")
        kept = {key: value for key, value in trained.state_dict().items() if not key.startswith(PROJECTION)}
        transformer.load_state_dict(transformer.state_dict() | kept)
        words = Words.open(start).grown(tokenizer)
    else:
        words = Words.drawn(tokenizer, quiet_directions(transformer), seed)
    reader = Reader(build_text_encoder(len(tokenizer)), transformer.condition_embedder.text_embedder).to(device)
    captions = Captions.joined([stills.captions, clips.captions])
    of = {
        "lean": lean,
        "start": start and folder_digest(start),
        "course": course,
        "text_steps": text_steps,
        "seed": seed,
        "device": device,
    }
    own = own_folder(workdir, of)
    train_text_encoder(reader, captions, words.to(device), lean, own, text_steps, seed)
    model = Trainee(transformer).to(device)
    average = copy.deepcopy(model)
    train_transformer(model, average, reader.requires_grad_(False), stills, clips, course, own, steps, seed)
    if rank == 0:
        save(out, reader.cpu(), average.cpu(), words, vae.cpu())


def save(out: Path, reader: Reader, model: Trainee, words: Words, vae: AutoencoderKLWan) -> None:
    """Writes the pipeline folder; VAE and DiT in float16, which diffusers reads back as float32."""
    transformer = build_transformer(vae.config["z_dim"])
    projection = {f"{PROJECTION}.{key}": value for key, value in reader.project.state_dict().items()}
    transformer.load_state_dict(model.transformer.state_dict() | projection)
    # A model that was opened from a folder would save that folder's path; a new one has none.
    nameless = build_vae(vae.config["latents_mean"], vae.config["latents_std"])
    nameless.load_state_dict(vae.state_dict())
    words.tokenizer.backend_tokenizer.no_padding()  # the padding of captions in training is not saved
    WanPipeline(
        tokenizer=words.tokenizer,  # pyright: ignore[reportArgumentType]  # diffusers names the factory of tokenizers
        text_encoder=reader.text_encoder,
        vae=nameless.half(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=settings.SHIFT),
        transformer=transformer.half(),
    ).save_pretrained(out)
    words.save(out)
