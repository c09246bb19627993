"""Quality of the answers of the VLM, and of the one that answers yes or no, on held-out scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bico.config.benchmark import KeyWords
from bico.config.settings import ConceptSettings
from bico.models.vlm import Vlm
from bico.sources import concepts
from bico.sources.instructions import SHORT, Concepts, question_about
from bico.toybox.captions import key_words
from bico.toybox.render import render
from bico.toybox.words import LIGHTS, MOTIONS, SCENES, STYLES, SUBJECTS
from bico.toybox.world import FPS, NUM_FRAMES, Scene
from bico.zoo.data import HELD_OUT_SEED, scenes
from bico.zoo.vlm.questions import false_phrase, true_phrase

KINDS = {"subject": SUBJECTS, "scene": SCENES, "look": STYLES + LIGHTS, "motion": MOTIONS}


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
    rows = []
    for scene, answer in zip(drawn, answers, strict=True):
        true, found = key_words(scene), {"temporal": [], **(answer or {})}
        asked, named = ({word for group in each.values() for word in group} for each in (true, found))
        right = {kind: named & set(group) == asked & set(group) for kind, group in KINDS.items()}
        rows.append(right | {"exact": found == true})
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


def evaluate_yes(folder: Path, *, count: int = 300, seed: int = HELD_OUT_SEED) -> dict[str, float]:
    """Quality of the probabilities of yes on held-out scenes. Half of the answers are yes, except for `still_motion`.

    Returns:
        subject, scene, look, motion: accuracy in 0..1 on clips, of questions about single words of that kind: each word
            of a scene, asked about it and about another scene that lacks it.
        phrase: the same for phrases as in training, which may have several words.
        auc_...: area under the ROC curve of the probability, for the same questions.
        image_...: the same for images of these scenes.
        still_motion: share of no about the motion of a scene, asked about an image and a clip in which nothing moves.
    """
    vlm, drawn = Vlm(folder), scenes(count, seed)
    stills = [scene.still() for scene in drawn]
    figures = {}
    for prefix, shown, frames in (("", drawn, NUM_FRAMES), ("image_", stills, 1)):
        media = [render(scene, num_frames=frames) for scene in shown]
        asked = {kind: single_words(shown, group) for kind, group in KINDS.items()}
        asked["phrase"] = phrases(shown, np.random.default_rng(seed))
        rows = sorted((*question, kind) for kind, questions in asked.items() for question in questions)
        chances = _chances(vlm, media, [(index, text) for index, text, *_ in rows])
        for kind in [kind for kind, questions in asked.items() if questions]:  # an image has no motion
            answers = [(chance, row[2]) for chance, row in zip(chances, rows, strict=True) if row[3] == kind]
            figures |= {f"{prefix}{measure}": value for measure, value in _quality(kind, *np.array(answers).T).items()}
    motions = [
        (index, actor.motion.word) for index, scene in enumerate(drawn) for actor in scene.actors if actor.motion
    ]
    chances = [
        _chances(vlm, [render(still, num_frames=frames) for still in stills], motions) for frames in (1, NUM_FRAMES)
    ]
    return figures | {"still_motion": float(np.mean(np.array(chances) < 0.5))}


def single_words(shown: Sequence[Scene], group: Sequence[str]) -> list[tuple[int, str, bool]]:
    """(scene, word, whether it is there): every word of the group, of its scene and of the next one that lacks it."""
    words = [{word for found in key_words(scene).values() for word in found} for scene in shown]
    asked = []
    for index, own in enumerate(words):
        for word in sorted(own & set(group)):
            others = ((index + step) % len(words) for step in range(1, len(words)))
            asked += [(index, word, True), (next(other for other in others if word not in words[other]), word, False)]
    return sorted(asked)


def phrases(shown: Sequence[Scene], rng: np.random.Generator) -> list[tuple[int, str, bool]]:
    """(scene, phrase, whether it is there): one phrase of each."""
    return [
        (index, say(scene, rng), answer)
        for index, scene in enumerate(shown)
        for say, answer in ((true_phrase, True), (false_phrase, False))
    ]


def _chances(vlm: Vlm, media: Sequence[np.ndarray], asked: Sequence[tuple[int, str]]) -> np.ndarray:
    """The probability of yes for each (number of an image or clip, phrase)."""
    questions = [question_about(text, still=len(media[index]) == 1) for index, text in asked]
    return np.array(vlm.yes([media[index] for index, _ in asked], questions, FPS, "encoded"))


def _quality(kind: str, chances: np.ndarray, answers: np.ndarray) -> dict[str, float]:
    """The accuracy, and the area under the ROC curve: how often a true phrase is more probable than a false one."""
    above = np.subtract.outer(chances[answers == 1], chances[answers == 0])
    return {
        kind: float(np.mean((chances > 0.5) == answers)),
        f"auc_{kind}": float(np.mean((above > 0) + 0.5 * (above == 0))),
    }
