"""Copies what the page of results shows from a run into docs/results: `uv run python docs/collect.py [--config FILE]`.

It writes table1.csv, differences.csv and automatic_scores.csv from the scores of the rows of table 1. Then change the
date in docs/results/tables.yaml, and run docs/generate.py.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from bico.config.reading import load
from bico.config.schema import Config
from bico.report.names import counted, score_name
from bico.report.partial import scored_cases
from bico.report.statistics import bootstrap, case_means, paired_difference, rank_correlation, row_intervals
from bico.report.tables import ASKS
from bico.scoring.results import SCORES, TRUTH, TRUTH_SCORES, read_scores

OUT = Path(__file__).parent / "results"
COMPARED = [
    ("textual_inversion", "base", ["truth_overall"]),
    ("db_lora", "base", ["truth_overall"]),
    ("textual_inversion", "db_lora", ["truth_overall"]),
    ("bico", "db_lora", [*TRUTH_SCORES, "motion_fidelity"]),
    ("bico", "textual_inversion", [*TRUTH_SCORES, "motion_fidelity"]),
    ("bico", "dreamvideo", ["truth_overall"]),
    ("bico", "dualreal", ["truth_overall"]),
    ("bico_isolated", "bico", ["truth_overall", "truth_clean"]),
]
"""Rows, and the scores in which they are compared."""


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("results/config.yaml"))
    config = load(parser.parse_args().config)
    scores = {row: read_scores(config, row) for row in (*config.table("table1"), TRUTH)}
    for name, lines in {
        "table1": [_row(config, row, found) for row, found in scores.items()],
        "differences": [*_differences(config, scores)],
        "automatic_scores": [*_agreements(config, scores)],
    }.items():
        pd.DataFrame(lines).to_csv(OUT / f"{name}.csv", index=False, float_format="%.2f")


def _row(config: Config, row: str, scores: pd.DataFrame) -> dict[str, Any]:
    cases = len(scored_cases(scores))
    return {"method": row, "cases": cases} | row_intervals(config, scores, [*SCORES, *TRUTH_SCORES])


def _differences(config: Config, scores: dict[str, pd.DataFrame]) -> Iterator[dict[str, Any]]:
    for first, second, columns in COMPARED:
        common = [case for case in scored_cases(scores[first]) if case in scored_cases(scores[second])]
        for column in columns:
            pair = [case_means(config, scores[row], column) for row in (first, second)]
            mean, low, high = paired_difference(*pair, **bootstrap(config))
            yield {
                "comparison": f"{config.label(first)} minus {config.label(second)}",
                "score": score_name(column),
                "cases": counted(len(common), "case"),
                "difference": mean, "difference_low": low, "difference_high": high,
            }  # fmt: skip


def _agreements(config: Config, scores: dict[str, pd.DataFrame]) -> Iterator[dict[str, Any]]:
    rows = [row for row in scores if row != TRUTH]
    for told, chosen in (("all rows", rows), ("without copied frames", [row for row in rows if row != "copy"])):
        clips = pd.concat([scores[row] for row in chosen], ignore_index=True)
        for score, truth in ASKS.items():
            value, low, high = rank_correlation(clips, score, truth, **bootstrap(config))
            yield {
                "score": score_name(score), "truth": score_name(truth), "clips": told,
                "correlation": value, "correlation_low": low, "correlation_high": high,
            }  # fmt: skip


if __name__ == "__main__":
    main()
