"""Each score moves with the fault that it is for, and is blind where it says so."""

from dataclasses import replace

import numpy as np
import pytest
import toy
from conftest import ROOT, needs_zoo

from bico.config.scores import settings_of_score
from bico.core.errors import InputError
from bico.models.vlm import Vlm
from bico.scoring.foreground import cut_out, moving, open_attention
from bico.scoring.judges import Judges
from bico.scoring.protocol import Measured
from bico.toybox.render import masks, render
from bico.toybox.world import Motion, Scene

ZOO = ROOT / "data" / "toybox" / "zoo"
CASE = "cat_bounces"
MOTION = {"bouncing_car": ["bouncing"]}  # its key word for motion


@pytest.fixture
def config(tmp_path):
    return toy.config(tmp_path, models={name: str(ZOO / name) for name in ("wan", "vlm", "clip", "dino")})


def value(config, score: str, frames: np.ndarray, case: str = CASE, **settings: object) -> float | None:
    clip = toy.scored_clip(config, case, frames, MOTION)
    (measured,) = toy.opened(config, score, **settings).measure(clip).values.values() or [None]
    return measured


def with_another_subject(scene: Scene, other: Scene) -> np.ndarray:
    actor = scene.actors[0]
    return render(replace(scene, actors=(replace(other.actors[0], motion=actor.motion, x=actor.x, y=actor.y),)))


def sliding(config) -> np.ndarray:
    actor = toy.truth_scene(config, CASE).actors[0]
    return render(
        replace(
            toy.truth_scene(config, CASE),
            actors=(replace(actor, motion=Motion("sliding", speed=0.5, amplitude=0.5, phase=0.0, direction=1)),),
        )
    )


SHUFFLED = np.random.default_rng(0).permutation(9)


@needs_zoo
@pytest.mark.parametrize("score", ["clip_segments", "dino_foreground"])
def test_another_subject_costs_points(config, score):
    subjects = dict(zip(toy.CASES, ("old_robot", "big_fish", "red_cat"), strict=True))
    costs = []
    for case, other in subjects.items():
        scene = toy.truth_scene(config, case)
        wrong = with_another_subject(scene, toy.source_scene(config, other))
        costs.append(value(config, score, render(scene), case) - value(config, score, wrong, case))
    assert np.mean(costs) > 2


@needs_zoo
def test_clip_by_segment_is_blind_to_the_order_of_frames(config):
    right = render(toy.truth_scene(config, CASE))
    expected = value(config, "clip_segments", right)
    assert value(config, "clip_segments", right[SHUFFLED]) == pytest.approx(expected, abs=0.01)


@needs_zoo
@pytest.mark.parametrize("score", ["temporal_consistency", "smoothness"])
def test_shuffled_frames_cost_points_and_a_still_clip_has_100(config, score):
    right = sliding(config)
    assert value(config, score, right[SHUFFLED]) < value(config, score, right)
    assert value(config, score, right[:1].repeat(9, axis=0)) == pytest.approx(100, abs=0.01)
    assert value(config, score, right[:1]) == 100


@needs_zoo
@pytest.mark.parametrize("score", ["temporal_consistency", "smoothness"])
def test_what_a_clip_shows_is_not_asked(config, score):
    right = sliding(config)
    clip = toy.scored_clip(config, CASE, right)
    other = replace(clip, prompt="a fish in space", bind={"red_cat": ["fish"]})
    opened = toy.opened(config, score)
    assert opened.measure(clip) == opened.measure(other)


# --- the foreground -------------------------------------------------------------------------------------------------


@needs_zoo
def test_the_foreground_is_where_the_renderer_draws_the_subject(config):
    scene = toy.truth_scene(config, CASE)
    clip, true = render(scene), masks(scene)[0]
    found = open_attention(config, "cpu").foreground(clip, config.cases[CASE].prompt, {"it": "cat", "behind": "beach"})
    overlap = {key: (shape & true).sum() / (shape | true).sum() for key, shape in found.items()}
    assert overlap["it"] > 0.5 > 0.2 > overlap["behind"]
    assert (moving(clip) & true).sum() / moving(clip).sum() > 0.5
    assert moving(clip[:1]).all()


def test_a_thing_is_cut_out_as_a_square_within_the_frame():
    frames = np.arange(2 * 6 * 8 * 3, dtype=np.uint8).reshape(2, 6, 8, 3)
    shapes = np.zeros((2, 6, 8), bool)
    shapes[0, 4:6, 0:4] = True
    first, second = cut_out(frames, shapes)
    assert np.array_equal(first, frames[0, 2:6, 0:4])  # a square of 4 that stays within the frame
    assert np.array_equal(second, frames[1])  # no foreground


