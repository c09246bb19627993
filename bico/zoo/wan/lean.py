"""A copy of the text-to-video model whose words depend more or less on their sentence (their lean).

    python -m bico.zoo lean FOLDER --lean 0     some six minutes on one core

Only the text encoder and the text projection are trained again. The DiT, the VAE and the meanings of words stay. So a
benchmark can be run in worlds that differ only in how much a word depends on the others. The DiT was trained with the
lean of its folder, so a very different lean is farther from its training.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from bico.core.fingerprints import folder_digest
from bico.zoo.checkpoints import own_folder
from bico.zoo.data import TRAIN_SEED, scenes
from bico.zoo.wan import settings
from bico.zoo.wan.captions import Captions
from bico.zoo.wan.pool import described
from bico.zoo.wan.text_encoder import Reader, build_text_encoder, train_text_encoder
from bico.zoo.wan.train import save
from bico.zoo.wan.transformer import Trainee
from bico.zoo.wan.words import Words

SCENES = 12_000


def train(
    out: Path,
    *,
    workdir: Path,
    start: Path = Path("data/toybox/zoo/wan"),
    lean: float = settings.LEAN,
    count: int = SCENES,
    steps: int = settings.CONTINUED.text_steps,
    seed: int = 0,
) -> None:
    """Writes the pipeline folder `out`, or resumes from the checkpoint in `workdir`.

    Args:
        start: the pipeline folder whose DiT stays.
        lean: length of the part of a word that depends on the other words, relative to that of its own meaning.
        count: scenes, each with its captions as a clip and as a still.
        steps: of the text encoder.
    """
    words, cast = Words.open(start), scenes(count, TRAIN_SEED)
    transformer = WanTransformer3DModel.from_pretrained(start / "transformer")
    vae = AutoencoderKLWan.from_pretrained(start / "vae")
    parts = [described(words.tokenizer, cast, range(count), moves=moves) for moves in (False, True)]
    captions = Captions.joined(parts)
    torch.manual_seed(seed)
    project = transformer.condition_embedder.text_embedder
    reader = Reader(build_text_encoder(len(words.tokenizer)), project)
    of = {"lean": lean, "start": folder_digest(start), "scenes": count, "steps": steps, "seed": seed}
    train_text_encoder(reader, captions, words, lean, own_folder(workdir, of), steps, seed)
    save(out, reader, Trainee(transformer), words, vae)
