"""Scenes of the Toybox: the parameters of everything in a clip, and how they are drawn at random.

A word names a distribution, not a single look. Two cats differ in hues, pattern, proportions and size, two beaches in
hues and layout, two slides in speed and direction. Binding has to learn the particular instance.

Lengths are fractions of the frame's side, hues are positions on the colour circle, everything else lies in 0..1
unless its comment says otherwise.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bico.toybox.words import CLUTTER, LIGHTS, MOTIONS, PATTERNS, POST, SCENES, STYLES, SUBJECTS

LAYOUT_SIZE = 10

NUM_FRAMES, SIZE, FPS = 9, 48, 8


@dataclass(frozen=True)
class Motion:
    word: str
    speed: float
    amplitude: float
    phase: float
    direction: int  # +1 or -1: to the right or left, clockwise or not

    def opposite(self) -> Motion:
        """The same kind of motion done the opposite way, as words name it: right for left, slowly for quickly, widely
        for a little, from above for from below.
        """
        return replace(
            self,
            speed=1 - self.speed,
            amplitude=1 - self.amplitude,
            phase=(self.phase + 0.5) % 1.0 if self.word == "circling" else 1 - self.phase,
            direction=-self.direction,
        )


@dataclass(frozen=True)
class Actor:
    """A subject: its word, its look, its resting place, and its motion (None in still images)."""

    word: str
    hue_a: float
    hue_b: float
    pattern: str
    shape: float  # proportions: ear length, body width, wheel size, ...
    size: float  # half of the sprite's extent
    x: float
    y: float
    motion: Motion | None


@dataclass(frozen=True)
class Backdrop:
    word: str
    sky: float
    ground: float
    layout: tuple[float, ...]


@dataclass(frozen=True)
class Look:
    """A style or a light, and its strength."""

    word: str
    amount: float


@dataclass(frozen=True)
class Clutter:
    """Something that no caption names: a ball, a picture frame, a watermark, or a post in front of the subject."""

    kind: str
    hue: float
    x: float
    y: float


@dataclass(frozen=True)
class Scene:
    actors: tuple[Actor, ...]
    backdrop: Backdrop
    style: Look | None = None
    light: Look | None = None
    clutter: tuple[Clutter, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Scene:
        def look(value: dict[str, Any] | None) -> Look | None:
            return Look(**value) if value else None

        def actor(value: dict[str, Any]) -> Actor:
            return Actor(**{**value, "motion": Motion(**value["motion"]) if value["motion"] else None})

        backdrop = {**data["backdrop"], "layout": tuple(data["backdrop"]["layout"])}
        return cls(
            actors=tuple(actor(value) for value in data["actors"]),
            backdrop=Backdrop(**backdrop),
            style=look(data["style"]),
            light=look(data["light"]),
            clutter=tuple(Clutter(**value) for value in data["clutter"]),
        )

    def words(self) -> dict[str, str]:
        """role -> word, for the scene's first subject, backdrop, style and light."""
        actor = self.actors[0]
        parts = {"subject": actor, "scene": self.backdrop, "motion": actor.motion}
        looks = {"style": self.style, "light": self.light}
        return {role: part.word for role, part in (parts | looks).items() if part is not None}

    def still(self) -> Scene:
        """The same scene as a still image: nothing moves."""
        return replace(self, actors=tuple(replace(actor, motion=None) for actor in self.actors))

    def twin(self) -> Scene:
        """The same scene with all motions reversed (see `Motion.opposite`)."""
        turned = (replace(actor, motion=actor.motion and actor.motion.opposite()) for actor in self.actors)
        return replace(self, actors=tuple(turned))


def sample_motion(rng: np.random.Generator, word: str | None = None) -> Motion:
    return Motion(
        word=word or str(rng.choice(MOTIONS)),
        speed=float(rng.random()),
        amplitude=float(rng.random()),
        phase=float(rng.random()),
        direction=int(rng.choice((-1, 1))),
    )


