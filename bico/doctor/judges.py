"""Tests of the models that score: whether CLIP, DINO and the VLM of the VQA score distinguish the sources, and whether
CLIP recognises generated clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bico.config.schema import Config
from bico.config.settings import Look
from bico.doctor.finding import Finding, Matching, own_and_others
from bico.models.clip import Clip
from bico.models.vlm import Vlm
from bico.plan.dependencies import appearance_model
from bico.prompts.content_words import content_words
from bico.scoring.clip_judge import ClipJudge
from bico.scoring.dino_judge import DinoJudge
from bico.sources.instructions import question_about

CLIP_GAP = 0.04
"""Smallest cosine of a picture and its own text minus that with other texts. OpenAI's CLIP has about 0.1."""
PICTURE_GAP = 0.05
"""Smallest cosine of a crop and its picture minus that with the picture in shuffled tiles, for DINO and CLIP."""
YES_GAP = 0.3
"""Smallest probability of yes to a source's own words minus that to words of others. The Toybox's judge has 0.98."""
TILES = 4
"""Number of tiles along a side."""


def examine_clip(
    clip: ClipJudge, config: Config, samples: Mapping[str, np.ndarray], captions: Mapping[str, str]
) -> Finding:
    """Tests whether CLIP matches each source with its own caption among those of all."""
    texts = torch.stack([clip.text_feature(captions[name]) for name in samples])
    pictures = torch.cat([clip.features(middle(frames)) for frames in samples.values()])
    match = Matching.of(*own_and_others(pictures @ texts.T))
    return Finding(
        "CLIP, a source's own caption",
        f"{match.found:.0%} of {len(samples)} found, cosine {match.gap:+.3f} above others'",
        _expected(match, CLIP_GAP),
        match.found >= match.needed and match.gap >= CLIP_GAP,
        f"models.clip ({config.models.clip}: weights, quick_gelu), and the captions",
    )


def examine_clips(
    clip: ClipJudge,
    clips: Mapping[str, np.ndarray],
    prompts: Mapping[str, str],
    others: Mapping[str, list[str]],
    where: Path,
) -> Finding:
    """Tests whether CLIP matches each generated clip with its own prompt among other texts.

    Args:
        clips: by case, uint8 [T, H, W, 3].
        prompts: by case.
        others: texts of other things, by case.
        where: the folder of the clips.
    """
    matches = []
    for case, frames in clips.items():
        texts = torch.stack([clip.text_feature(text) for text in (prompts[case], *others[case])])
        own, *rest = clip.features(frames).mean(0) @ texts.T
        matches.append(Matching.of(own[None], torch.stack(rest)[None]))
    match = Matching(*(float(np.mean(figures)) for figures in zip(*map(astuple, matches), strict=True)))
    return Finding(
        "generation, a clip's own prompt",
        f"CLIP finds it for {match.found:.0%} of {len(clips)} clips, cosine {match.gap:+.3f} above other texts'",
        _expected(match, CLIP_GAP),
        match.found >= match.needed and match.gap >= CLIP_GAP,
        f"the clips in {where}, then models.wan's transformer and text_encoder",
    )


def _expected(match: Matching, gap: float) -> str:
    return f"{match.needed:.0%} or more (chance {match.chance:.0%}), {gap:+.3f} or more"


def examine_dino(dino: DinoJudge, config: Config, samples: Mapping[str, np.ndarray]) -> Finding:
    """Tests whether DINO's features match a crop with its picture (see `_examine_pictures`)."""
    look = f"models.dino ({config.models.dino}), scoring.dino_crop"
    return _examine_pictures("DINO, a crop's own picture", dino.features, samples, look)


def examine_appearance(config: Config, samples: Mapping[str, np.ndarray], device: str) -> Finding:
    """Tests whether the CLIP embeddings that methods learn from match a crop with its picture."""
    name = appearance_model(config)
    folder = getattr(config.models, name)
    embed, look = Clip(folder, device=device).image_embeddings, f"models.{name} ({folder})"
    return _examine_pictures("appearance, a crop's own picture", embed, samples, look)


