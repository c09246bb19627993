"""Text-to-video models that differ only in how long their DiT was trained: checkpoints of one training.

    torchrun --nproc-per-node 2 -m bico.zoo scale FOLDER     an hour on two cores

They have the shipped text encoder, words and VAE, so a benchmark on them says what a better backbone changes for a
method. The shipped DiT had another, longer training.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import UMT5EncoderModel

from bico.core.errors import InputError
from bico.core.fingerprints import folder_digest
from bico.models.wan.components import moved
from bico.zoo.checkpoints import own_folder
from bico.zoo.wan import settings
from bico.zoo.wan.flow_matching import train_transformer
from bico.zoo.wan.pool import pools
from bico.zoo.wan.text_encoder import Reader
from bico.zoo.wan.train import PROJECTION, save
from bico.zoo.wan.transformer import Trainee, build_transformer
from bico.zoo.wan.words import Words
from bico.zoo.workers import first_worker_first, join_workers

SHARES = (1 / 8, 1 / 4, 1 / 2, 1)  # of the training, at which its DiT is kept
COURSE = settings.Course(0, {"cpu": 2_000, "cuda": 8_000}, 16_000, 24_000, 8_000, still_share=0.05, peak=1.0)


def train(
    out: Path,
    *,
    workdir: Path,
    start: Path = Path("data/toybox/zoo/wan"),
    course: settings.Course = COURSE,
    steps: int | None = None,
    seed: int = 0,
) -> None:
    """Writes a pipeline folder `out`/<steps> for each of SHARES, or resumes from the checkpoint in `workdir`.

    Args:
        start: the pipeline folder whose text encoder, words and VAE stay; a new DiT learns from scratch.
        steps: of the whole training, by default those of the course; divisible so that each share ends at a checkpoint.
    """
    rank, workers = join_workers()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    steps = steps or course.steps[device]
    vae, words = moved(AutoencoderKLWan.from_pretrained(start / "vae"), device), Words.open(start)
    with first_worker_first(rank, workers):
        stills, clips = (pool.to(device) for pool in pools(vae, words.tokenizer, course, workdir))
    torch.manual_seed(seed)
    transformer = build_transformer(vae.config["z_dim"])
    trained = WanTransformer3DModel.from_pretrained(start / "transformer").state_dict()
    projection = {key: value for key, value in trained.items() if key.startswith(PROJECTION)}
    transformer.load_state_dict(transformer.state_dict() | projection)
    text_encoder = UMT5EncoderModel.from_pretrained(start / "text_encoder")
    reader = Reader(text_encoder, transformer.condition_embedder.text_embedder).to(device).requires_grad_(False)
    model = Trainee(transformer).to(device)
    average = copy.deepcopy(model)

    kept = [round(share * steps) for share in SHARES]

    def keep(done: int) -> None:
        if done in kept:
            part = out / str(done)
            save(part, copy.deepcopy(reader).cpu(), copy.deepcopy(average).cpu(), words, copy.deepcopy(vae).cpu())

    of = {"start": folder_digest(start), "course": course, "steps": steps, "seed": seed, "device": device}
    own = own_folder(workdir, of)
    train_transformer(model, average, reader, stills, clips, course, own, steps, seed, keep)
    missing = [str(done) for done in kept if not (out / str(done) / "model_index.json").exists()]
    if rank == 0 and missing:
        raise InputError(
            f"{out}: nothing of step {', '.join(missing)}: {own} is past it: remove that folder to train anew"
        )
