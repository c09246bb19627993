"""A Toybox benchmark of three cases on disk: sources, truths and clips, rendered instead of generated."""

from importlib import import_module
from pathlib import Path

import numpy as np

from bico.config.reading import load
from bico.config.schema import Config
from bico.config.scores import module_of_score, settings_of_score
from bico.core.files import write_json
from bico.core.fingerprints import file_digest
from bico.media.writing import write_clip, write_image
from bico.scoring.protocol import Score, ScoredClip, ScoredSource, Shared
from bico.toybox import world
from bico.toybox.render import render
from bico.toybox.world import Scene

PICTURES = {"red_cat": ("cat", "beach"), "old_robot": ("robot", "city"), "big_fish": ("fish", "space")}
CLIPS = {"bouncing_car": ("car", "desert", "bouncing"), "spinning_cat": ("cat", "forest", "spinning")}
CASES = {
    "cat_bounces": ("a cat bouncing at the beach", {"red_cat": ["cat", "beach"], "bouncing_car": ["bouncing"]}),
    "robot_spins": ("a robot spinning in the city", {"old_robot": ["robot"], "spinning_cat": ["spinning"]}),
    "fish_bounces": ("a fish bouncing in space", {"big_fish": ["fish", "space"], "bouncing_car": ["bouncing"]}),
}


def config(results: Path, **changes: object) -> Config:
    """Methods `good` and `copy`; the probe is left out unless `models` names one."""
    pictures = {
        name: {"kind": "image", "scene": {"seed": seed, "subject": subject, "scene": scene}}
        for seed, (name, (subject, scene)) in enumerate(PICTURES.items())
    }
    clips = {
        name: {"kind": "video", "scene": {"seed": 10 + seed, "subject": subject, "scene": scene, "motion": motion}}
        for seed, (name, (subject, scene, motion)) in enumerate(CLIPS.items())
    }
    cases = {}
    for name, (prompt, bind) in CASES.items():
        picture, clip = bind
        truth = {"subject": picture, "motion": clip, "scene": picture}
        cases[name] = {"prompt": prompt, "bind": bind, "truth": truth}
    folders = {"wan": "none", "vlm": "none", "clip": "none", "dino": "none"}
    return load(
        {
            "name": "toy",
            "results": str(results),
            "models": folders,
            "media": {"height": 48, "width": 48, "num_frames": 9, "fps": 8},
            "sources": pictures | clips,
            "cases": cases,
            "methods": {"base": {}, "copy": {}, "bico": {}},
            "scoring": {"bootstrap": 200, "scores": dict.fromkeys(SCORES)},
            **changes,
        }
    )


SCORES = ("clip_t", "dino_i", "motion_fidelity", "dynamic_degree")
"""The scores, and columns, of `config`."""


def opened(toy: Config, score: str, **settings: object) -> Score:
    """A score of this name, on the CPU."""
    own = settings_of_score(score).model_validate(settings)
    return import_module(module_of_score(score)).Score(own, Shared(toy, "cpu"))


def scored_clip(toy: Config, case_id: str, frames: np.ndarray, temporal: dict[str, list[str]] = {}) -> ScoredClip:  # noqa: B006
    """A clip of a case for scores. Its sources are rendered; `temporal` are their key words for motion."""
    case = toy.cases[case_id]
    sources = {
        source: ScoredSource(
            frames=render(source_scene(toy, source), 1 if toy.sources[source].kind == "image" else 9),
            kind=toy.sources[source].kind,
            temporal=temporal.get(source, []),
        )
        for source in case.bind
    }
    return ScoredClip(frames=frames, prompt=case.prompt, bind=case.bind, sources=sources, fps=toy.media.fps)


def source_scene(toy: Config, source: str) -> Scene:
    settings = toy.sources[source].scene
    rng = world.np.random.default_rng(settings.seed)
    scene = world.sample_scene(
        rng, subject=settings.subject, scene=settings.scene, motion=settings.motion, moving=settings.motion is not None
    )
    return scene


def truth_scene(toy: Config, case_id: str) -> Scene:
    truth = toy.cases[case_id].truth
    return world.compose(**{"motion": None} | {role: source_scene(toy, source) for role, source in truth.items()})


def write_media(toy: Config) -> None:
    for source, entry in toy.sources.items():
        frames = render(source_scene(toy, source), 1 if entry.kind == "image" else 9)
        if entry.kind == "image":
            write_image(toy.media_path(source), frames[0])
        else:
            write_clip(toy.media_path(source), frames, toy.media.fps)
    for case_id in toy.cases:
        scene = truth_scene(toy, case_id)
        write_clip(toy.paths.truth(case_id), render(scene), toy.media.fps)
        write_json(toy.paths.truth_scene(case_id), scene.to_dict())


def write_clips(toy: Config, method: str, shown: dict[str, str], statuses: dict[tuple[str, int], str] = {}) -> None:  # noqa: B006
    """Puts the truth of case `shown[case]` where `method` would have put its clip, unless its status is not "ok"."""
    manifest = []
    for case_id in toy.cases:
        for seed in toy.seeds:
            status, path = statuses.get((case_id, seed), "ok"), toy.paths.clip(method, case_id, seed)
            if status == "ok":
                write_clip(path, render(truth_scene(toy, shown[case_id])), toy.media.fps)
            digest = file_digest(path) if status == "ok" else None
            entry = {"case": case_id, "seed": seed, "clip": None, "status": status, "error": None, "sha256": digest}
            manifest.append(entry)
    write_json(toy.results / "clips" / f"{method}.json", manifest)
