"""What the legends of tables 2 and 3 say of the controls."""

import pandas as pd
import toy

from bico.core.saving import save_csv
from bico.report.controls import verdicts

PAIR = {"lacks": "base", "has": "bico"}


def config(results, **chosen):
    return toy.config(results, controls=chosen)


def test_each_ingredient_is_told_to_be_judged_or_not(tmp_path):
    benchmark = config(tmp_path, hierarchy=PAIR, reverse_training=PAIR, temporal_decoupling=PAIR)
    rows = [
        ("hierarchy", "truth_concept", "cases", "yes"),
        ("hierarchy", "truth_motion", "cases", "no"),
        ("reverse_training", "truth_motion", "cases", "no"),
        ("reverse_training", "truth_overall", "cases", "opposite"),
        ("temporal_decoupling", "truth_concept", "mixed", "too few"),
        ("temporal_decoupling", "truth_concept", "other cases", ""),
    ]
    table = pd.DataFrame(rows, columns=["ingredient", "measure", "over", "moves"]).assign(
        **{"without": "base", "with": "bico"}
    )
    save_csv(benchmark.paths.table("controls"), table)
    diversification, absorption, temporal, reverse, hierarchy = verdicts(benchmark)[1:]
    assert hierarchy == (
        "  - hierarchy can be judged here (moves: truth_concept, over cases; does not move: truth_motion, over cases)."
    )
    assert reverse == (
        "  - reverse training cannot be judged here (does not move: truth_motion, over cases; moves the other way: "
        "truth_overall, over cases)."
    )
    assert (
        "temporal decoupling has too little data: it is not known whether it can be judged here (too few to tell:"
        in temporal
    )
    assert "diversification has no control in this config" in diversification
    assert "absorption has no control in this config" in absorption


def test_without_the_table_the_command_that_makes_it_is_named(tmp_path):
    (line,) = verdicts(config(tmp_path, hierarchy=PAIR))
    assert f"`uv run snakemake --cores all {tmp_path}/controls.csv`" in line


def test_a_config_without_controls_says_so(tmp_path):
    (line,) = verdicts(config(tmp_path))
    assert "has no `controls`" in line and "snakemake" not in line
