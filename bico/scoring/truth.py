"""Truth scores: the probe compares a clip with the exact rendering of its composition (Toybox only).

Three scores follow the paper's questions to people; their mean is truth_overall. Raw values lie in 0..1:

* concept: are the instances those of the sources? Hues, pattern, proportions, size of the subject; sky and ground of
  the scene; strength of style and light. Mean over the roles that a source is bound to.
* prompt: does the clip show the words? Mean probability of the words that the prompt asks for.
* motion: does the subject move as it should? 1 minus the distance of its path from the true path, relative to the
  length of the true path. The score of a still clip is 0, and scores are floored there, because the distance has no
  bound: one clip whose subject flies off would outweigh ten others. Where only a word defines the motion, the score is
  the probability of that word.

A fourth score has no question in the paper, and is not part of the mean:

* clean: does the clip show nothing that its sources show but no word of its prompt names (`bico.scoring.unasked`)? 1
  minus the largest probability of such a thing. It is not a mean over things, because one case has two of them and
  another nine, so the same leak would cost much in one case and little in another. It therefore measures whether
  anything leaks, not how much. It cannot distinguish two scenes or subjects with the same word.

A calibration puts the scores on a common scale. 100 is the score of the exact rendering itself. 0 is the score of
another clip: the exact rendering of a case that shares no source, or a random scene if all cases share one. For clean 0
is that of the exact rendering with one source's clutter, scene and other unasked things added. The scale is not
clipped, so clips can lie a little outside.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from bico.config.schema import Config
from bico.config.scores import QUESTIONS
from bico.media.reading import read_written
from bico.scoring import unasked
from bico.toybox.probe import Probe, Reading
from bico.toybox.render import render, trajectory
from bico.toybox.words import names
from bico.toybox.world import Scene, sample_scene

CLEAN = "clean"
UNRELATED = 32  # scenes drawn at random
# With a smaller span the truth of a case cannot be distinguished from that of another, and there is no scale.
LEAST_SPAN = 0.02


def open_probe(config: Config) -> Probe:
    """The probe of the config, which all truth scores need."""
    assert config.models.probe is not None
    return Probe.open(config.models.probe)


@dataclass(frozen=True)
class Truth:
    """What a case should show.

    Attributes:
        scene: the exact composition.
        bound: the roles that come from a source.
        words: role -> word, for the words that the case asks for.
        sources: names of all sources of the composition.
        leaks: things that the sources show but the case does not ask for.
    """

    scene: Scene
    bound: frozenset[str]
    words: dict[str, str]
    sources: frozenset[str]
    leaks: unasked.Things = field(default_factory=dict)

    @classmethod
    def of(cls, config: Config, case_id: str) -> Truth:
        """Reads the case's scene from `results/truth/`; those of its sources come from the config."""
        scene = Scene.from_dict(json.loads(config.paths.truth_scene(case_id).read_text()))
        case = config.cases[case_id]
        bound = frozenset(role for role, source in (case.truth or {}).items() if source is not None)
        words = asked_words(case.prompt, scene, bound)
        return cls(scene, bound, words, frozenset(case.bind), unasked.of_case(config, case_id, scene))


def asked_words(prompt: str, scene: Scene, bound: frozenset[str] = frozenset()) -> dict[str, str]:
    """role -> word, for the words of the scene that are bound or in the prompt."""
    words = scene.words()
    return {role: word for role, word in words.items() if role in bound or names(prompt, word)}


# --- raw scores -----------------------------------------------------------------------------------------------------


def hue_match(a: float, b: float) -> float:
    """1 for the same hue, 0 for opposite hues; hues lie on a circle of length 1."""
    return 1 - 2 * abs((a - b + 0.5) % 1.0 - 0.5)


def concept(reading: Reading, truth: Truth) -> float:
    """Mean match of the instances' parameters over the roles that come from a source; NaN if none has a look."""
    return _mean([_mean(list(parts.values())) for parts in concept_parts(reading, truth).values()])


def concept_parts(reading: Reading, truth: Truth) -> dict[str, dict[str, float]]:
    """role -> part of its instance -> match in 0..1, for the roles with a look that come from a source."""
    roles = {"subject": _subject, "scene": _scene, "style": _look, "light": _look}
    return {role: match(reading, truth.scene, role) for role, match in roles.items() if role in truth.bound}


def prompt(reading: Reading, truth: Truth) -> float:
    """Mean probability of the words that the case asks for; NaN if there are none."""
    return _mean([reading.words[role][word] for role, word in truth.words.items()])


