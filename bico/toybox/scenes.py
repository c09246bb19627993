"""The files of a Toybox benchmark: sources, like a user's media, and the exact rendering of every composition."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from bico.config.benchmark import Role, Source, ToyScene
from bico.config.schema import Config
from bico.config.settings import Media
from bico.core.files import write_json
from bico.core.records import remember
from bico.media.writing import write_clip, write_image
from bico.toybox.render import render
from bico.toybox.words import ROLES, names
from bico.toybox.world import Scene, compose, sample_scene


def write_source(config: Config, source: str) -> None:
    """Renders a source to `results/media/<source>.png` or `.mp4`, and writes its scene to the JSON beside it."""
    entry, path = config.sources[source], config.media_path(source)
    frames = source_frames(entry, config.media)
    if entry.kind == "video":
        write_clip(path, frames, config.media.fps)
    else:
        write_image(path, frames[0])
    remember(path, {})
    write_json(path.with_suffix(".json"), scene_of(entry).to_dict())


def source_frames(source: Source, media: Media) -> np.ndarray:
    """A Toybox source's own frames, uint8 [T, H, W, 3]; T = 1 for an image."""
    return render(scene_of(source), num_frames=media.num_frames if source.kind == "video" else 1, size=media.height)


def write_truth(config: Config, case: str) -> None:
    """Writes the exact rendering of a case to `results/truth/<case>.mp4`, and its scene to the JSON beside it."""
    scene, path = truth_of(config, case), config.paths.truth(case)
    write_clip(path, render(scene, num_frames=config.media.num_frames, size=config.media.height), config.media.fps)
    remember(path, {})
    write_json(path.with_suffix(".json"), scene.to_dict())


def toy_scene(source: Source) -> ToyScene:
    """The scene in the config of a source that has no own files."""
    assert source.scene is not None
    return source.scene


def scene_of(source: Source) -> Scene:
    """The scene of a Toybox source, from its words, and its seed for everything else."""
    entry = toy_scene(source)
    words = entry.model_dump(exclude={"seed"})
    return sample_scene(np.random.default_rng(entry.seed), moving=source.kind == "video", **words)


def truth_of(config: Config, case: str) -> Scene:
    """The exact composition of a case."""
    return composition(config, config.cases[case].prompt, config.cases[case].truth or {})


def composition(config: Config, prompt: str, played_by: Mapping[Role, str | None] | Mapping[str, str | None]) -> Scene:
    """The scene that takes each role from its source if it has one, and otherwise from the words of the prompt.

    What neither a source nor a word determines (for instance which city) is random, but always the same for a prompt.

    Args:
        played_by: role -> source, or None.
    """
    seed = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8])
    drawn = sample_scene(
        np.random.default_rng(seed),
        subject=_named(prompt, "subject"),
        scene=_named(prompt, "scene"),
        motion=_named(prompt, "motion"),
        style=_named(prompt, "style"),
        light=_named(prompt, "light"),
    )
    played = {role: scene_of(config.sources[source]) for role, source in played_by.items() if source}
    roles = dict.fromkeys(ROLES, drawn) | played
    return compose(**roles)


def _named(prompt: str, role: Role) -> str | None:
    """The first of the role's words that is in the prompt."""
    return next((word for word in ROLES[role] if names(prompt, word)), None)
