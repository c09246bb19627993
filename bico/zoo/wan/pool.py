"""The training scenes of the DiT, as latents, regions and captions in one file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from bico.core.files import replacing
from bico.core.fingerprints import code_digest
from bico.toybox.captions import phrases
from bico.toybox.render import render_with_regions
from bico.toybox.world import NUM_FRAMES, SIZE, Scene
from bico.zoo.data import STILL_SEED, TRAIN_SEED, Item, in_parallel, scenes, to_model
from bico.zoo.progress import Progress
from bico.zoo.vae import PATCH, encode
from bico.zoo.wan import settings
from bico.zoo.wan.captions import Captions, tokenize

GROUP = 64  # scenes that the VAE encodes at a time


class Pool(NamedTuple):
    """Scenes to learn from.

    Attributes:
        latents: float16 [N, C, T, h, w], normalised.
        regions: float16 [N, REGIONS, T, h, w]: share of each latent cell that an actor, the ground or the sky covers.
        captions: TELLINGS of each scene one after the other, and an empty one at the end.
    """

    latents: torch.Tensor
    regions: torch.Tensor
    captions: Captions

    def to(self, device: str) -> Pool:
        captions = Captions(*(each.to(device) for each in self.captions))
        return Pool(self.latents.to(device), self.regions.to(device), captions)


def pools(
    vae: AutoencoderKLWan, tokenizer: PreTrainedTokenizerFast, course: settings.Course, workdir: Path
) -> tuple[Pool, Pool]:
    """Stills and clips, kept in `workdir`; the last `course.twins` of the clips are twins of the first ones."""
    name, stills = _fingerprint(vae, tokenizer), [scene.still() for scene in scenes(course.stills, STILL_SEED)]
    drawn = scenes(course.clips, TRAIN_SEED)
    clips = [with_hard_motions(scene, i) if i % 4 == 0 else scene for i, scene in enumerate(drawn)]
    twins = [scene.twin() for scene in clips[: course.twins]]
    seeds = [*range(course.clips), *range(course.twins)]
    return (
        latent_pool(
            workdir / f"stills-{course.stills}-{name}.safetensors",
            vae,
            tokenizer,
            stills,
            list(range(course.stills)),
            1,
        ),
        latent_pool(
            workdir / f"clips-{course.clips}-{course.twins}-{name}.safetensors",
            vae,
            tokenizer,
            clips + twins,
            seeds,
            NUM_FRAMES,
        ),
    )


def _fingerprint(vae: AutoencoderKLWan, tokenizer: PreTrainedTokenizerFast) -> str:
    """A digest of the encoder, the tokenizer and the code, in the names of pools: what others made is not reused."""
    weights = [vae.encoder.conv_in.weight, vae.encoder.conv_out.weight, torch.tensor(vae.config["latents_std"])]
    found = [each.detach().cpu().numpy().tobytes() for each in weights]
    found += [tokenizer.backend_tokenizer.to_str().encode(), code_digest("bico.zoo.wan.pool").encode()]
    return hashlib.sha256(b"".join(found)).hexdigest()[:12]


def with_hard_motions(scene: Scene, seed: int) -> Scene:
    """The same scene with motions out of HARD."""
    rng = np.random.default_rng([TRAIN_SEED, 3, seed])
    words = rng.choice(settings.HARD, len(scene.actors))
    cast = [
        replace(actor, motion=actor.motion and replace(actor.motion, word=str(word)))
        for actor, word in zip(scene.actors, words, strict=True)
    ]
    return replace(scene, actors=tuple(cast))


def latent_pool(
    path: Path,
    vae: AutoencoderKLWan,
    tokenizer: PreTrainedTokenizerFast,
    cast: list[Scene],
    seeds: list[int],
    num_frames: int,
) -> Pool:
    """The scenes of `cast`, rendered, encoded and described; kept at `path`.

    Args:
        seeds: of the captions, one for each scene. A twin has its scene's seed, so that their captions are alike.
    """
    if not path.exists():
        latents, regions = _encoded(vae, cast, num_frames)
        captions = described(tokenizer, cast, seeds, moves=num_frames > 1)
        whole = {"latents": latents, "regions": regions, **captions._asdict()}
        with replacing(path) as unfinished:
            save_file({key: value.contiguous() for key, value in whole.items()}, unfinished)
    whole = load_file(path)
    return Pool(whole["latents"], whole["regions"], Captions(*(whole[name] for name in Captions._fields)))


@torch.no_grad()
def _encoded(vae: AutoencoderKLWan, cast: list[Scene], num_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`latents` and `regions` of `Pool`."""
    statistics = vae.config["latents_mean"], vae.config["latents_std"]
    mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in statistics)
    progress = Progress("encode", len(cast))
    latents, covered = [], []
    work = partial(render_with_regions, num_frames=num_frames, cells=SIZE // PATCH, actors=settings.ACTORS)
    for part in _in_groups(in_parallel(work, cast), GROUP):
        frames, regions = (np.stack(group) for group in zip(*part, strict=True))
        encoded = encode(vae, to_model(frames).to(vae.device)).cpu()
        latents.append(((encoded - mean) / std).half())
        covered.append(torch.from_numpy(regions).half())
        progress.update(min(GROUP * len(latents), len(cast)))
    return torch.cat(latents), torch.cat(covered)


def _in_groups(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    while group := list(islice(items, size)):
        yield group


def described(tokenizer: PreTrainedTokenizerFast, cast: list[Scene], seeds: Sequence[int], *, moves: bool) -> Captions:
    """TELLINGS captions of each scene, and an empty one at the end; `moves`: they may name motions."""
    fields_of = partial(_tellings, tokenizer=tokenizer, moves=moves)
    empty = [each.numpy() for each in tokenize(tokenizer, [[]])]
    fields = [*in_parallel(fields_of, list(zip(cast, seeds, strict=True))), empty]
    return Captions(*(torch.from_numpy(np.concatenate(each)) for each in zip(*fields, strict=True)))


def _tellings(scene_and_seed: tuple[Scene, int], tokenizer: PreTrainedTokenizerFast, moves: bool) -> list[np.ndarray]:
    """The fields of `Captions` for one scene."""
    scene, seed = scene_and_seed
    rng = np.random.default_rng([TRAIN_SEED, 2, seed])
    captions = [
        phrases(scene, rng, motion=moves, detail=rng.random() ** 0.5, drop=settings.DROP)
        for _ in range(settings.TELLINGS)
    ]
    return [each.numpy() for each in tokenize(tokenizer, captions)]
