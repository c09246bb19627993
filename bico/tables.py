"""Table 1: every method's scores with their uncertainty, as CSV for machines and Markdown for people.

The case is the unit: the seeds of a case are averaged first, intervals are percentiles of a bootstrap over cases, and
all methods are resampled with the same cases, so that differences between methods are paired.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from bico.config import Config
from bico.files import write_text
from bico.scoring import calibration_path, score_columns

# Published figures (arXiv 2512.09824 v2, Table 1): CLIP-T and DINO-I x100, human ratings from 1 to 5.
PAPER = Path(__file__).parent / "paper_table1.csv"
HUMAN = ("concept", "prompt", "motion", "overall")
MEANING = {
    "clip_t": "CLIP similarity of frames and prompt, x100",
    "dino_i": "DINO similarity of frames and each visual input, harmonic mean over the inputs, x100",
    "truth_concept": "parameters of each instance as read from the clip, against those of its source",
    "truth_prompt": "the words of the prompt are read in the clip",
    "truth_motion": "the subject's path, frame by frame, against the true one; a still picture has none of it",
    "truth_overall": "mean of the three truth scores",
}
REFERENCE = "bico"


def table1(config: Config) -> pd.DataFrame:
    """Collects `R/scores/<method>.csv` of all methods into `R/table1.csv` and `R/table1.md`, and returns the table."""
    scores = {method: read_scores(config, method) for method in config.methods}
    table = pd.DataFrame([_row(config, method, rows) for method, rows in scores.items()])
    write_text(config.results / "table1.csv", table.to_csv(index=False, float_format="%.2f"))
    write_text(config.results / "table1.md", _document(config, table, scores))
    return table


def read_scores(config: Config, method: str) -> pd.DataFrame:
    """A row per case and seed, as `bico.scoring.score` wrote them."""
    return pd.read_csv(config.results / "scores" / f"{method}.csv")


# --- statistics -----------------------------------------------------------------------------------------------------


def case_means(rows: pd.DataFrame, column: str) -> np.ndarray:
    """[cases]: mean of each case over its seeds, in the order of the rows; NaN where no clip of the case was scored."""
    return rows.groupby("case", sort=False)[column].mean().to_numpy()


def interval(values: np.ndarray, *, resamples: int, seed: int) -> tuple[float, float, float]:
    """Mean of [cases], and the ends of its 95 % interval: 2.5 and 97.5 percentiles of a bootstrap over cases.

    Cases without a value (NaN) are resampled like the others and left out of the means; all three are NaN if no case
    has one. The same seed and number of cases resample the same cases: see `paired_difference`.
    """
    if not np.isfinite(values).any():
        return np.nan, np.nan, np.nan
    chosen = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    samples = np.ma.masked_invalid(values[chosen]).mean(axis=1).compressed()
    low, high = np.percentile(samples, [2.5, 97.5])
    return float(np.nanmean(values)), float(low), float(high)


def paired_difference(
    first: np.ndarray, second: np.ndarray, *, resamples: int, seed: int
) -> tuple[float, float, float]:
    """Mean and 95 % interval of first - second, case by case: both methods are resampled with the same cases.

    A case that either of them lacks says nothing about their difference and is left out.
    """
    return interval(first - second, resamples=resamples, seed=seed)


def _interval(config: Config, values: np.ndarray) -> tuple[float, float, float]:
    return interval(values, resamples=config.scoring.bootstrap, seed=config.scoring.seed)


# --- the table ------------------------------------------------------------------------------------------------------


def _row(config: Config, method: str, rows: pd.DataFrame) -> dict[str, str | int | float]:
    counts = {
        "method": method,
        "cases": rows["case"].nunique(),
        "seeds": rows["seed"].nunique(),
        "clips": len(rows),
        "missing": int(rows["status"].isin(["failed", "missing"]).sum()),
        "not_supported": int((rows["status"] == "not supported").sum()),
    }
    scores = {}
    for column in score_columns(config):
        scores[column], scores[f"{column}_low"], scores[f"{column}_high"] = _interval(config, case_means(rows, column))
    return counts | scores | {f"human_{question}": np.nan for question in HUMAN} | _published(method)


def _published(method: str) -> dict[str, float]:
    """The paper's figures of the row that bears a method's own name; variants of a method have none."""
    table = pd.read_csv(PAPER, index_col="method")
    figures = table.loc[method] if method in table.index else pd.Series(np.nan, table.columns)
    return {f"paper_{column}": float(value) for column, value in figures.items()}


def _document(config: Config, table: pd.DataFrame, scores: dict[str, pd.DataFrame]) -> str:
    columns = score_columns(config)
    parts = [
        f"# Table 1: {config.name}",
        _counts(table),
        _markdown(
            ["method", *columns], [[row["method"], *(_cell(row, column) for column in columns)] for row in _rows(table)]
        ),
        _legend(config),
    ]
    if REFERENCE in scores and len(scores) > 1:
        parts += [
            f"## Differences to {REFERENCE}",
            "Method minus reference, case by case, both resampled with the same cases.",
            _markdown(["method", *columns], _differences(config, scores)),
        ]
    parts += [
        "## People, and the paper",
        "Human ratings of these clips (1 to 5), empty until there are any, and the paper's published figures: measured "
        "there, on other cases with other models.",
        _people(table),
    ]
    return "\n\n".join(parts) + "\n"


def _rows(table: pd.DataFrame) -> list[dict]:
    return table.to_dict(orient="records")


def _cell(row: dict, column: str) -> str:
    return _span(row[column], row[f"{column}_low"], row[f"{column}_high"])


def _span(mean: float, low: float, high: float, sign: str = "") -> str:
    return f"{mean:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]" if np.isfinite(mean) else ""


def _counts(table: pd.DataFrame) -> str:
    columns = ["method", "cases", "seeds", "clips", "missing", "not_supported"]
    return _markdown(columns, [[str(row[column]) for column in columns] for row in _rows(table)])


def _differences(config: Config, scores: dict[str, pd.DataFrame]) -> list[list[str]]:
    def difference(method: str, column: str) -> str:
        both = (case_means(scores[name], column) for name in (method, REFERENCE))
        values = paired_difference(*both, resamples=config.scoring.bootstrap, seed=config.scoring.seed)
        return _span(*values, sign="+")

    others = [method for method in scores if method != REFERENCE]
    return [[method, *(difference(method, column) for column in score_columns(config))] for method in others]


def _people(table: pd.DataFrame) -> str:
    columns = [name for name in table.columns if name.startswith(("human_", "paper_"))]
    cells = [
        [row["method"], *("" if np.isnan(row[name]) else f"{row[name]:.2f}" for name in columns)]
        for row in _rows(table)
    ]
    return _markdown(["method", *columns], cells)


def _legend(config: Config) -> str:
    lines = [f"- `{column}`: {MEANING[column]}" for column in score_columns(config)]
    if config.models.probe:
        ends = json.loads(calibration_path(config).read_text())
        raw = ", ".join(f"{name} {end['floor']:.3f} to {end['ceiling']:.3f}" for name, end in ends.items())
        lines.append(
            "- The truth scores run from 0 (another clip: the truth of a case that shares no source) to 100 (the truth "
            f"itself, rendered and read by the same probe), unclipped; raw values at these ends: {raw}"
        )
    lines.append(
        f"- In brackets: 95 % interval, {config.scoring.bootstrap} bootstrap resamples of the cases (seeds of a case "
        "are averaged first). `missing` and `not_supported` clips have no scores: means are over the others."
    )
    return "\n".join(lines)


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table with aligned columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: list[str]) -> str:
        others = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return f"| {' | '.join([cells[0].ljust(widths[0]), *others])} |"

    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([line(header), f"|{rule}|", *map(line, rows)])
