"""Quality of the text-to-video model on held-out prompts and scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import WanPipeline

from bico.models.wan.attention_maps import word_maps
from bico.models.wan.backbone import Backbone
from bico.models.wan.forward_pass import TRAIN_TIMESTEPS
from bico.prompts.words import bound_slots
from bico.toybox.captions import DIRECTIONS, PLACES, caption, colour_name, key_words
from bico.toybox.probe import Probe
from bico.toybox.render import masks, render
from bico.toybox.words import MOTIONS, SCENES, SUBJECTS
from bico.toybox.world import NUM_FRAMES, SIZE, sample_scene
from bico.zoo.data import HELD_OUT_SEED, scenes
from bico.zoo.wan import settings

GUIDANCE = 2.0  # scale of the clips that are measured
HUES = ("hue_a", "sky", "ground")  # hues that prompts name, see `named_colours`


def evaluate(folder: Path, *, probe: Path, count: int = 120, steps: int = 25, seed: int = 0) -> dict[str, float]:
    """Quality on held-out captions, with clips from diffusers' own pipeline and the probe's predictions for them.

    Returns:
        subject, scene, motion: shares of clips that show the prompt's word.
        colours, directions: see `named_colours` and `named_directions`.
        told_...: see `caption_effect`; of each kind of motion that has ways to be done.
        spread: how much the looks of one prompt's clips vary from seed to seed; 1 = as much as scenes of the world.
        word_focus, word_focus_of_two: see `word_focus`; in clips of one subject, and of two.
        lean_subject, lean_scene, lean_motion: see `leans`.
    """
    pipeline, judge = WanPipeline.from_pretrained(folder), Probe.open(probe)
    backbone = Backbone.open(folder, text_slots=settings.TEXT_SLOTS[0])
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
        **{
            f"told_{motion}": caption_effect(backbone, motion)
            for motion in ("sliding", "bouncing", "spinning", "circling")
        },
        "spread": spread(pipeline, judge, prompts[:3], steps, seed),
        "word_focus": word_focus(backbone, actors=1),
        "word_focus_of_two": word_focus(backbone, actors=2),
        **{f"lean_{role}": share for role, share in leans(backbone).items()},
    }


def named_colours(pipeline: WanPipeline, judge: Probe, words: list[dict[str, str]], steps: int, seed: int) -> float:
    """Share of the colours of subject, sky and ground that the probe reads where the prompt says; 0.15 by chance."""
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
    """Share of clips, `takes` for each of the `DIRECTIONS`, whose subject moves as the prompt says; 0.5 by chance."""
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


@torch.no_grad()
def caption_effect(backbone: Backbone, motion: str, count: int = 40, sigma: float = 0.85) -> float:
    """How much information about a motion the DiT gets from captions: 0 = none, 1 = all.

    The velocity of a held-out clip is predicted with its own caption and with that of its twin. The figure is the
    difference of the two squared errors, relative to the squared difference of the two clips. It varies much less than
    what the probe reads in generated clips, because all predictions share one noise.
    """
    cast = [sample_scene(np.random.default_rng([HELD_OUT_SEED, 3, i]), motion=motion) for i in range(count)]
    twins = [scene.twin() for scene in cast]
    clips, others = (torch.stack([backbone.encode_clip(render(scene)) for scene in each]) for each in (cast, twins))
    noise = torch.randn(clips.shape, generator=torch.Generator().manual_seed(0))
    noisy, timesteps = torch.lerp(clips, noise, sigma), torch.full((count,), TRAIN_TIMESTEPS * sigma)
    missed = []
    for each in (twins, cast):
        texts = [caption(scene, np.random.default_rng(i), detail=1.0) for i, scene in enumerate(each)]
        velocity = backbone.velocity(noisy, timesteps, backbone.context(backbone.encode_prompts(texts)[0]))
        missed.append((velocity - (noise - clips)).square().mean())
    return ((missed[0] - missed[1]) / (clips - others).square().mean()).item()


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
    """Circular variance of hues [groups, takes, names] within each group, mean over groups and names."""
    return float((1 - np.abs(np.exp(2j * np.pi * hues).mean(axis=1))).mean())


def word_focus(backbone: Backbone, *, actors: int, count: int = 40) -> float:
    """Mean attention to a subject's word inside its mask, relative to that outside, on held-out renders at middle noise
    levels; 1 = the word acts everywhere alike.
    """
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
            moments, rows, columns = word.shape
            share = torch.nn.functional.adaptive_avg_pool3d(share, (moments, rows, columns))[0]
            inside += (word * share).sum().item() / share.sum().item()
            outside += (word * (1 - share)).sum().item() / (1 - share).sum().item()
    return inside / outside


@torch.no_grad()
def leans(backbone: Backbone, count: int = 30, captions: int = 60) -> dict[str, float]:
    """How much the vectors of key words differ from caption to caption of one scene, behind the text projection: their
    variance relative to the squared length of their mean, mean over scenes, by role. 0 = one vector for each word.
    """
    shares: dict[str, list[float]] = {"subject": [], "scene": [], "motion": []}
    for number in range(count):
        rng = np.random.default_rng([HELD_OUT_SEED, 5, number])
        scene = sample_scene(rng)
        texts = [caption(scene, rng, detail=0) for _ in range(captions)]
        context = backbone.context(backbone.encode_prompts(texts)[0]).float()
        names = key_words(scene)
        for role, word in zip(shares, [*names["spatial"], *names["temporal"]], strict=True):
            bound = [bound_slots(backbone.tokenizer, text, {role: [word]}, backbone.text_slots) for text in texts]
            vectors = torch.stack([row[slots[role][0]] for row, slots in zip(context, bound, strict=True)])
            shares[role].append(relative_variance(vectors))
    return {role: float(np.mean(each)) for role, each in shares.items()}


def relative_variance(vectors: torch.Tensor) -> float:
    """Mean squared distance of vectors [N, width] from their mean, relative to the squared length of the mean."""
    mean = vectors.mean(dim=0)
    return ((vectors - mean).square().sum(dim=1).mean() / mean.square().sum()).item()


def _prompts(count: int, seed: int) -> list[dict[str, str]]:
    """The words of `count` prompts by role. Every word comes equally often, in random combinations."""
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
            max_sequence_length=settings.TEXT_SLOTS[0],
            generator=torch.Generator().manual_seed(seed + start),
            output_type="np",
            return_dict=False,
        )[0]
        parts.append((frames * 255).round().astype(np.uint8))
    return np.concatenate(parts)
