"""Texts that tables and figures share: names of scores, scores with intervals, and what a benchmark covers."""

from __future__ import annotations

import math

from bico.config.schema import Config

TRUTH_LABEL = "exact rendering"


def scope(config: Config) -> str:
    """The numbers of cases, seeds and trainings of a benchmark, as every figure and table states them."""
    counts = counted(len(config.cases), "case"), counted(len(config.seeds), "seed")
    return (
        f"{config.name}: {', '.join(counts)}, {counted(len(config.learning_seeds), 'training')} of each row that learns"
    )


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def span(mean: float, low: float = math.nan, high: float = math.nan, *, sign: str = "", digits: int = 1) -> str:
    """A score with its interval in brackets, if the interval is finite; "" if the score is not."""
    form = f"{sign}.{digits}f"
    ends = f" [{low:{form}}, {high:{form}}]" if math.isfinite(low) else ""
    return f"{mean:{form}}{ends}" if math.isfinite(mean) else ""
