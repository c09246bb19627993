"""Exact renderings with one known fault, in doses, to test which faults a score detects.

A fault with a size is a share (the dose) of the largest change. A fault without a size, such as another word, changes
the last frames of the clip, and the dose is their share. Everything else stays as in the exact rendering.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np

from bico.config.schema import Config
from bico.toybox.render import render, trajectory
from bico.toybox.scenes import scene_of, truth_of
from bico.toybox.words import MOTIONS, PATTERNS, SUBJECTS
from bico.toybox.world import Scene, sample_actor

DOSES = (0.25, 0.5, 0.75, 1.0)
EXACT = "exact"
"""Name in place of a fault for the unchanged rendering."""
Question = Literal["concept", "prompt", "motion"]


@dataclass(frozen=True)
class Clip:
    """The exact rendering that is changed.

    Attributes:
        scene: the composition.
        source: the scene of one of its sources.
        num_frames, size: of its clip.
    """

    scene: Scene
    source: Scene
    num_frames: int
    size: int

    def frames(self, scene: Scene | None = None, paths: np.ndarray | None = None) -> np.ndarray:
        """uint8 [T, H, W, 3] of a changed scene, or with the subjects on other paths, float [actors, T, 4]."""
        return render(scene or self.scene, self.num_frames, self.size, paths)

    def with_subject(self, **changes: object) -> Scene:
        """The scene, with values of its subject changed."""
        first, *others = self.scene.actors
        return replace(self.scene, actors=(replace(first, **changes), *others))  # pyright: ignore[reportArgumentType]


def hue(clip: Clip, dose: float) -> np.ndarray:
    """Both hues of the subject, up to their opposites."""
    first = clip.scene.actors[0]
    return clip.frames(clip.with_subject(hue_a=(first.hue_a + dose / 2) % 1, hue_b=(first.hue_b + dose / 2) % 1))


def pattern(clip: Clip, dose: float) -> np.ndarray:
    """The subject's pattern is another one, from some frame on."""
    return _from_some_frame_on(clip, clip.with_subject(pattern=_next(PATTERNS, clip.scene.actors[0].pattern)), dose)


def size(clip: Clip, dose: float) -> np.ndarray:
    """The subject is larger, up to 1.6 times as wide."""
    return clip.frames(clip.with_subject(size=clip.scene.actors[0].size * (1 + 0.6 * dose)))


def scene(clip: Clip, dose: float) -> np.ndarray:
    """The hues of sky and ground, up to their opposites."""
    backdrop = clip.scene.backdrop
    moved = replace(backdrop, sky=(backdrop.sky + dose / 2) % 1, ground=(backdrop.ground + dose / 2) % 1)
    return clip.frames(replace(clip.scene, backdrop=moved))


def light(clip: Clip, dose: float) -> np.ndarray:
    """The light fades: frames are mixed from those with it and those without."""
    mixed = (1 - dose) * clip.frames().astype(np.float32) + dose * clip.frames(replace(clip.scene, light=None))
    return np.rint(mixed).astype(np.uint8)


def subject(clip: Clip, dose: float) -> np.ndarray:
    """Another subject moves in its place, from some frame on."""
    first = clip.scene.actors[0]
    other = sample_actor(np.random.default_rng(0), _next(SUBJECTS, first.word))
    other = replace(other, motion=first.motion, x=first.x, y=first.y)
    return _from_some_frame_on(clip, replace(clip.scene, actors=(other, *clip.scene.actors[1:])), dose)


def path(clip: Clip, dose: float) -> np.ndarray:
    """The subject's path approaches that of another motion, and equals it at dose 1."""
    first = clip.scene.actors[0]
    assert first.motion is not None
    other = clip.with_subject(motion=replace(first.motion, word=_next(MOTIONS, first.motion.word)))
    true, wrong = (trajectory(each, clip.num_frames) for each in (clip.scene, other))
    return clip.frames(paths=(1 - dose) * true + dose * wrong)


def speed(clip: Clip, dose: float) -> np.ndarray:
    """The subject moves on its path more slowly, down to a quarter of its speed.

    A periodic motion may come closer to its right place again, so a larger dose is not always worse.
    """
    return clip.frames(paths=_at(clip, np.linspace(0, 1, clip.num_frames) * (1 - 0.75 * dose)))


def frozen(clip: Clip, dose: float) -> np.ndarray:
    """The subject stops at some frame; at dose 1 it never moves."""
    return clip.frames(paths=_at(clip, np.minimum(np.linspace(0, 1, clip.num_frames), 1 - dose)))


def copy(clip: Clip, dose: float) -> np.ndarray:
    """A source's own frames are shown, from some frame on."""
    return _from_some_frame_on(clip, clip.source, dose)


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes:
        change: returns the frames of a clip with a dose of the fault in 0..1.
        role: role that a source must have in the case; None = the fault is possible in any case.
        about: questions to people for which a clip with the fault is worse.
    """

    change: Callable[[Clip, float], np.ndarray]
    role: str | None
    about: tuple[Question, ...]


FAULTS = {
    "hue": Fault(hue, "subject", ("concept",)),
    "pattern": Fault(pattern, "subject", ("concept",)),
    "size": Fault(size, "subject", ("concept",)),
    "scene": Fault(scene, "scene", ("concept",)),
    "light": Fault(light, "light", ("concept", "prompt")),
    "subject": Fault(subject, None, ("concept", "prompt")),
    "copy": Fault(copy, None, ("concept", "prompt", "motion")),
    "path": Fault(path, "motion", ("prompt", "motion")),
    "speed": Fault(speed, "motion", ("motion",)),
    "frozen": Fault(frozen, "motion", ("motion",)),
}


def clip_of(config: Config, case: str) -> Clip:
    """The exact rendering of a case, with the first of its sources that is a Toybox scene."""
    sources = (config.sources[source] for source in config.cases[case].bind)
    source = next(scene_of(entry) for entry in sources if entry.scene)
    return Clip(truth_of(config, case), source, config.media.num_frames, config.media.height)


def faults_of(config: Config, case: str) -> list[str]:
    """Names of the faults that are possible in a case."""
    played = {role for role, source in (config.cases[case].truth or {}).items() if source}
    return [name for name, fault in FAULTS.items() if fault.role is None or fault.role in played]


def dosed_clips(config: Config) -> list[tuple[str, str, float]]:
    """(case, fault, dose) of all clips: for each case the exact rendering, and every dose of its faults."""
    rendered = {name for name, entry in config.sources.items() if entry.scene}
    return [
        (case, fault, dose)
        for case in config.truths
        if rendered & set(config.cases[case].bind)
        for fault, dose in [(EXACT, 0.0), *product(faults_of(config, case), DOSES)]
    ]


def _from_some_frame_on(clip: Clip, other: Scene, dose: float) -> np.ndarray:
    """The exact rendering, followed by frames of another scene, whose share is the dose."""
    first = clip.num_frames - round(dose * clip.num_frames)
    return np.concatenate([clip.frames()[:first], clip.frames(other)[first:]])


def _at(clip: Clip, times: np.ndarray) -> np.ndarray:
    """The paths of the scene at other times in 0..1, interpolated linearly between frames."""
    steps = np.linspace(0, 1, clip.num_frames)
    return np.apply_along_axis(
        lambda values: np.interp(times, steps, values), 1, trajectory(clip.scene, clip.num_frames)
    )


def _next(words: tuple[str, ...], word: str) -> str:
    return words[(words.index(word) + 1) % len(words)]
