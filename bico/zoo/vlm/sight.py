"""The first stage of the VLM's training: its vision tower learns to see."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bico.models.vlm import Vlm
from bico.toybox.captions import key_words
from bico.toybox.render import masks, trajectory
from bico.toybox.words import LIGHTS, MOTIONS, SCENES, STYLES, SUBJECTS
from bico.toybox.world import NUM_FRAMES, Scene
from bico.zoo.data import TRAIN_SEED, draw_batch, scenes
from bico.zoo.muon import muon
from bico.zoo.training import Training, mixed_precision
from bico.zoo.vlm.vision import GRID, MERGE, see

if TYPE_CHECKING:
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

SIGHT_STEPS, SIGHT_BATCH = {"cpu": 10_000, "cuda": 4_000}, {"cpu": 64, "cuda": 1024}
FIRST_SHARE = 0.3  # share of first frames, in which growing subjects are smallest and hardest to recognise
CHUNK = 500  # scenes that a process describes at a time
ACTORS = 2  # at most, in a scene
WORDS = SUBJECTS + SCENES + STYLES + LIGHTS


class Sight(nn.Module):
    """A head that predicts labels from the tokens of a frame or a pair of frames. It is dropped after this stage."""

    PARTS = (
        1 + len(SUBJECTS),
        1 + len(MOTIONS),
        14,
    )  # outputs for a patch: logits of subject and motion (or none), `facts`

    def __init__(self, width: int) -> None:
        super().__init__()
        self.words = nn.Linear(width, len(WORDS))
        self.patches = nn.Linear(width, MERGE**2 * sum(self.PARTS))

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """[B, tokens, width] to logits of the frame's words [B, WORDS], then each of PARTS, [B, patches, part]."""
        patches = self.patches(tokens).unflatten(2, (MERGE**2, -1)).flatten(1, 2)
        return self.words(tokens.mean(1)), *patches.split(self.PARTS, dim=2)


def facts(scene: Scene) -> np.ndarray:
    """float32 [actors, T, 14]: pose (angle, size, position) in a frame and in the next one, hue and pattern."""
    x, y, size, angle = np.moveaxis(trajectory(scene), 2, 0)
    pose = np.stack([np.cos(angle), np.sin(angle), 3 * size, 2 * x, 2 * y], axis=2)
    look = [
        [np.cos(2 * np.pi * a.hue_a), np.sin(2 * np.pi * a.hue_a), a.pattern == "striped", a.pattern == "spotted"]
        for a in scene.actors
    ]
    after = np.concatenate([pose[:, 1:], pose[:, -1:]], axis=1)
    return np.concatenate([pose, after, np.repeat(np.array(look, np.float32)[:, None], len(x[0]), axis=1)], axis=2)


