"""What nobody asked for: which things a case's sources show, and what a clip scores that has them or lacks them."""

from dataclasses import replace

import numpy as np
import pytest
import toy
from conftest import ROOT

from bico.scoring import truth, unasked
from bico.toybox.probe import Probe, Reading
from bico.toybox.render import render
from bico.toybox.scenes import scene_of, write_truth
from bico.toybox.words import CLUTTER
from bico.toybox.world import Clutter, Look

PROBE = ROOT / "data/toybox/zoo/probe"
needs_probe = pytest.mark.skipif(not PROBE.exists(), reason="needs data/toybox/zoo/probe")
SOURCES = {
    "red_cat": {"kind": "image", "scene": {"seed": 0, "subject": "cat", "scene": "beach", "clutter": True}},
    "bouncing_car": {
        "kind": "video",
        "scene": {"seed": 11, "subject": "car", "scene": "desert", "motion": "bouncing", "clutter": True},
    },
    "night_robot": {"kind": "image", "scene": {"seed": 2, "subject": "robot", "scene": "city", "light": "night"}},
}
CASES = {
    "cat_bounces": {
        "prompt": "a cat bouncing in the forest",
        "bind": {"red_cat": ["cat"], "bouncing_car": ["bouncing"]},
        "truth": {"subject": "red_cat", "motion": "bouncing_car"},
    },
    "robot_rests": {
        "prompt": "a robot in the city at night",
        "bind": {"night_robot": ["robot"]},
        "truth": {"subject": "night_robot"},
    },
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = toy.config(tmp_path_factory.mktemp("unasked"), sources=SOURCES, cases=CASES)
    for case in CASES:
        write_truth(config, case)
    return config


@pytest.fixture(scope="module")
def calibrated(config):
    """The probe, every case's truth, and both ends of the scale."""
    probe = Probe.open(PROBE)
    truths, readings = truth.read_truths(config, probe)
    return probe, truths, truth.calibration(truths, readings, truth.read_spoiled(config, probe, truths))


def kinds(config, source: str) -> set[str]:
    return {item.kind for item in scene_of(config.sources[source]).clutter}


def test_unasked_is_what_neither_the_prompt_nor_the_truth_has(config):
    things = truth.Truth.of(config, "cat_bounces").leaks
    assert things == {
        "subject": {"car"},
        "scene": {"beach", "desert"},
        "clutter": kinds(config, "red_cat") | kinds(config, "bouncing_car"),
    }


def test_what_the_prompt_says_is_asked_for_even_if_it_is_not_bound(config):
    assert truth.Truth.of(config, "robot_rests").leaks == {}  # its city and its night are words of the prompt


def test_a_leaked_light_is_unasked_and_one_that_is_bound_is_not(config):
    scene = truth.Truth.of(config, "cat_bounces").scene
    dark = replace(scene, light=Look("night", 0.5))
    assert unasked.of_source(dark, scene, "a cat") == {"light": {"night"}}
    assert unasked.of_source(dark, dark, "a cat") == {}


def test_a_post_is_not_among_the_things_because_the_probe_does_not_know_it(config):
    scene, right = scene_of(config.sources["red_cat"]), truth.Truth.of(config, "cat_bounces").scene
    occluded = replace(scene, clutter=(Clutter("post", 0.9, 0.5, 0.3), *scene.clutter))
    assert unasked.of_source(occluded, right, "a cat") == unasked.of_source(scene, right, "a cat")


def test_words_of_one_role_add_up_and_the_most_probable_thing_counts():
    words = {"scene": {"beach": 0.3, "desert": 0.4, "forest": 0.3}}
    reading = Reading(words, {}, np.zeros((9, 4)), {"ball": 0.6, "frame": 0.9})
    scenes = {"scene": frozenset({"beach", "desert"})}
    assert unasked.most_probable(reading, scenes) == pytest.approx(0.7)
    assert unasked.most_probable(reading, scenes | {"clutter": frozenset({"ball"})}) == pytest.approx(0.7)
    assert unasked.most_probable(reading, scenes | {"clutter": frozenset({"frame"})}) == pytest.approx(0.9)


def test_a_spoiled_truth_has_the_things_of_one_source_and_moves_as_the_truth_does(config):
    right = truth.Truth.of(config, "cat_bounces").scene
    of_cat, of_car = unasked.spoiled(config, "cat_bounces", right)
    assert of_cat.words() == right.words() | {"scene": "beach"} and {c.kind for c in of_cat.clutter} == kinds(
        config, "red_cat"
    )
    assert of_car.words() == right.words() | {"subject": "car", "scene": "desert"}
    assert of_car.actors[0].motion == right.actors[0].motion
    assert list(unasked.spoiled(config, "robot_rests", truth.Truth.of(config, "robot_rests").scene)) == []


@needs_probe
@pytest.mark.parametrize("thing", [*CLUTTER, "scene", "subject"])
def test_a_clip_with_one_thing_that_nobody_asked_for_is_near_0_and_without_it_near_100(config, calibrated, thing):
    probe, truths, ends = calibrated
    wanted = truths["cat_bounces"]
    # Whatever kinds these sources happen to have, each is tried.
    wanted = replace(wanted, leaks=wanted.leaks | {"clutter": frozenset(CLUTTER)})
    right, leaked = wanted.scene, scene_of(config.sources["bouncing_car"])
    spoiled = {
        "scene": lambda: replace(right, backdrop=leaked.backdrop),
        "subject": lambda: replace(right, actors=(replace(leaked.actors[0], motion=right.actors[0].motion),)),
    }.get(thing, lambda: replace(right, clutter=(Clutter(thing, 0.9, 0.14, 0.8),)))()
    without, with_it = (
        truth.truth_scores(reading, wanted, ends) for reading in probe.read(np.stack([render(right), render(spoiled)]))
    )
    assert without["truth_clean"] > 90
    assert with_it["truth_clean"] < 10
    three = [with_it[f"truth_{question}"] for question in truth.QUESTIONS]
    assert with_it["truth_overall"] == pytest.approx(np.nanmean(three))  # in which the fourth has no part


@needs_probe
def test_the_scale_goes_from_a_spoiled_truth_to_the_truth(calibrated):
    _, _, ends = calibrated
    assert ends["clean"]["floor"] < 0.1 and ends["clean"]["ceiling"] > 0.9


@needs_probe
def test_a_case_with_nothing_unasked_has_no_such_score_and_all_others(calibrated):
    probe, truths, ends = calibrated
    wanted = truths["robot_rests"]
    scores = truth.truth_scores(probe.read(render(wanted.scene)[None])[0], wanted, ends)
    assert np.isnan(scores["truth_clean"])
    assert scores["truth_overall"] > 90
