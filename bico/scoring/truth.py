"""Truth scores: a clip against the exact rendering of its composition, as the probe reads it (Toybox only).

Three mirror the paper's questions to people; their mean is truth_overall. Raw values lie in 0..1:

* concept: are the instances those of the sources? Hues, pattern, proportions, size of the subject; sky and ground of
  the scene; strength of style and light. Mean over the roles that a source is bound to.
* prompt: are the words there? Mean probability of the words that the prompt asks for.
* motion: does the subject move as it should? 1 minus the distance of its path from the true one, relative to the length
  of the true one: a still picture has 0, and so has what strays farther still. (How far has no bound: one clip that
  flies off would outweigh ten.) Where only a word says how it moves, that word's probability.

A fourth asks what nobody was asked, and is in no mean:

* clean: is the clip free of what its sources show and no word of its prompt names (`bico.scoring.unasked`)? 1 minus the
  probability of the thing that is there most probably. It is not a mean over these things, because one case has two of
  them and another nine: the same scene that leaks would cost much in one and little in another. So it tells whether
  anything leaks, not how much does. Of two scenes or subjects with the same word it knows no difference.

A calibration puts them on a common scale: 100 = the truth itself, rendered and read by the probe; 0 = another clip, the
truth of a case that shares no source, and for clean the truth itself with a source's clutter, scene and all else that
nobody asked for put in. A clip can fall a little outside: this scale is not clipped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from bico.config.schema import Config
from bico.media.reading import read_written
from bico.scoring import unasked
from bico.toybox.probe import Probe, Reading
from bico.toybox.render import render, trajectory
from bico.toybox.world import Scene

QUESTIONS = ("concept", "prompt", "motion")
CLEAN = "clean"
# Below this a case's truth cannot be told from another's, and no scale can be had.
LEAST_SPAN = 0.02


def open_probe(config: Config) -> Probe:
    """The probe of the config, without which nothing is held against a truth."""
    assert config.models.probe is not None
    return Probe.open(config.models.probe)


@dataclass(frozen=True)
class Truth:
    """What a case should show.

    Attributes:
        scene: the exact composition.
        bound: the roles that a source plays in it.
        words: role -> word, those that the case asks for.
        sources: all that it is composed of.
        leaks: what they show that nobody asked for.
    """

    scene: Scene
    bound: frozenset[str]
    words: dict[str, str]
    sources: frozenset[str]
    leaks: unasked.Things = field(default_factory=dict)

    @classmethod
    def of(cls, config: Config, case_id: str) -> Truth:
        """Reads the case's scene from `R/truth/`; those of its sources come from the config."""
        scene = Scene.from_dict(json.loads(config.paths.truth_scene(case_id).read_text()))
        case = config.cases[case_id]
        bound = frozenset(role for role, source in (case.truth or {}).items() if source is not None)
        words = asked_words(case.prompt, scene, bound)
        return cls(scene, bound, words, frozenset(case.bind), unasked.of_case(config, case_id, scene))


def asked_words(prompt: str, scene: Scene, bound: frozenset[str] = frozenset()) -> dict[str, str]:
    """role -> word, for the scene's words that are bound or stand in the prompt."""
    words = scene.words()
    return {role: word for role, word in words.items() if role in bound or re.search(rf"\b{word}\b", prompt)}


# --- raw scores -----------------------------------------------------------------------------------------------------


def hue_match(a: float, b: float) -> float:
    """1 for the same hue, 0 for opposite hues; hues lie on a circle of length 1."""
    return 1 - 2 * abs((a - b + 0.5) % 1.0 - 0.5)


def concept(reading: Reading, truth: Truth) -> float:
    """Mean match of the instances' parameters over the roles that a source plays; NaN if none has a look."""
    return _mean([_mean(list(parts.values())) for parts in concept_parts(reading, truth).values()])


def concept_parts(reading: Reading, truth: Truth) -> dict[str, dict[str, float]]:
    """role -> what of its instance is compared -> match in 0..1, for the roles with a look that a source plays."""
    roles = {"subject": _subject, "scene": _scene, "style": _look, "light": _look}
    return {role: match(reading, truth.scene, role) for role, match in roles.items() if role in truth.bound}


def prompt(reading: Reading, truth: Truth) -> float:
    """Mean probability of the words asked for; NaN if none is."""
    return _mean([reading.words[role][word] for role, word in truth.words.items()])


def motion(reading: Reading, truth: Truth) -> float:
    """Share of the true movement that the clip shows, or the probability of a motion that is only named, else NaN."""
    if "motion" in truth.bound:
        true = movement(trajectory(truth.scene)[0])
        apart = np.linalg.norm(path_error(reading, truth))
        return max(0.0, 1 - float(apart / np.linalg.norm(true)))
    return reading.words["motion"].get(truth.words.get("motion", ""), np.nan)


def clean(reading: Reading, truth: Truth) -> float:
    """Probability that nothing is there which nobody asked for; NaN if no source shows any such thing."""
    return 1 - unasked.most_probable(reading, truth.leaks) if truth.leaks else np.nan


def path_error(reading: Reading, truth: Truth) -> np.ndarray:
    """float [9]: distance in frame sides, frame by frame, of the movement that is read from the true one."""
    true = trajectory(truth.scene)[0]
    return np.linalg.norm(movement(reading.trajectory, extent=float(true[0, 2])) - movement(true), axis=1)


