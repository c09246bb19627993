"""Exact renderings with one thing wrong: what a dose changes, what it leaves alone, and which cases it can befall."""

import numpy as np
import pytest
import toy

from bico.toybox import faults
from bico.toybox.faults import DOSES, EXACT, FAULTS


@pytest.fixture
def clip(tmp_path):
    return faults.clip_of(toy.config(tmp_path), "cat_bounces")


@pytest.mark.parametrize("fault", ["hue", "pattern", "size", "scene", "subject", "copy", "path"])
def test_more_of_a_fault_is_farther_from_the_exact_rendering(clip, fault):
    exact = clip.frames().astype(float)
    away = [np.abs(FAULTS[fault].change(clip, dose) - exact).mean() for dose in DOSES]
    assert away[0] > 0 and away == sorted(away)


def test_nothing_of_a_fault_is_the_exact_rendering(clip):
    for name, fault in FAULTS.items():
        assert np.array_equal(fault.change(clip, 0.0), clip.frames()), name


def test_a_light_goes_and_all_else_stays(tmp_path):
    config = toy.config(tmp_path)
    dark = config.sources["red_cat"].scene.model_copy(update={"light": "night"})
    case = config.cases["cat_bounces"].model_copy(update={"prompt": "a cat bouncing at the beach at night"})
    case = case.model_copy(update={"truth": case.truth | {"light": "red_cat"}})
    sources = config.sources | {"red_cat": config.sources["red_cat"].model_copy(update={"scene": dark})}
    config = config.model_copy(update={"sources": sources, "cases": {"cat_bounces": case}})
    assert "light" in faults.faults_of(config, "cat_bounces")
    clip = faults.clip_of(config, "cat_bounces")
    brightness = [FAULTS["light"].change(clip, dose).mean() for dose in (0.0, *DOSES)]
    assert brightness == sorted(brightness) and brightness[-1] > 1.5 * brightness[0]


def test_a_frozen_clip_moves_until_its_dose_and_then_stands(clip):
    half = FAULTS["frozen"].change(clip, 0.5)
    assert np.array_equal(half[:5], clip.frames()[:5]) and all(np.array_equal(half[4], frame) for frame in half[5:])
    assert not np.array_equal(half[0], half[4])
    still = FAULTS["frozen"].change(clip, 1.0)
    assert all(np.array_equal(still[0], frame) for frame in still)


def test_a_path_ends_as_that_of_another_motion_and_the_subject_looks_the_same(clip):
    wrong = FAULTS["path"].change(clip, 1.0)
    assert np.array_equal(wrong[0, :, 0], clip.frames()[0, :, 0])  # the backdrop at the edge
    assert not np.array_equal(wrong, clip.frames())


def test_what_has_no_size_is_wrong_in_as_many_frames_as_the_dose_says(clip):
    for name in ("pattern", "subject", "copy"):
        changed = [
            sum(not np.array_equal(*pair) for pair in zip(FAULTS[name].change(clip, dose), clip.frames(), strict=True))
            for dose in DOSES
        ]
        assert changed == [2, 4, 7, 9], name


def test_faults_befall_the_cases_in_which_a_source_plays_their_role(tmp_path):
    config = toy.config(tmp_path)
    cases = {
        name: case.model_copy(update={"truth": {"motion": case.truth["motion"]}}) for name, case in config.cases.items()
    }
    alone = config.model_copy(update={"cases": config.cases | {"robot_spins": cases["robot_spins"]}})
    assert faults.faults_of(alone, "robot_spins") == ["subject", "copy", "path", "speed", "frozen"]
    clips = faults.dosed_clips(alone)
    assert clips[0] == ("cat_bounces", EXACT, 0.0) and len(set(clips)) == len(clips)
    assert len([clip for clip in clips if clip[0] == "robot_spins"]) == 1 + 5 * len(DOSES)