@needs_zoo
@pytest.mark.parametrize("foreground", ["attention", "motion"])
def test_a_case_that_binds_only_motion_has_no_foreground(config, foreground):
    case = config.cases[CASE].model_copy(update={"bind": {"bouncing_car": ["bouncing"]}})
    bare = config.model_copy(update={"cases": {CASE: case}})
    assert value(bare, "dino_foreground", render(toy.truth_scene(config, CASE)), foreground=foreground) is None


@needs_zoo
def test_a_thing_that_the_vlm_also_names_in_a_motion_is_a_thing(config):
    clip = toy.scored_clip(config, CASE, render(toy.truth_scene(config, CASE)))
    score = toy.opened(config, "dino_foreground", foreground="motion")
    car = replace(clip.sources["bouncing_car"], spatial=["a red car"], temporal=["car bouncing up and down"])
    for phrase, seen in (("a car", True), ("bouncing", False)):
        measured = score.measure(replace(clip, bind={"bouncing_car": [phrase]}, sources={"bouncing_car": car}))
        assert bool(measured.values) == seen


@needs_zoo
def test_a_mask_of_the_user_says_what_the_thing_in_a_source_is(config):
    clip = toy.scored_clip(config, CASE, render(toy.truth_scene(config, CASE)), MOTION)
    score = toy.opened(config, "dino_foreground", foreground="motion")
    picture = clip.sources["red_cat"]
    masked = replace(picture, masks=masks(toy.source_scene(config, "red_cat"), 1)[0].astype(np.float32))
    whole, cut = (score.measure(replace(clip, sources={**clip.sources, "red_cat": each})) for each in (picture, masked))
    assert cut.values["dino_foreground"] > whole.values["dino_foreground"]


# --- VQAScore -------------------------------------------------------------------------------------------------------


def test_vqa_asks_for_each_phrase_and_is_the_mean_of_the_answers(config, monkeypatch):
    asked = []

    def yes(self, media, questions, fps, look):
        asked.append((len(media), list(questions), fps, look))
        return [0.9, 0.3, 0.6]

    monkeypatch.setattr(Vlm, "__init__", lambda self, folder, device: None)
    monkeypatch.setattr(Vlm, "yes", yes)
    assert value(config, "vqa", render(toy.truth_scene(config, CASE)), look="encoded") == pytest.approx(60)
    ((count, questions, fps, look),) = asked
    assert count == 3 and fps == 8 and look == "encoded"
    assert [word in question for word, question in zip(("cat", "beach", "bouncing"), questions, strict=True)] == [
        True
    ] * 3


# --- all scores of a config -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"smoothness": float("nan")},
            r"scoring.scores.smoothness: case a, seed 1: smoothness is nan: expected a finite",
        ),
        (
            {"smooth": 1.0},
            r"bico/scoring/scores/smoothness.py: it gives 'smooth': expected one of its COLUMNS \(smooth",
        ),
    ],
)
def test_a_value_that_is_no_number_is_one_line_and_never_a_cell(config, monkeypatch, values, expected):
    judges = Judges(config, {"smoothness": settings_of_score("smoothness")()}, "cpu")
    monkeypatch.setattr(judges.opened["smoothness"], "measure", lambda clip: Measured(values))
    with pytest.raises(InputError, match=expected):
        judges.score(toy.scored_clip(config, CASE, render(toy.truth_scene(config, CASE))), "case a, seed 1")


@needs_zoo
def test_models_and_features_are_shared_between_scores(config, monkeypatch):
    from bico.scoring.clip_judge import ClipJudge

    made, seen = [], []
    opening, features = ClipJudge.__init__, ClipJudge.features
    monkeypatch.setattr(ClipJudge, "__init__", lambda self, *a, **k: made.append(1) or opening(self, *a, **k))
    monkeypatch.setattr(ClipJudge, "features", lambda self, frames: seen.append(1) or features(self, frames))
    scores = {name: settings_of_score(name)() for name in ("clip_t", "clip_segments", "temporal_consistency")}
    judges = Judges(config, scores, "cpu")
    for _ in range(2):
        judges.score(toy.scored_clip(config, CASE, render(toy.truth_scene(config, CASE))), "a clip")
    assert len(made) == 1 and len(seen) == 2
