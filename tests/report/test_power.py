"""The smallest difference that can be told apart, and what a smaller one takes, on data whose answer is known."""

import numpy as np
import pandas as pd
import pytest
import toy
from conftest import ROOT

from bico.cli.main import main
from bico.core.files import write_text
from bico.report import statistics
from bico.report.power import POWER, Spread, power, variance_components


def draw(rng, *, cases: int, trainings: int, of_cases=3.0, of_trainings=1.0, rest=2.0, mean=0.0) -> np.ndarray:
    """[trainings, cases] of a paired difference with these standard deviations."""
    return (
        mean
        + rng.normal(0, of_cases, cases)
        + rng.normal(0, of_trainings, (trainings, 1))
        + rng.normal(0, rest, (trainings, cases))
    )


def test_the_three_spreads_are_found():
    rng = np.random.default_rng(0)
    found = [variance_components(draw(rng, cases=30, trainings=8), np.zeros((8, 30))) for _ in range(200)]
    means = np.mean([(each.cases, each.trainings, each.rest) for each in found if each], axis=0)
    assert means == pytest.approx([9, 1, 4], rel=0.1)


@pytest.mark.parametrize(("cases", "trainings"), [(40, 8), (28, 4)])
def test_the_smallest_difference_is_told_apart_as_often_as_it_says(cases, trainings):
    rng = np.random.default_rng(1)
    smallest = Spread(9, 1, 4).smallest_difference(cases, trainings)
    drawn = [draw(rng, cases=cases, trainings=trainings, mean=smallest) for _ in range(600)]
    found = [statistics.difference_p(each, np.zeros_like(each)) for each in drawn]
    assert np.mean(np.array(found) < 0.05) == pytest.approx(POWER, abs=0.06)


def test_the_cases_that_a_difference_needs_are_the_fewest_that_tell_it():
    spreads = Spread(9, 1, 4)
    needed = spreads.cases_needed(1.5, trainings=8)
    assert needed and spreads.smallest_difference(needed, 8) <= 1.5 < spreads.smallest_difference(needed - 1, 8)


def test_no_number_of_cases_makes_up_for_too_few_trainings():
    assert Spread(9, 1, 4).cases_needed(1.0, trainings=2) is None


def test_one_training_says_nothing_of_trainings():
    values = draw(np.random.default_rng(2), cases=30, trainings=1)
    found = variance_components(values, np.zeros((1, 30)))
    assert found and found.cases == pytest.approx(values.var(ddof=1)) and (found.trainings, found.rest) == (0, 0)


def test_cases_that_a_training_lacks_are_left_out_and_too_few_tell_nothing():
    values = draw(np.random.default_rng(3), cases=30, trainings=2)
    lacking = values.copy()
    lacking[0, 20:] = np.nan
    assert variance_components(lacking, np.zeros((2, 30))) == variance_components(values[:, :20], np.zeros((2, 20)))
    lacking[0, 4:] = np.nan
    assert variance_components(lacking, np.zeros((2, 30))) is None


def test_p_is_below_a_twentieth_where_the_interval_of_many_cases_and_trainings_leaves_out_zero():
    rng, agree = np.random.default_rng(4), 0
    for mean in np.linspace(0, 3, 60):
        pair = draw(rng, cases=60, trainings=16, mean=mean), np.zeros((16, 60))
        p = statistics.difference_p(*pair)
        _, low, high = statistics.paired_difference(*pair, resamples=1000, seed=0)
        agree += (p < 0.05) == (low > 0 or high < 0)
    assert agree >= 57


@pytest.mark.parametrize("cases", [5, 14, 40])
def test_p_of_no_difference_is_below_a_twentieth_once_in_twenty(cases):
    rng = np.random.default_rng(5)
    values = [statistics.difference_p(rng.normal(size=(1, cases)), np.zeros((1, cases))) for _ in range(600)]
    assert np.mean(values) == pytest.approx(0.5, abs=0.05)
    assert np.mean(np.array(values) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(np.array(values) < 0.005) < 0.02


@pytest.mark.parametrize(("trainings", "most"), [(2, 0.11), (4, 0.065), (8, 0.055)])
def test_p_holds_where_trainings_differ_and_are_few(trainings, most):
    rng = np.random.default_rng(6)
    drawn = [draw(rng, cases=28, trainings=trainings, of_trainings=2.5, rest=6.0) for _ in range(1500)]
    found = [statistics.difference_p(each, np.zeros_like(each)) for each in drawn]
    assert np.mean(np.array(found) < 0.05) < most


def test_holm_on_an_example_worked_by_hand():
    assert statistics.holm([0.01, 0.04, np.nan, 0.03, 0.005]) == pytest.approx(
        [0.03, 0.06, np.nan, 0.06, 0.02], nan_ok=True
    )
    assert statistics.holm([0.6, 0.7]) == [1.0, 1.0]


@pytest.mark.usefixtures("few_are_enough")
def test_the_command_prints_the_difference_the_grid_and_what_one_takes(tmp_path):
    config = toy.config(tmp_path, seeds=[0, 1], learning_seeds=[0, 1])
    rng = np.random.default_rng(6)
    for method in ("base", "bico"):
        rows = [
            {"case": case, "seed": seed, "status": "ok", "clip_t": rng.normal(30 + 5 * (method == "bico"))}
            | dict.fromkeys(["dino_i", "motion_fidelity", "dynamic_degree"], 1.0)
            for case in config.cases
            for seed in config.seeds
        ]
        write_text(config.paths.scores(method), pd.DataFrame(rows).to_csv(index=False))
    text = power(config, ("bico", "base"), "clip_t", 1.0)
    assert (
        text.startswith("BiCo minus Plain prompt, CLIP-T: +") and "with 3 cases that both have, and 2 trainings" in text
    )
    grid = [[float(cell) for cell in line.split()] for line in text.split("\n\n")[2].splitlines()]
    assert grid[0] == [1, 2, 4, 8, 16] and [line[0] for line in grid[1:]] == [3, 14, 28, 60, 120, 240]
    assert all(line[2:] == sorted(line[2:], reverse=True) for line in grid[2:])
    assert text.count("A difference of 1 needs ") == 5


def test_a_row_that_is_not_scored_and_a_difference_of_nothing_are_one_line(capsys):
    config = ["--config", str(ROOT / "config" / "toybox.yaml")]
    assert main(["power", "bico", "bica", *config]) == 2
    assert "no row 'bica' in the config" in capsys.readouterr().err
    assert main(["power", "bico", "base", *config, "--difference", "0"]) == 2
    assert "--difference 0: expected a number above 0" in capsys.readouterr().err
    assert main(["power", "bico", "base", *config, "--score", "beauty"]) == 2
    assert "no score 'beauty' in the config" in capsys.readouterr().err
