"""Means, intervals and rank correlations of scores.

The case is the unit. The seeds of a case are averaged first. Intervals are percentiles of a bootstrap over cases. All
rows are resampled with the same cases, so that differences between rows are paired. Where rows were learned more than
once, the trainings are resampled as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import pandas as pd

from bico.config.schema import Config
from bico.plan.trainings import learning_seed

FEWEST = 5
"""Smallest number of cases with an interval. Resampling fewer gives little more than their range."""


def case_means(config: Config, rows: pd.DataFrame, column: str) -> np.ndarray:
    """[trainings, cases]: for each training, the mean of each case over its seeds, in the order of the rows; NaN where
    no such clip was scored."""
    by_training = rows["seed"].map(partial(learning_seed, config))
    means = rows.groupby([by_training, "case"])[column].mean().unstack("case")
    return means.reindex(index=config.learning_seeds, columns=rows["case"].unique()).to_numpy()


def interval(values: np.ndarray, *, resamples: int, seed: int) -> tuple[float, float, float]:
    """Mean of [cases], and the ends of its 95 % interval: 2.5 and 97.5 percentiles of a bootstrap over cases.

    For [trainings, cases] the trainings are resampled too, so the interval covers the variation over cases and over
    trainings. Cases without a value (NaN) are resampled like the others and left out of the means; all three results
    are NaN if no case has a value. The same seed and shape give the same resamples: see `paired_difference`.
    """
    values = np.atleast_2d(values)
    if not np.isfinite(values).any():
        return np.nan, np.nan, np.nan
    samples = _resampled(values, resamples, seed).compressed()
    low, high = np.percentile(samples, [2.5, 97.5])
    return float(_mean(values)), float(low), float(high)


def rank_agreement(values: np.ndarray, ranking: np.ndarray, *, resamples: int, seed: int) -> tuple[float, float, float]:
    """Kendall's tau (b) between the means of [rows, trainings, cases] and a ranking [rows], and its 95 % interval.

    Without ties tau is +1 for the same order and -1 for the reverse. All three are NaN if all rows are equal; the ends
    are NaN if there are fewer than `FEWEST` cases. The bootstrap is that of `interval`.
    """
    from scipy.stats import kendalltau

    resampled = np.asarray(_resampled(values, resamples, seed))

    def tau(means: np.ndarray) -> float:
        return cast(Any, kendalltau(means, ranking)).statistic  # scipy does not annotate its results

    samples = np.array([tau(means) for means in resampled.T])
    return float(tau(np.asarray(_mean(values)))), *_ends(samples, cases=values.shape[-1])


def rank_correlation(
    clips: pd.DataFrame, first: str, second: str, *, resamples: int, seed: int
) -> tuple[float, float, float]:
    """Spearman's correlation of two columns over the clips that have both, and its 95 % interval.

    The bootstrap is over cases; ranks are computed once, among all clips. All three are NaN where a column does not
    vary; the ends are NaN if there are fewer than `FEWEST` cases.
    """
    known = clips[["case", first, second]].dropna()
    x, y = (known[column].rank() - (len(known) + 1) / 2 for column in (first, second))
    sums = pd.DataFrame({"n": 1, "x": x, "y": y, "xx": x * x, "yy": y * y, "xy": x * y}).groupby(known["case"]).sum()

    def correlation(sums: np.ndarray) -> np.ndarray:
        n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (n * xy - x * y) / np.sqrt((n * xx - x**2) * (n * yy - y**2))

    of_cases = sums.to_numpy()
    picked = np.random.default_rng(seed).integers(max(len(of_cases), 1), size=(resamples, len(of_cases)))
    samples = correlation(of_cases[picked].sum(axis=1))
    return float(correlation(of_cases.sum(axis=0))), *_ends(samples, cases=len(of_cases))


def pair_accuracy(
    clips: pd.DataFrame, score: str, answer: str, *, by: str | None, resamples: int, seed: int
) -> tuple[float, float, float, float]:
    """Share of pairs of clips that a score orders like their answers, its 95 % interval, and the tie threshold.

    Two scores count as equal if their difference is at most the tie threshold, which is chosen to maximise the share. A
    pair with equal answers is right if its scores count as equal. Any other pair is right if its scores do not count as
    equal and have the order of the answers. With `by`, only pairs of clips with the same `by` are compared. The
    bootstrap is over cases: a pair counts as often as its cases are drawn. All are NaN without a pair; the ends are NaN
    if there are fewer than `FEWEST` cases.

    Args:
        clips: with the columns case, `by`, score and answer, without NaN.
    """
    cases = {case: number for number, case in enumerate(clips["case"].unique())}
    found = [_pairs(group, score, answer, cases) for _, group in (clips.groupby(by) if by else [("", clips)])]
    apart, right, equal, first, second = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if not len(apart):
        return np.nan, np.nan, np.nan, np.nan
    # For each threshold, count the right pairs: those up to it with equal answers, those beyond it in the right order.
    order = np.argsort(apart, kind="stable")
    gained = np.cumsum(equal[order].astype(int) - right[order]) + right.sum()
    last = np.append(np.diff(apart[order]) > 0, True)  # pairs with equal differences share a threshold
    thresholds, shares = np.append(-1.0, apart[order][last]), np.append(right.sum(), gained[last])
    tie = max(0.0, float(thresholds[shares.argmax()]))
    is_right = np.where(apart <= thresholds[shares.argmax()], equal, right)
    sums = np.zeros((2, len(cases), len(cases)))
    np.add.at(sums[0], (first, second), is_right)
    np.add.at(sums[1], (first, second), 1)
    picked = np.random.default_rng(seed).integers(len(cases), size=(resamples, len(cases)))
    weights = np.stack([np.bincount(each, minlength=len(cases)) for each in picked]).astype(float)
    hits, pairs = (np.einsum("ri,ij,rj->r", weights, each, weights) for each in sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        samples = hits / pairs
    return float(is_right.mean()), *_ends(samples, cases=len(cases)), tie


def _pairs(clips: pd.DataFrame, score: str, answer: str, cases: dict[str, int]) -> tuple[np.ndarray, ...]:
    """For each pair of clips: the distance of its scores, whether they have the order of its answers (which differ),
    whether its answers are equal, and the numbers of both cases."""
    x, y = (clips[column].to_numpy() for column in (score, answer))
    number = clips["case"].map(cases).to_numpy()
    i, j = np.triu_indices(len(clips), k=1)
    equal = y[i] == y[j]
    same_order = ~equal & (np.sign(x[i] - x[j]) == np.sign(y[i] - y[j]))
    return np.abs(x[i] - x[j]), same_order, equal, number[i], number[j]


def _ends(samples: np.ndarray, *, cases: int) -> tuple[float, float]:
    """Ends of the 95 % interval: percentiles of the finite samples; NaN if there are none or too few cases."""
    samples = samples[np.isfinite(samples)]
    if not len(samples) or cases < FEWEST:
        return np.nan, np.nan
    low, high = np.percentile(samples, [2.5, 97.5])
    return float(low), float(high)


def _mean(values: np.ndarray) -> np.ma.MaskedArray:
    """Mean of [..., trainings, cases] over trainings, then over cases; NaN are left out."""
    return np.ma.masked_invalid(values).mean(axis=-2).mean(axis=-1)


def _resampled(values: np.ndarray, resamples: int, seed: int) -> np.ma.MaskedArray:
    """[..., resamples]: means of [..., trainings, cases] over resampled cases and trainings.

    Resampling k trainings gives (k - 1) / k of the variance between trainings. With as few as two this matters, so it
    is corrected.
    """
    known, draw = np.ma.masked_invalid(values), np.random.default_rng(seed)
    trainings, cases = values.shape[-2:]
    samples = known.mean(axis=-2)[..., draw.integers(cases, size=(resamples, cases))].mean(axis=-1)
    if trainings > 1:
        of_trainings = known.mean(axis=-1)
        moves = of_trainings - of_trainings.mean(axis=-1, keepdims=True)
        moved = moves[..., draw.integers(trainings, size=(resamples, trainings))].mean(axis=-1)
        samples = samples + moved * np.sqrt(trainings / (trainings - 1))
    return samples


def paired_difference(
    first: np.ndarray, second: np.ndarray, *, resamples: int, seed: int
) -> tuple[float, float, float]:
    """Mean and 95 % interval of first - second, case by case: both methods are resampled with the same cases.

    A case that one of them lacks is left out; see `case_interval`.
    """
    return case_interval(first - second, resamples=resamples, seed=seed)


def case_interval(values: np.ndarray, *, resamples: int, seed: int) -> tuple[float, float, float]:
    """`interval` of [trainings, cases], without ends (NaN) where fewer than `FEWEST` cases have a value."""
    mean, low, high = interval(values, resamples=resamples, seed=seed)
    enough = np.isfinite(np.atleast_2d(values)).any(axis=0).sum() >= FEWEST
    return (mean, low, high) if enough else (mean, np.nan, np.nan)


def difference_p(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided p value, in 0..1, of the paired difference of [trainings, cases]; NaN for fewer than `FEWEST` cases.

    A t test of the mean. Its squared standard error is the variance of the means of cases over their number, plus that
    of the means of trainings over theirs; its degrees of freedom are those of Satterthwaite (1946) for this sum. So it
    is stricter than the percentile interval where cases or trainings are few.
    """
    from scipy.stats import t

    values = np.ma.masked_invalid(np.atleast_2d(first - second))
    of_cases, of_trainings = values.mean(axis=0).compressed(), values.mean(axis=1).compressed()
    if len(of_cases) < FEWEST:
        return np.nan
    several = [means for means in (of_cases, of_trainings) if len(means) > 1]
    parts, freedom = [means.var(ddof=1) / len(means) for means in several], [len(means) - 1 for means in several]
    mean = abs(float(_mean(values)))
    if sum(parts) == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * t.sf(mean / math.sqrt(sum(parts)), satterthwaite(parts, freedom)))