def motion(reading: Reading, truth: Truth) -> float:
    """Share of the true movement that the clip shows; for a motion that is only named, its probability; else NaN."""
    if "motion" in truth.bound:
        true = movement(trajectory(truth.scene)[0])
        apart = np.linalg.norm(path_error(reading, truth))
        return max(0.0, 1 - float(apart / np.linalg.norm(true)))
    return reading.words["motion"].get(truth.words.get("motion", ""), np.nan)


def clean(reading: Reading, truth: Truth) -> float:
    """Probability that the clip shows nothing unasked; NaN if no source shows any such thing."""
    return 1 - unasked.most_probable(reading, truth.leaks) if truth.leaks else np.nan


def path_error(reading: Reading, truth: Truth) -> np.ndarray:
    """float [9]: distance between the measured and the true movement in each frame, in frame sides."""
    true = trajectory(truth.scene)[0]
    return np.linalg.norm(movement(reading.trajectory, extent=float(true[0, 2])) - movement(true), axis=1)


def movement(path: np.ndarray, extent: float | None = None) -> np.ndarray:
    """Movement of the subject since the start, in frame sides: float [T, 5] for a trajectory [T, 4].

    It is the displacement of the centre, and growth and turn as displacements of the subject's rim, so that all five
    numbers have one unit. At the start the rim is at `extent` from the centre (default: that of the trajectory).
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
    """The raw scores of the three questions and `clean`, in 0..1; NaN where a question does not apply."""
    answers = {"concept": concept(reading, truth), "prompt": prompt(reading, truth), "motion": motion(reading, truth)}
    return answers | {CLEAN: clean(reading, truth)}


# --- calibration ----------------------------------------------------------------------------------------------------


def read_truths(config: Config, probe: Probe) -> tuple[dict[str, Truth], dict[str, Reading]]:
    """The truth of every case that has one, and the probe's reading of its exact rendering, by case."""
    paths = {case_id: config.paths.truth(case_id) for case_id in config.truths}
    readings = {case_id: probe.read(read_written(path, config.media)[None])[0] for case_id, path in paths.items()}
    return {case_id: Truth.of(config, case_id) for case_id in paths}, readings


def read_spoiled(config: Config, probe: Probe, truths: dict[str, Truth]) -> dict[str, list[Reading]]:
    """case -> the probe's readings of its exact rendering with the unasked things of each source added."""
    media = config.media
    return {
        case_id: [
            probe.read(render(scene, media.num_frames, media.height)[None])[0]
            for scene in unasked.spoiled(config, case_id, truth.scene)
        ]
        for case_id, truth in truths.items()
    }


def read_unrelated(config: Config, probe: Probe) -> list[Reading]:
    """The probe's readings of scenes drawn at random: the other clips of a benchmark whose cases all share a source."""
    media = config.media
    drawn = (sample_scene(np.random.default_rng([UNRELATED, number])) for number in range(UNRELATED))
    return [probe.read(render(scene, media.num_frames, media.height)[None])[0] for scene in drawn]


def calibration(
    truths: dict[str, Truth],
    readings: dict[str, Reading],
    spoiled: dict[str, list[Reading]],
    unrelated: Sequence[Reading] = (),
) -> dict[str, dict[str, float]]:
    """question, or "clean" -> raw ceiling and floor, means over clips; 0 where there are none.

    The ceiling is the score of each exact rendering for its own case. The floor of a question is its score for every
    case with which it shares no source, and that of unrelated scenes (`read_unrelated`) if any are given. The floor of
    "clean" is the score of a case's spoiled renderings (`read_spoiled`).
    """
    own = [raw_scores(readings[case_id], truth) for case_id, truth in truths.items()]
    others = [
        raw_scores(reading, truth)
        for truth in truths.values()
        for shown, reading in readings.items()
        if truth.sources.isdisjoint(truths[shown].sources)
    ]
    others += [raw_scores(reading, truth) for truth in truths.values() for reading in unrelated]
    unclean = [raw_scores(reading, truth) for case_id, truth in truths.items() for reading in spoiled[case_id]]
    return {
        question: {
            "ceiling": _average(scores[question] for scores in own),
            "floor": _average(scores[question] for scores in (unclean if question == CLEAN else others)),
        }
        for question in (*QUESTIONS, CLEAN)
    }


def _average(values: Iterable[float]) -> float:
    """Mean of the values that are not NaN; 0 if there are none."""
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