def sights(scene: Scene) -> dict[str, np.ndarray]:
    """The labels of a scene; patches are in the order of the vision tower (2 x 2 blocks).

    Returns:
        words: float32 [WORDS], 1 for each that describes the scene.
        actors: uint8 [T, patches], number of the actor that covers a patch, from 1; 0 = none.
        subjects, motions: uint8 [1 + ACTORS], index of each actor's word, from 1; 0 = none.
        facts: float32 [1 + ACTORS, T, 14], of each actor.
    """
    actors = np.zeros((NUM_FRAMES, GRID, GRID), np.uint8)
    subjects, motions = np.zeros((2, 1 + ACTORS), np.uint8)
    values = np.zeros((1 + ACTORS, NUM_FRAMES, Sight.PARTS[2]), np.float32)
    values[1 : 1 + len(scene.actors)] = facts(scene)
    for number, (actor, mask) in enumerate(zip(scene.actors, masks(scene, size=GRID), strict=True), start=1):
        assert actor.motion is not None  # these are scenes of clips
        actors[mask] = number
        subjects[number], motions[number] = 1 + SUBJECTS.index(actor.word), 1 + MOTIONS.index(actor.motion.word)
    cells = actors.reshape(NUM_FRAMES, GRID // MERGE, MERGE, GRID // MERGE, MERGE)
    return {
        "words": np.array([word in key_words(scene)["spatial"] for word in WORDS], np.float32),
        "actors": cells.swapaxes(2, 3).reshape(NUM_FRAMES, -1),
        "subjects": subjects,
        "motions": motions,
        "facts": values,
    }


def _sights_of(count: int, start: int) -> dict[str, np.ndarray]:
    """`sights` of `count` training scenes from `start` on, stacked."""
    seen = [sights(scene) for scene in scenes(count, TRAIN_SEED, start)]
    return {key: np.stack([entry[key] for entry in seen]) for key in seen[0]}


def all_sights(count: int, mapper: Callable[..., Iterable]) -> dict[str, torch.Tensor]:
    """`sights` of all training scenes, stacked.

    Args:
        mapper: `map`, or the `map` of several processes.
    """
    starts = range(0, count, CHUNK)
    parts = list(mapper(_sights_of, [min(CHUNK, count - start) for start in starts], starts))
    return {key: torch.from_numpy(np.concatenate([part[key] for part in parts])) for key in parts[0]}


def at(
    known: dict[str, torch.Tensor], chosen: torch.Tensor, frames: torch.Tensor, moves: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The labels of one frame of each chosen scene: words [B, WORDS], subjects, motions [B, patches] and facts.

    Args:
        known: `all_sights`.
        chosen, frames: [B] scenes and their frames.
        moves: [B], 1 with a next frame and 0 without one (an image, in which nothing moves).
    """
    actors = known["actors"][chosen, frames].long()
    subjects, motions = (known[key][chosen].long().gather(1, actors) for key in ("subjects", "motions"))
    values = known["facts"][chosen, :, frames]
    values = values.gather(1, actors[..., None].expand(-1, -1, values.shape[2]))
    now, then, look = values.split([5, 5, 4], dim=2)
    then = torch.where(moves.bool()[:, None, None], then, now)
    facts = torch.cat([now, then, look], dim=2)
    return {"words": known["words"][chosen], "subjects": subjects, "motions": motions * moves[:, None], "facts": facts}


def sight_loss(
    visual: Qwen2_5_VisionTransformerPretrainedModel,
    head: Sight,
    pairs: torch.Tensor,
    truth: dict[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Losses on the labels `truth` (see `at`) of pairs of frames, uint8 [B, 2, H, W, 3]."""
    words, subjects, motions, values = head(see(visual, pairs))
    covered = truth["subjects"] > 0
    weight = torch.ones(1 + len(SUBJECTS), device=pairs.device)
    weight[0] = 0.3  # most patches are background
    error = (values - truth["facts"]).square().mean(2)
    return {
        "words": 5 * F.binary_cross_entropy_with_logits(words, truth["words"]),
        "subjects": 2 * F.cross_entropy(subjects.flatten(0, 1), truth["subjects"].flatten(), weight),
        "motions": F.cross_entropy(motions.flatten(0, 1), truth["motions"].masked_fill(~covered, -100).flatten()),
        "facts": (error * covered).sum() / covered.sum(),
    }


def train_vision(
    vlm: Vlm, pool: torch.Tensor, known: dict[str, torch.Tensor], workdir: Path, seed: int, steps: int
) -> None:
    """Trains on pairs of frames: half of them are one frame twice (an image), half a frame and the next one (a clip).

    Args:
        pool: uint8 [scenes, T, H, W, 3].
        known: `all_sights` of the same scenes.
    """
    torch.manual_seed(seed)
    visual, device = vlm.model.model.visual.train(), vlm.device
    head = Sight(visual.config.out_hidden_size).to(device)
    both = nn.ModuleDict({"visual": visual, "head": head})
    optimizer, size = muon(both, visual.blocks), min(SIGHT_BATCH[device], len(pool))
    training = Training("vlm vision", both, optimizer, workdir / "vlm-vision.safetensors", steps, clip_groups=True)

    def loss(step: int) -> dict[str, torch.Tensor]:
        indices, rng = draw_batch(len(pool), size, seed, step)
        starts, moves = rng.integers(NUM_FRAMES - 1, size=size), rng.integers(2, size=size)
        starts[rng.random(size) < FIRST_SHARE] = 0
        chosen, starts, moves = torch.from_numpy(np.stack([indices, starts, moves])).to(device, non_blocking=True)
        pairs = pool[chosen[:, None], torch.stack([starts, starts + moves], dim=1)]
        with mixed_precision(device):
            return sight_loss(visual, head, pairs, at(known, chosen, starts, moves))

    training.run(loss)