def movement(path: np.ndarray, extent: float | None = None) -> np.ndarray:
    """How far the subject has moved since the start, in frame sides: float [T, 5] of a trajectory [T, 4].

    Displacement of the centre; growth and turn as displacements of the subject's rim, so that all five have one unit.
    The rim stands at `extent` from the centre at the start (default: the trajectory's own).
    """
    x, y, size, angle = (path - [[*path[0, :2], 0, path[0, 3]]]).T
    extent = extent or float(size[0])
    return np.stack([x, y, extent * (size / size[0] - 1), extent * (np.cos(angle) - 1), extent * np.sin(angle)], axis=1)


def _subject(reading: Reading, scene: Scene, role: str) -> dict[str, float]:
    actor, values = scene.actors[0], reading.values
    sizes = sorted([reading.trajectory[:, 2].mean(), trajectory(scene)[0, :, 2].mean()])
    return {
        "word": reading.words[role][actor.word],
        "pattern": reading.words["pattern"][actor.pattern],
        "hue_a": hue_match(values["hue_a"], actor.hue_a),
        "hue_b": hue_match(values["hue_b"], actor.hue_b),
        "shape": 1 - abs(values["shape"] - actor.shape),
        "size": sizes[0] / sizes[1],
    }


def _scene(reading: Reading, scene: Scene, role: str) -> dict[str, float]:
    backdrop = scene.backdrop
    hues = {name: hue_match(reading.values[name], getattr(backdrop, name)) for name in ("sky", "ground")}
    return {"word": reading.words[role][backdrop.word], **hues}


def _look(reading: Reading, scene: Scene, role: str) -> dict[str, float]:
    look = getattr(scene, role)
    return {"word": reading.words[role][look.word], "amount": 1 - abs(reading.values[f"{role}_amount"] - look.amount)}


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else np.nan


def raw_scores(reading: Reading, truth: Truth) -> dict[str, float]:
    """The answers to the three questions and `clean`, in 0..1; NaN where a question does not arise."""
    answers = {"concept": concept(reading, truth), "prompt": prompt(reading, truth), "motion": motion(reading, truth)}
    return answers | {CLEAN: clean(reading, truth)}


# --- calibration ----------------------------------------------------------------------------------------------------


def read_truths(config: Config, probe: Probe) -> tuple[dict[str, Truth], dict[str, Reading]]:
    """Every case with a truth, and what the probe reads in its rendered clip, by case."""
    paths = {case_id: config.paths.truth(case_id) for case_id in config.truths}
    readings = {case_id: probe.read(read_written(path, config.media)[None])[0] for case_id, path in paths.items()}
    return {case_id: Truth.of(config, case_id) for case_id in paths}, readings


def read_spoiled(config: Config, probe: Probe, truths: dict[str, Truth]) -> dict[str, list[Reading]]:
    """case -> what the probe reads in its truth with things put in that nobody asked for: those of each source."""
    media = config.media
    return {
        case_id: [
            probe.read(render(scene, media.num_frames, media.height)[None])[0]
            for scene in unasked.spoiled(config, case_id, truth.scene)
        ]
        for case_id, truth in truths.items()
    }


def calibration(
    truths: dict[str, Truth], readings: dict[str, Reading], spoiled: dict[str, list[Reading]]
) -> dict[str, dict[str, float]]:
    """question, or "clean" -> raw ceiling and floor, means over clips; 0 where there are none.

    The ceiling is each truth read as its own answer. The floor of a question is each truth read as the answer to every
    case with which it shares no source, that of "clean" is a case's spoiled truths (`read_spoiled`).
    """
    own = [raw_scores(readings[case_id], truth) for case_id, truth in truths.items()]
    others = [
        raw_scores(reading, truth)
        for truth in truths.values()
        for shown, reading in readings.items()
        if truth.sources.isdisjoint(truths[shown].sources)
    ]
    unclean = [raw_scores(reading, truth) for case_id, truth in truths.items() for reading in spoiled[case_id]]
    return {
        question: {
            "ceiling": _average(scores[question] for scores in own),
            "floor": _average(scores[question] for scores in (unclean if question == CLEAN else others)),
        }
        for question in (*QUESTIONS, CLEAN)
    }


def _average(values: Iterable[float]) -> float:
    """Mean of those that are defined, or 0."""
    defined = [value for value in values if np.isfinite(value)]
    return float(np.mean(defined)) if defined else 0.0


def truth_scores(reading: Reading, truth: Truth, ends: dict[str, dict[str, float]]) -> dict[str, float]:
    """The truth scores on the calibrated scale; truth_overall is the mean of those of the three questions that are
    defined.
    """
    raw = raw_scores(reading, truth)
    scores = {f"truth_{question}": _scaled(raw[question], **ends[question]) for question in QUESTIONS}
    overall = _mean([score for score in scores.values() if np.isfinite(score)])
    return scores | {"truth_overall": overall, "truth_clean": _scaled(raw[CLEAN], **ends[CLEAN])}


def _scaled(raw: float, *, floor: float, ceiling: float) -> float:
    return 100 * (raw - floor) / (ceiling - floor) if ceiling - floor > LEAST_SPAN else np.nan
