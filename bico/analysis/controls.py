"""Positive controls: can the benchmark measure each ingredient of BiCo in conditions in which it must have an effect?

A control compares two conditions, with the ingredient (or its cause) and without it. Its measures must be higher with
it. A measure moves if the interval of its difference lies above zero. If no measure of an ingredient moves, the tables
say nothing about it, because the benchmark may be unable to measure its effect.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import numpy as np
import pandas as pd

from bico.config.schema import Config
from bico.core.saving import save_csv
from bico.core.tables import read_table
from bico.plan.controls import clips_compared, mixed_cases, trainings_compared
from bico.report.statistics import bootstrap, case_interval, case_means, paired_difference
from bico.scoring.results import answering, read_scores

MEASURES = {
    "temporal_decoupling": ("truth_overall", "truth_concept"),
    "reverse_training": ("truth_overall", "truth_motion"),
    "hierarchy": ("truth_overall", "truth_concept", "truth_motion"),
}
"""Scores by which two rows are compared."""
GAIN, KEPT, CLUTTER = (
    "reduction of the loss, %",
    "reduction of the loss in new sentences minus that in the first caption, % points",
    "probability of clutter",
)

Line = dict[str, object]


def controls(config: Config) -> pd.DataFrame:
    """Writes `results/controls.csv` and returns it: a line for each measure of each control of the config.

    Columns: ingredient; measure; over (sources or cases) and count (how many of them have a value); without and with
    (names of the two conditions); value_without and value_with; difference (with - without) and its 95 % interval
    (bootstrap over sources or cases, and over trainings); moves (yes = the interval lies above zero, opposite = below
    zero, no = it contains zero, "too few" = too few sources or cases for an interval, empty = nothing is expected and
    the line only serves for comparison).
    """
    lines = [line for ingredient in config.controls.rows() for line in CONTROLS[ingredient](config)]
    table = pd.DataFrame(lines)
    save_csv(config.paths.table("controls"), table)
    return table


def _diversification(config: Config) -> Iterator[Line]:
    lacks, has = config.controls.rows()["diversification"]
    types, compared = {"method": str, "source": str, "learning_seed": int}, trainings_compared(config)
    gains = read_table(config.paths.control("diversification"), types, by=tuple(types), expected=compared)

    def of(row: str, column: str) -> np.ndarray:
        table = gains[gains["method"] == row].pivot(index="learning_seed", columns="source", values=column)
        return table.reindex(config.learning_seeds).to_numpy()

    kept = {row: of(row, "new") - of(row, "own") for row in (lacks, has)}
    over = "sources"
    yield _line(config, "diversification", KEPT, over, (lacks, kept[lacks]), (has, kept[has]))
    for row in (lacks, has):
        new, own = (f"{row}, new sentences", of(row, "new")), (f"{row}, first caption", of(row, "own"))
        yield _line(config, "diversification", GAIN, over, new, own, expected=False)


def _absorption(config: Config) -> Iterator[Line]:
    (row,) = config.controls.rows()["absorption"]
    types = {"case": str, "seed": int, "bound": str, "sentence": int, "clutter": bool}
    clips = read_table(config.paths.control("absorption"), types, by=tuple(types), expected=clips_compared(config))
    for role, of_role in clips.groupby("bound", sort=False):
        without, having = (
            case_means(config, of_role[of_role["clutter"] == clutter], "probability") for clutter in (False, True)
        )
        over = f"sources ({role} bound)"
        yield _line(config, "absorption", CLUTTER, over, (f"{row}, no clutter", without), (f"{row}, clutter", having))


def _temporal_decoupling(config: Config) -> Iterator[Line]:
    mixed = mixed_cases(config)
    yield from _of_rows(config, "temporal_decoupling", "cases that mix images and videos", mixed)
    if others := config.cases.keys() - mixed:
        yield from _of_rows(config, "temporal_decoupling", "other cases", others, expected=False)


CONTROLS: dict[str, Callable[[Config], Iterator[Line]]] = {
    "diversification": _diversification,
    "absorption": _absorption,
    "temporal_decoupling": _temporal_decoupling,
    "reverse_training": lambda config: _of_rows(config, "reverse_training", "cases", config.cases),
    "hierarchy": lambda config: _of_rows(config, "hierarchy", "cases", config.cases),
}


def _of_rows(
    config: Config, ingredient: str, over: str, cases: Collection[str], *, expected: bool = True
) -> Iterator[Line]:
    """Compares two rows by their scores on these cases."""
    rows = config.controls.rows()[ingredient]
    scores = {row: read_scores(config, row) for row in rows}
    for measure in measures(config, ingredient):
        without, having = (
            (row, case_means(config, table[table["case"].isin(cases)], measure)) for row, table in scores.items()
        )
        yield _line(config, ingredient, measure, over, without, having, expected=expected)


def measures(config: Config, ingredient: str) -> list[str]:
    """Scores by which two rows are compared: truth scores, or without them the scores for the same questions."""
    if config.has_truth:
        return list(MEASURES[ingredient])
    # Of several scores for one question, the first that the config names.
    instead = {truth: score for score, truth in reversed(answering(config).items())}
    return [instead[measure] for measure in MEASURES[ingredient] if measure in instead]


def _line(
    config: Config,
    ingredient: str,
    measure: str,
    over: str,
    without: tuple[str, np.ndarray],
    having: tuple[str, np.ndarray],
    *,
    expected: bool = True,
) -> Line:
    """A line of the table. Each condition is a name and values [trainings, sources or cases]; only pairs count."""
    pairs = np.isfinite(without[1]) & np.isfinite(having[1])
    means = [case_interval(np.where(pairs, each[1], np.nan), **bootstrap(config))[0] for each in (without, having)]
    difference, low, high = paired_difference(having[1], without[1], **bootstrap(config))
    moves = "too few" if np.isnan(low) else "yes" if low > 0 else "opposite" if high < 0 else "no"
    return {
        "ingredient": ingredient,
        "measure": measure,
        "over": over,
        "count": int(pairs.any(axis=0).sum()),
        "without": without[0],
        "with": having[0],
        "value_without": means[0],
        "value_with": means[1],
        "difference": difference,
        "difference_low": low,
        "difference_high": high,
        "moves": moves if expected else "",
    }