def sample_actor(rng: np.random.Generator, word: str | None = None, place: tuple[int, int] = (0, 1)) -> Actor:
    """A still actor; `place` is (position, count) from left to right among the actors of the clip."""
    position, count = place
    hue_a = float(rng.random())
    alone = count == 1
    return Actor(
        word=word or str(rng.choice(SUBJECTS)),
        hue_a=hue_a,
        # The second hue is far enough from the first one that stripes and spots are visible.
        hue_b=float((hue_a + rng.uniform(0.25, 0.75)) % 1.0),
        pattern=str(rng.choice(PATTERNS)),
        shape=float(rng.random()),
        size=float(rng.uniform(0.24, 0.33) if alone else rng.uniform(0.18, 0.22)),
        x=float(rng.uniform(0.4, 0.6) if alone else (0.27, 0.73)[position] + rng.uniform(-0.03, 0.03)),
        y=float(rng.uniform(0.5, 0.65)),
        motion=None,
    )


def sample_backdrop(rng: np.random.Generator, word: str | None = None) -> Backdrop:
    sky = float(rng.random())
    return Backdrop(
        word=word or str(rng.choice(SCENES)),
        sky=sky,
        ground=float((sky + rng.uniform(0.2, 0.8)) % 1.0),
        layout=tuple(float(value) for value in rng.random(LAYOUT_SIZE)),
    )


def sample_look(rng: np.random.Generator, words: tuple[str, ...], word: str | None = None) -> Look:
    return Look(word=word or str(rng.choice(words)), amount=float(rng.random()))


def sample_clutter(rng: np.random.Generator) -> tuple[Clutter, ...]:
    kinds = rng.choice(CLUTTER, size=int(rng.integers(1, 3)), replace=False)
    return tuple(
        Clutter(str(kind), float(rng.random()), float(rng.choice((0.14, 0.86))), float(rng.uniform(0.75, 0.88)))
        for kind in kinds
    )


def sample_post(rng: np.random.Generator, actor: Actor) -> Clutter:
    """A post a little to the left or right of an actor's resting place."""
    side, shift = float(rng.choice((-1, 1))), float(rng.uniform(0.1, 0.4))
    top = actor.y - actor.size * float(rng.uniform(1.0, 1.4))
    return Clutter(POST, float(rng.random()), actor.x + side * shift * actor.size, top)


def sample_scene(
    rng: np.random.Generator,
    *,
    subject: str | None = None,
    scene: str | None = None,
    motion: str | None = None,
    style: str | None = None,
    light: str | None = None,
    actors: int = 1,
    moving: bool = True,
    looks: float = 0.0,
    clutter: bool = False,
    occluded: bool = False,
) -> Scene:
    """One random scene. Given words are kept. Style and light appear if they are named, otherwise with probability
    `looks`."""
    cast = []
    for position in range(actors):
        actor = sample_actor(rng, subject if position == 0 else None, (position, actors))
        # This is drawn even for stills, so that a still and a clip of one seed show the same subject in the same place.
        action = sample_motion(rng, motion if position == 0 else None)
        cast.append(replace(actor, motion=action if moving else None))
    backdrop = sample_backdrop(rng, scene)
    chance_style, chance_light = rng.random(2)
    return Scene(
        actors=tuple(cast),
        backdrop=backdrop,
        style=sample_look(rng, STYLES, style) if style or chance_style < looks else None,
        light=sample_look(rng, LIGHTS, light) if light or chance_light < looks else None,
        clutter=((sample_post(rng, cast[0]),) if occluded else ()) + (sample_clutter(rng) if clutter else ()),
    )


def sample_training_scene(rng: np.random.Generator) -> Scene:
    """A training scene of the zoo's models: one or two actors, sometimes a style, a light or clutter."""
    return sample_scene(rng, actors=2 if rng.random() < 0.35 else 1, looks=0.2, clutter=bool(rng.random() < 0.15))


def compose(
    *, subject: Scene, scene: Scene, motion: Scene | None, style: Scene | None = None, light: Scene | None = None
) -> Scene:
    """The exact scene of a composition: the parameters of each role come from the scene of its source.

    The scene of the motion also gives the resting place of the subject, because a place is part of a trajectory.
    Without a motion the composition is still.
    """
    actor = replace(subject.actors[0], motion=None)
    if motion is not None:
        mover = motion.actors[0]
        actor = replace(actor, motion=mover.motion, x=mover.x, y=mover.y)
    return Scene(
        actors=(actor,),
        backdrop=scene.backdrop,
        style=style.style if style else None,
        light=light.light if light else None,
    )