def examine_yes(
    vlm: Vlm, look: Look, config: Config, samples: Mapping[str, np.ndarray], captions: Mapping[str, str]
) -> Finding:
    """Tests whether the VLM says yes to the phrases that cases bind to a source, and no to those bound to others.

    Phrases of others that only have words of the source's own phrases or caption are left out: they may be true.

    Args:
        look: which frames it sees, as in the VQA score.
    """
    bound = {name: {phrase for case in config.cases.values() for phrase in case.bind.get(name, ())} for name in samples}
    phrases = sorted(set().union(*bound.values()))
    own, others = [], []
    for name, frames in samples.items():
        shown = content_words(" ".join([captions[name], *sorted(bound[name])])).keys()
        foreign = [phrase for phrase in phrases if content_words(phrase).keys() - shown]
        asked = [(phrase, own) for phrase in sorted(bound[name])] + [(phrase, others) for phrase in foreign]
        questions = [question_about(phrase, still=len(frames) == 1) for phrase, _ in asked]
        answers = vlm.yes([frames] * len(questions), questions, config.media.fps, look)
        for (_, kind), yes in zip(asked, answers, strict=True):
            kind.append(yes)
    right, wrong = (float(np.mean(kind)) if kind else np.nan for kind in (own, others))
    folder = config.models.vqa_entry
    return Finding(
        "VQA score, a source's own words",
        f"yes to {right:.0%} of the {len(own)} phrases bound to a source, to {wrong:.0%} of {len(others)} others",
        f"a difference of {YES_GAP:.0%} or more",
        right - wrong >= YES_GAP,
        f"models.{folder} ({getattr(config.models, folder)}), and the phrases that cases bind",
    )


def _examine_pictures(
    part: str, embed: Callable[[np.ndarray], Tensor], samples: Mapping[str, np.ndarray], look: str
) -> Finding:
    """Tests whether a mirrored crop of each source is matched with its picture, and is less similar to the picture with
    shuffled tiles.

    Shuffled tiles have the same colours, and untrained networks match pictures only by colour.

    Args:
        embed: gives [T, D] of uint8 frames [T, H, W, 3].
        look: what to look at if the model fails.
    """
    stills = [middle(frames) for frames in samples.values()]
    crops, whole, shuffled = (
        F.normalize(torch.cat([embed(change(still)) for still in stills]), dim=1)
        for change in (crop, lambda still: still, shuffle)
    )
    match = Matching.of(*own_and_others(crops @ whole.T))
    gap = (_cosine(crops, whole) - _cosine(crops, shuffled)).item()
    return Finding(
        part,
        f"{match.found:.0%} of {len(samples)} found; cosine {gap:+.3f} above that with the picture in shuffled tiles",
        _expected(match, PICTURE_GAP),
        match.found >= match.needed and gap >= PICTURE_GAP,
        look,
    )


def _cosine(one: Tensor, other: Tensor) -> Tensor:
    return F.cosine_similarity(one, other).mean()


def middle(frames: np.ndarray) -> np.ndarray:
    """The frame in the middle, [1, H, W, 3]."""
    return frames[len(frames) // 2][None]


def crop(still: np.ndarray) -> np.ndarray:
    """Five sixths of each side, off the centre, mirrored."""
    _, height, width, _ = still.shape
    return still[:, height // 12 : height // 12 + height * 5 // 6, : width * 5 // 6][:, :, ::-1]


def shuffle(still: np.ndarray) -> np.ndarray:
    """The picture in `TILES` x `TILES` tiles, in another order."""
    _, height, width, channels = still.shape
    high, wide = height // TILES, width // TILES
    tiles = still[0, : high * TILES, : wide * TILES].reshape(TILES, high, TILES, wide, channels).swapaxes(1, 2)
    order = np.random.default_rng(0).permutation(TILES * TILES)
    mixed = tiles.reshape(TILES * TILES, high, wide, channels)[order].reshape(tiles.shape)
    return mixed.swapaxes(1, 2).reshape(1, high * TILES, wide * TILES, channels)
