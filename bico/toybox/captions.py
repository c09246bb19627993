"""Captions of Toybox scenes, from varied templates.

Captions never contain exact values. About two thirds of them name attributes roughly ("striped", "orange", "slowly"),
so that the text encoder has directions along which looks vary. `drop` sometimes leaves out the subject, the scene or
the motion, so that no word learns the meaning of its neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bico.toybox.words import MOTIONS, PATTERNS, SCENES, SUBJECTS
from bico.toybox.world import Actor, Motion, Scene

# Names of the hue circle's arcs: each name applies from its hue up to the next one's.
COLOURS = (
    (0.00, "red"),
    (0.05, "orange"),
    (0.12, "yellow"),
    (0.20, "green"),
    (0.45, "cyan"),
    (0.55, "blue"),
    (0.70, "purple"),
    (0.82, "pink"),
    (0.95, "red"),
)
# Phrases for each word; the first ones are those of the benchmark's own prompts.
PLACES = {
    "beach": ("at the beach", "on a beach", "on the beach", "at a beach", "by the beach", "down at the beach"),
    "forest": ("in the forest", "in a forest", "inside a forest", "deep in the forest", "within the forest"),
    "desert": ("in the desert", "in a desert", "out in the desert", "across a desert", "somewhere in the desert"),
    "city": ("in the city", "in a city", "inside a city", "in the middle of the city", "somewhere in a city"),
    "space": ("in space", "out in space", "somewhere in space", "deep in space", "far out in space"),
}
LIGHT_PHRASES = {
    "night": ("at night", "by night", "during the night", "in the night", "late at night"),
    "sunset": ("at sunset", "during sunset", "during a sunset", "in the sunset", "around sunset"),
    "fog": ("in fog", "in the fog", "through fog", "amid the fog"),
}
STYLE_PHRASES = {
    "sketch": ("a sketch of", "a pencil sketch of", "this sketch shows", "in a sketch,", "the sketch of"),
    "sepia": ("a sepia picture of", "a sepia shot of", "this sepia image shows", "in sepia,", "the sepia picture of"),
    "poster": ("a poster of", "a bold poster of", "this poster shows", "on a poster,", "the poster of"),
}
# How a sentence begins: with the medium, with a clause, or with an adverb.
MEDIA = ("a video of", "a clip of", "footage of")
STILL_MEDIA = ("a photo of", "a picture of", "an image of")
CLAUSES = ("here is", "there is", "this is", "we see", "one sees", "look at", "the camera shows")
FRONTS = ("now,", "today,", "this time,", "once again,", "meanwhile,")
# How it ends.
TAILS = ("just now", "once more", "again", "for a while", "all the while", "as before")
STILL_TAILS = ("just now", "once more", "today", "as seen here", "as before", "in full view")
ARTICLES = ("a", "a", "a", "the", "one", "this")
VERBS = ("is", "is", "keeps", "goes on")  # between a subject and its motion, in a sentence without another verb
LINKS = ("", "", "", "that is", "that keeps", "which is", "seen")  # the same in a sentence with another verb
JOINTS = ("and", "and", "beside", "next to", "as well as")
COLOUR_NAMES = {name for _, name in COLOURS}
LOOKS = COLOUR_NAMES | {*PATTERNS, "with"}  # words that describe a subject
TURNS = {1: "clockwise", -1: "counterclockwise"}
DIRECTIONS = {"sliding": {1: "to the right", -1: "to the left"}, "spinning": TURNS, "circling": TURNS}
SOMETHING = ("something", "a thing", "an object")
BACKDROP, SKY, GROUND, EVERYWHERE, NOWHERE = -1, -2, -3, -4, -5  # topics of phrases other than actors


@dataclass(frozen=True)
class Phrase:
    """A part of a caption and where in the frame it can be seen: number of an actor, or one of the constants above."""

    text: str
    about: int


@dataclass(frozen=True)
class Word:
    """A word of a caption: its characters [start, end), the first character of the name that it describes, and the hue
    of the scene that it names, if any: "hue_a", "hue_b", "sky" or "ground".

    Names, and words that describe no name, refer to themselves.
    """

    start: int
    end: int
    said_of: int
    hue: str | None


def words(parts: list[Phrase]) -> list[Word]:
    """The words of a caption. Each word for a look or a manner refers to the name that it describes: colours and
    patterns to their subject, speed and direction to its motion, sky and ground to their place.
    """
    found, start, place = [], 0, 0
    for part in parts:
        spans = [(start + m.start(), start + m.end(), m.group()) for m in re.finditer(r"\w+", part.text)]
        place = next((span[0] for span in spans if span[2] in SCENES), place)
        name = next((span[0] for span in spans if span[2] in SUBJECTS), None)
        motion, hue = None, {SKY: "sky", GROUND: "ground"}.get(part.about, "hue_a")
        for first, end, word in spans:
            said_of = first
            if word == "with":
                hue = "hue_b"
            if part.about in (SKY, GROUND):
                said_of = place
            elif word in MOTIONS:
                motion = first
            elif motion is not None:
                said_of = motion
            elif name is not None and word in LOOKS:
                said_of = name
            found.append(Word(first, end, said_of, hue if word in COLOUR_NAMES else None))
        start += len(part.text) + 1
    return found


def colour_name(hue: float) -> str:
    """The name of a hue in 0..1."""
    return [name for start, name in COLOURS if start <= hue % 1.0][-1]


def _manner(motion: Motion, rng: np.random.Generator, detail: float) -> str:
    """A rough description of a motion, or none: its speed, extent, direction and start.

    Only what words can control can be bound to a word. Without these descriptions a path would be random.
    """
    words = [_about(motion.speed, "slowly", "quickly")]
    match motion.word:
        case "sliding":
            words.append(DIRECTIONS["sliding"][motion.direction])
        case "bouncing":
            words += [_about(motion.amplitude, "a little", "widely"), _about(motion.phase, "from below", "from above")]
        case "spinning":
            words.append(TURNS[motion.direction])
        case "circling":
            start = ("from the right", "from below", "from the left", "from above")[round(4 * motion.phase) % 4]
            words += [_about(motion.amplitude, "a little", "widely"), TURNS[motion.direction], start]
    return " ".join(word for word in words if word and rng.random() < 1.1 * detail)


def _about(value: float, low: str, high: str) -> str:
    """A word for a value in 0..1 that is close to one of the ends; none for a value in the middle."""
    return low if value < 0.35 else high if value > 0.65 else ""


def _actor(actor: Actor, rng: np.random.Generator, *, detail: float, named: bool) -> str:
    """A subject with its look."""
    if not named:
        return str(rng.choice(SOMETHING))
    adjectives = []
    if rng.random() < detail and actor.pattern != "plain":
        adjectives.append(actor.pattern)
    if rng.random() < detail:
        adjectives.append(colour_name(actor.hue_a))
    subject = _article(" ".join([*adjectives, actor.word]), str(rng.choice(ARTICLES)))
    if actor.pattern != "plain" and rng.random() < 0.5 * detail:
        subject += f" with {colour_name(actor.hue_b)}"
    return subject


def _acting(
    actor: Actor, number: int, rng: np.random.Generator, *, detail: float, named: bool, moves: bool, verb: bool
) -> list[Phrase]:
    """A subject and its motion. With `verb` the sentence still needs a verb, and the motion may also come first."""
    subject = _actor(actor, rng, detail=detail, named=named)
    if not moves or actor.motion is None:
        return [Phrase(subject, number)]
    manner = _manner(actor.motion, rng, detail)
    acts = f"{actor.motion.word}{' ' + manner if manner else ''}"
    if verb and rng.random() < 0.25:
        return [Phrase(f"{acts},", number), Phrase(subject, number)]
    link = str(rng.choice(VERBS if verb and rng.random() < 0.4 else LINKS))
    return [Phrase(" ".join(part for part in (subject, link, acts) if part), number)]


def _place(scene: Scene, rng: np.random.Generator, detail: float) -> list[Phrase]:
    """The place, sometimes with its colours."""
    parts = [Phrase(str(rng.choice(PLACES[scene.backdrop.word])), BACKDROP)]
    if rng.random() < 0.7 * detail:
        parts.append(Phrase(f"under {_article(colour_name(scene.backdrop.sky))} sky", SKY))
    if rng.random() < 0.7 * detail:
        parts.append(Phrase(f"over {colour_name(scene.backdrop.ground)} ground", GROUND))
    return parts


def _order(where: list[Phrase], light: list[Phrase], rng: np.random.Generator) -> tuple[list[Phrase], list[Phrase]]:
    """The phrases before the subject, with a comma, and those after it: place and light, in any order."""
    first = rng.random()
    if where and first < 0.3:
        before, after = where, light
    elif light and first < 0.5:
        before, after = light, where
    else:
        before, after = [], where + light if rng.random() < 0.7 else light + where
    if before:
        *rest, last = before
        before = [*rest, replace(last, text=f"{last.text},")]
    return before, after


def _article(noun: str, article: str = "a") -> str:
    return f"{'an' if article == 'a' and noun[0] in 'aeiou' else article} {noun}"


def caption(
    scene: Scene, rng: np.random.Generator, *, motion: bool = True, detail: float = 0.65, drop: float = 0.0
) -> str:
    """One caption in lower case; see `phrases`."""
    return " ".join(part.text for part in phrases(scene, rng, motion=motion, detail=detail, drop=drop))


def phrases(
    scene: Scene, rng: np.random.Generator, *, motion: bool = True, detail: float = 0.65, drop: float = 0.0
) -> list[Phrase]:
    """A caption in parts, each with its topic.

    Args:
        motion: whether motions may be named (not for a still).
        detail: chance that an attribute which can be named is named.
        drop: chance that the subject, the scene or the motion stays unnamed; at least one of them is always named.
    """
    named, placed, moves = (rng.random(3) >= drop).tolist()
    if not (named or placed):
        named = True
    where = _place(scene, rng, detail) if placed else []
    light = [Phrase(str(rng.choice(LIGHT_PHRASES[scene.light.word])), EVERYWHERE)] if scene.light else []
    before, after = _order(where, light, rng)
    opening = None
    if scene.style:
        opening = Phrase(str(rng.choice(STYLE_PHRASES[scene.style.word])), EVERYWHERE)
    elif rng.random() < 0.6:
        ways = CLAUSES if before else FRONTS + CLAUSES + 2 * (MEDIA if motion else STILL_MEDIA)
        opening = Phrase(str(rng.choice(ways)), NOWHERE)
    cast: list[Phrase] = []
    for number, actor in enumerate(scene.actors):
        verb = number == 0 and (opening is None or opening.text in FRONTS)
        if number:
            cast.append(Phrase(str(rng.choice(JOINTS)), NOWHERE))
        cast += _acting(actor, number, rng, detail=detail, named=named, moves=motion and moves, verb=verb)
    if rng.random() < 0.4:
        after.append(Phrase(str(rng.choice(TAILS if motion else STILL_TAILS)), NOWHERE))
    return [*before, *([opening] if opening else []), *cast, *after]


def sentence(words: Mapping[str, str]) -> str:
    """A prompt with only these words, in the order and with the function words of the shipped benchmark.

    Args:
        words: role -> word. Without a motion, a style or a light the prompt says nothing of it.
    """
    style = STYLE_PHRASES[words["style"]][0] if "style" in words else ""
    light = LIGHT_PHRASES[words["light"]][0] if "light" in words else ""
    parts = [style, f"a {words['subject']}", words.get("motion", ""), PLACES[words["scene"]][0], light]
    return " ".join(part for part in parts if part)


def key_words(scene: Scene) -> dict[str, list[str]]:
    """The words for the scene's concepts: spatial ones, and for a video its motion."""
    spatial = [actor.word for actor in scene.actors] + [scene.backdrop.word]
    spatial += [look.word for look in (scene.style, scene.light) if look]
    temporal = [actor.motion.word for actor in scene.actors if actor.motion]
    return {"spatial": list(dict.fromkeys(spatial)), "temporal": list(dict.fromkeys(temporal))}
