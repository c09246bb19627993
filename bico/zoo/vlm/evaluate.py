"""Quality of the VLM's answers on held-out scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bico.config.benchmark import KeyWords
from bico.config.settings import ConceptSettings
from bico.models.vlm import Vlm
from bico.sources import concepts
from bico.sources.instructions import SHORT, Concepts
from bico.toybox.captions import key_words
from bico.toybox.render import render
from bico.toybox.words import LIGHTS, MOTIONS, SCENES, STYLES, SUBJECTS
from bico.toybox.world import FPS, Scene
from bico.zoo.data import HELD_OUT_SEED, scenes


def evaluate(folder: Path, *, count: int = 300, seed: int = HELD_OUT_SEED) -> dict[str, float]:
    """Quality on held-out scenes, as shares in 0..1.

    Returns:
        valid_json: answers of the right form, on images and clips.
        subject, scene, look, motion, exact: clips for which the words of that kind, or all words, are exactly right.
        image_...: the same for images of these scenes, in which nothing moves.
        verbatim: captions that hold all words at the first attempt.
        distinct: different captions of one scene.
    """
    settings = ConceptSettings(attempts=1, instructions="short", look="encoded")
    vlm = Vlm(folder)
    drawn = scenes(count, seed)
    clips = [render(scene) for scene in drawn]
    stills = [scene.still() for scene in drawn]
    images = [render(still, num_frames=1) for still in stills]
    of_clips, of_images = (_read(vlm, media, settings) for media in (clips, images))
    result = {
        "valid_json": float(np.mean([found is not None for found in of_clips + of_images])),
        **_right(drawn, of_clips),
        **{f"image_{kind}": share for kind, share in _right(stills, of_images).items() if kind != "motion"},
    }
    written = [_write(vlm, clip, scene, settings) for scene, clip in list(zip(drawn, clips, strict=True))[:40]]
    return result | _means(written)


def _read(vlm: Vlm, media: list[np.ndarray], settings: ConceptSettings) -> list[Concepts | None]:
    kind = "image" if len(media[0]) == 1 else "video"
    answers = vlm.answer(media, SHORT.concepts[kind], [None] * len(media), settings, FPS)
    return [concepts.parse_concepts(answer, kind) for answer in answers]


def _right(drawn: list[Scene], answers: list[Concepts | None]) -> dict[str, float]:
    """Shares of scenes whose answer holds exactly the right words of each kind."""
    words = {"subject": SUBJECTS, "scene": SCENES, "look": STYLES + LIGHTS, "motion": MOTIONS}
    rows = []
    for scene, answer in zip(drawn, answers, strict=True):
        true, told = key_words(scene), {"temporal": [], **(answer or {})}
        asked, named = ({word for group in each.values() for word in group} for each in (true, told))
        right = {kind: named & set(group) == asked & set(group) for kind, group in words.items()}
        rows.append(right | {"exact": told == true})
    return _means(rows)


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def _write(vlm: Vlm, clip: np.ndarray, scene: Scene, settings: ConceptSettings) -> dict[str, float]:
    """12 captions of a clip and one of each frame, from the true words and without a second attempt."""
    settings = settings.model_copy(update={"captions": 12})
    found = concepts.extract(clip, "video", settings, vlm, fps=FPS, key_words=KeyWords(**key_words(scene)))
    counts = found["counts"]
    return {
        "verbatim": 1 - counts["template"] / counts["asked"],
        "distinct": len(set(found["captions"])) / len(found["captions"]),
    }
