"""What people read of rows and of a benchmark: names, scores with intervals, and what a table covers."""

from __future__ import annotations

import math

from bico.config.schema import Config

TRUTH_LABEL = "exact rendering"


def scope(config: Config) -> str:
    """What all rows of a benchmark cover, as every figure and table says it."""
    counts = counted(len(config.cases), "case"), counted(len(config.seeds), "seed")
    return (
        f"{config.name}: {', '.join(counts)}, {counted(len(config.learning_seeds), 'training')} of each row that learns"
    )


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def score_name(column: str) -> str:
    """A score as people read it: "CLIP-T", "motion fidelity", "overall"."""
    return {"clip_t": "CLIP-T", "dino_i": "DINO-I"}.get(column, column.removeprefix("truth_").replace("_", " "))


def span(mean: float, low: float = math.nan, high: float = math.nan, *, sign: str = "", digits: int = 1) -> str:
    """A score with its interval in brackets, as far as they are finite; "" without a score."""
    form = f"{sign}.{digits}f"
    ends = f" [{low:{form}}, {high:{form}}]" if math.isfinite(low) else ""
    return f"{mean:{form}}{ends}" if math.isfinite(mean) else ""