def satterthwaite(parts: Sequence[float], freedom: Sequence[float]) -> float:
    """Degrees of freedom of a sum of independent estimates of variance, each with its own (Satterthwaite, 1946)."""
    return sum(parts) ** 2 / sum(part**2 / own for part, own in zip(parts, freedom, strict=True))


def holm(values: Sequence[float]) -> list[float]:
    """p values of several comparisons after Holm's correction (1979): the smallest is multiplied by their number, the
    next by one less, and so on. A value is never below the one before, and at most 1. NaN stay and are not counted."""
    known = sorted((value, place) for place, value in enumerate(values) if np.isfinite(value))
    corrected, least = [np.nan] * len(values), 0.0
    for rank, (value, place) in enumerate(known):
        least = corrected[place] = max(least, min(1.0, value * (len(known) - rank)))
    return corrected


def row_interval(config: Config, rows: pd.DataFrame, column: str) -> dict[str, float]:
    """`case_interval` of a row's score, with the config's bootstrap, as <column>, <column>_low and <column>_high."""
    return named(column, case_interval(case_means(config, rows, column), **bootstrap(config)))


def named(column: str, ends: Iterable[float]) -> dict[str, float]:
    """A mean with its interval, as the columns of a table: <column>, <column>_low and <column>_high."""
    return dict(zip((column, f"{column}_low", f"{column}_high"), ends, strict=True))


def row_intervals(config: Config, rows: pd.DataFrame, columns: Iterable[str]) -> dict[str, float]:
    """`row_interval` of several scores, as one dict."""
    return {name: value for column in columns for name, value in row_interval(config, rows, column).items()}


def bootstrap(config: Config) -> dict[str, int]:
    """The config's bootstrap settings, as arguments of the functions above."""
    return {"resamples": config.scoring.bootstrap, "seed": config.scoring.seed}
