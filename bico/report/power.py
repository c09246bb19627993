"""The minimal detectable difference between two rows, and the number of cases and trainings for a smaller one.

A difference is significant if p < 0.05 in the t test of tables (`difference_p`). The minimal detectable one is the
difference for which this happens with a probability of `POWER`: about (t(0.975) + t(POWER)) standard errors of its
mean, with t = quantile of Student's distribution with the test's degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bico.config.schema import Config
from bico.report import statistics
from bico.report.names import counted, span
from bico.report.statistics import bootstrap, case_means, paired_difference, satterthwaite
from bico.scoring.results import read_scores, score_columns

POWER = 0.8
CASES, TRAININGS = (14, 28, 60, 120, 240), (1, 2, 4, 8, 16)
"""Numbers in the table of `power`, besides those of the config."""
MOST = 10_000  # cases that a benchmark may have


@dataclass(frozen=True)
class Spread:
    """Variance components of a paired difference, in squared points: between cases, between trainings, and the rest for
    one case in one training. With a single training `trainings` is not known, and `rest` is part of `cases`."""

    cases: float
    trainings: float
    rest: float

    def smallest_difference(self, cases: int, trainings: int) -> float:
        """The minimal detectable difference with these numbers of cases and trainings, in points."""
        of_cases = (self.cases + self.rest / trainings) / cases
        of_trainings = (self.trainings + self.rest / cases) / trainings
        parts, freedom = (of_cases, of_trainings), (cases - 1, trainings - 1)
        if trainings == 1:  # the test does not know of this part, and takes its degrees of freedom from cases alone
            parts, freedom = (of_cases, self.trainings), (cases - 1, cases - 1)
        if not sum(parts):
            return 0.0
        return _quantiles(satterthwaite(parts, freedom)) * math.sqrt(sum(parts))

    def cases_needed(self, difference: float, trainings: int) -> int | None:
        """The smallest number of cases for a difference in points, with this number of trainings; None if even `MOST`
        are not enough."""
        enough = (n for n in range(statistics.FEWEST, MOST + 1) if self.smallest_difference(n, trainings) <= difference)
        return next(enough, None)


def variance_components(first: np.ndarray, second: np.ndarray) -> Spread | None:
    """Variance components of first - second, both [trainings, cases], over the cases that all trainings of both have;
    None if these are too few.

    They are those of two crossed random factors with one value per cell (analysis of variance). Negative estimates are
    set to zero.
    """
    values = first - second
    values = values[:, np.isfinite(values).all(axis=0)]
    trainings, cases = values.shape
    if cases < statistics.FEWEST:
        return None
    of_cases, of_trainings = values.mean(axis=0), values.mean(axis=1, keepdims=True)
    if trainings == 1:
        return Spread(float(of_cases.var(ddof=1)), 0.0, 0.0)
    residual = values - of_cases - of_trainings + values.mean()
    rest = float((residual**2).sum() / ((cases - 1) * (trainings - 1)))
    return Spread(
        max(0.0, float(of_cases.var(ddof=1)) - rest / trainings),
        max(0.0, float(of_trainings.var(ddof=1)) - rest / cases),
        rest,
    )


def power(config: Config, rows: tuple[str, str], score: str, difference: float | None) -> str:
    """The text of `bico power`: the difference of two scored rows, the minimal detectable differences with other
    numbers of cases and trainings, and the number of cases for `difference`."""
    first, second = (case_means(config, read_scores(config, row), score) for row in rows)
    found = paired_difference(first, second, **bootstrap(config))
    names = " minus ".join(config.label(row) for row in rows)
    title = f"{names}, {score_columns(config)[score].label}"
    if (spreads := variance_components(first, second)) is None:
        return f"{title}: fewer than {statistics.FEWEST} cases have both scores: too few for an estimate"
    known = len(config.learning_seeds) > 1
    trainings = TRAININGS if known else (1,)
    both = int(np.isfinite(first - second).any(axis=0).sum())
    cases = sorted({*CASES, both})
    parts = [
        f"{title}: {span(*found, sign='+')} with {counted(both, 'case')} that both have, and "
        f"{counted(len(config.learning_seeds), 'training')}",
        f"The smallest difference that is significant in {POWER:.0%} of experiments, by trainings (across) and cases. "
        "The test with one training does not know how much trainings differ, so it calls more significant than is:",
        _grid(spreads, cases, trainings),
    ]
    if not known:
        parts.append("One training does not show the variation between trainings: give two or more `learning_seeds`")
    if difference is not None:
        parts.append("\n".join(_needed(spreads, difference, each) for each in trainings))
    return "\n\n".join(parts)


def _grid(spreads: Spread, cases: Sequence[int], trainings: Sequence[int]) -> str:
    lines = ["".join([" " * 6, *(f"{number:7}" for number in trainings)])]
    for number in cases:
        smallest = (spreads.smallest_difference(number, each) for each in trainings)
        lines.append("".join([f"{number:6}", *(f"{value:7.1f}" for value in smallest)]))
    return "\n".join(lines)


def _needed(spreads: Spread, difference: float, trainings: int) -> str:
    cases = spreads.cases_needed(difference, trainings)
    needs = counted(cases, "case") if cases else f"more than {MOST} cases"
    return f"A difference of {difference:g} needs {needs} with {counted(trainings, 'training')}"


def _quantiles(freedom: float) -> float:
    from scipy.special import stdtrit  # scipy.stats.t.ppf, forty times as fast

    return float(stdtrit(freedom, 0.975) + stdtrit(freedom, POWER))
