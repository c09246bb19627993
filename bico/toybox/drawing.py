"""A benchmark of any size, drawn from a seed: sources, and cases that mix them.

The kinds of cases take turns, and so do all words, so that a benchmark of a hundred cases has each of them often:

* motion: the subject of an image, the motion of a video;
* scene: another image gives the scene;
* videos: subject and motion of two videos;
* style, light: a third source gives one of them;
* four: subject, scene, motion, and a style or a light, of four sources;
* same word: the video whose motion is bound shows another subject of the same word.

Half of the sources have clutter. In a quarter of them a post hides a part of the subject. Half of the videos are slow,
half are fast.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import cycle, islice
from typing import Any, TypeVar

import numpy as np

from bico.config.reading import load
from bico.config.schema import Config
from bico.core.errors import InputError
from bico.toybox.captions import sentence
from bico.toybox.scenes import scene_of, truth_of
from bico.toybox.words import LIGHTS, MOTIONS, SCENES, STYLES, SUBJECTS
from bico.toybox.world import sample_scene

KINDS = ("motion", "scene", "videos", "style", "light", "four", "same word")
FEWEST = len(KINDS)
SHARE = 6
"""Number of cases per image and per video."""
LEAST = 12
"""Smallest number of images, and of videos: every word must occur, with a style or a light and without."""
SLOW, FAST = 0.3, 0.7
"""Speeds of a motion, in 0..1, below and above which it counts as slow and fast."""

T = TypeVar("T")
Entries = dict[str, dict[str, Any]]


def draw(cases: int, seed: int, tuned: Collection[str] = ()) -> tuple[Entries, Entries]:
    """Sources and cases, in the form of the sections `sources` and `cases` of a config. A seed always gives the same.

    Args:
        tuned: prompts of the tuning set. No case has one of them, because methods may be tuned for it.

    Raises:
        InputError: fewer cases than there are kinds.
    """
    if cases < FEWEST:
        raise InputError(f"draw: {cases} cases: expected at least {FEWEST}, one of each kind")
    rng = np.random.default_rng(seed)
    count = max(LEAST, round(cases / SHARE))
    sources = dict(_sources(rng, count, moving=False)) | dict(_sources(rng, count, moving=True))
    drawn: Entries = {}
    for kind in islice(cycle(KINDS), cases):
        while (case := _case(rng, kind, sources)) in drawn.values() or case["prompt"] in tuned:
            pass
        drawn[_name(case["prompt"], drawn)] = case
    return sources, drawn


def drawn_config(like: dict[str, Any], cases: int, seed: int, name: str) -> dict[str, Any]:
    """A config with the settings of another, its own sources and cases, and the digest of their scenes.

    Applications are left out, because they name sources of the other config. The number of raters is the smallest with
    which two people see each case.
    """
    tuning = load(like).tuning
    sources, drawn = draw(cases, seed, [case.prompt for case in tuning.cases.values()] if tuning else [])
    entries = {key: value for key, value in like.items() if key not in ("applications", "frozen")}
    entries |= {"name": name, "results": f"results/{name}", "sources": sources, "cases": drawn}
    groups = load(entries).rating.groups
    entries["rating"] = entries.get("rating", {}) | {"raters": math.ceil(2 * cases / groups)}
    return entries | {"frozen": scenes_digest(load(entries))}


def scenes_digest(config: Config) -> str:
    """SHA-256 of the cases of a benchmark, and of all scenes: those of its sources and of its exact renderings."""
    sources = {name: scene_of(entry).to_dict() for name, entry in config.sources.items() if entry.scene}
    truths = {case: truth_of(config, case).to_dict() for case in config.truths}
    cases = {name: case.model_dump(mode="json") for name, case in config.cases.items()}
    media = config.media.model_dump(mode="json")
    text = json.dumps({"media": media, "sources": sources, "truths": truths, "cases": cases})
    return hashlib.sha256(text.encode()).hexdigest()


def _sources(rng: np.random.Generator, count: int, *, moving: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Sources of one kind. Subjects and scenes alternate at different rates, so that all pairs of them occur."""
    subjects, scenes, motions = (_shuffled(rng, words) for words in (SUBJECTS, SCENES, MOTIONS))
    styles, lights = cycle(_shuffled(rng, STYLES)), cycle(_shuffled(rng, LIGHTS))
    cluttered, slow = (rng.permutation(count) % 2 == 0 for _ in range(2))
    occluded = rng.permutation(count) % 4 == 0
    for number in range(count):
        turn, place = divmod(number, len(subjects))
        words = {"subject": subjects[place], "scene": scenes[(number + turn) % len(scenes)]}
        if moving:
            words["motion"] = motions[(place + turn) % len(motions)]
        if number % 4 == 1:
            words["style"] = next(styles)
        if number % 4 == 3:
            words["light"] = next(lights)
        clutter = {"clutter": True} if cluttered[number] else {}
        post = {"occluded": True} if occluded[number] else {}
        seed = _seed(rng, words, slow=bool(slow[number]))
        kind = "video" if moving else "image"
        name = f"{words['subject']}_{words.get('motion', words['scene'])}_{kind}_{number + 1}"
        yield name, {"kind": kind, "scene": {"seed": seed, **words, **clutter, **post}}


def _seed(rng: np.random.Generator, words: dict[str, Any], *, slow: bool) -> int:
    """The seed of a scene whose motion is slow or fast. An image also has a motion, but does not show it."""
    while True:
        seed = int(rng.integers(10_000, 1_000_000))
        motion = sample_scene(np.random.default_rng(seed), **words).actors[0].motion
        assert motion is not None
        if motion.speed < SLOW if slow else motion.speed > FAST:
            return seed


def _case(rng: np.random.Generator, kind: str, sources: Entries) -> dict[str, Any]:
    """A case of this kind: sources for its roles, and a prompt that names a word of each role and always the scene."""

    def one(fits: Callable[[dict[str, Any]], bool], kinds: Sequence[str] = ("image", "video")) -> str:
        """A source that has no role yet."""
        found = [
            name
            for name, entry in sources.items()
            if entry["kind"] in kinds and name not in played.values() and fits(entry["scene"])
        ]
        return found[int(rng.integers(len(found)))]

    played: dict[str, str] = {}
    played["subject"] = one(lambda scene: True, ["video"] if kind == "videos" else ["image"])
    subject = sources[played["subject"]]["scene"]["subject"]
    same = kind == "same word"
    played["motion"] = one(lambda scene: (scene["subject"] == subject) == same, ["video"])
    look = {"style": "style", "light": "light", "four": ("style", "light")[int(rng.integers(2))]}.get(kind)
    if kind in ("scene", "four"):
        played["scene"] = one(lambda scene: True, ["image"])
    if look:
        played[look] = one(lambda scene: look in scene)
    words = {role: sources[source]["scene"][role] for role, source in played.items()}
    words.setdefault("scene", SCENES[int(rng.integers(len(SCENES)))])
    bind: dict[str, list[str]] = {}
    for role, source in played.items():
        bind.setdefault(source, []).append(words[role])
    return {"prompt": sentence(words), "bind": bind, "truth": played}


def _name(prompt: str, taken: Iterable[str]) -> str:
    name = prompt.removeprefix("a ").replace(" ", "_")
    number = sum(each == name or each.startswith(f"{name}_no_") for each in taken)
    return f"{name}_no_{number + 1}" if number else name


def _shuffled(rng: np.random.Generator, words: Sequence[T]) -> list[T]:
    return [words[place] for place in rng.permutation(len(words))]
