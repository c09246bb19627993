"""The tables: scores of methods, and of BiCo's variants, with their uncertainty; CSV for machines, Markdown for people.

The case is the unit: the seeds of a case are averaged first, intervals are percentiles of a bootstrap over cases, and
all rows are resampled with the same cases, so that differences between rows are paired. Where rows were learned more
than once, the trainings are resampled as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from bico import __version__
from bico.config.schema import Config
from bico.core.files import write_csv, write_text
from bico.core.fingerprints import code_digest, folder_digest
from bico.report.answers import QUESTIONS, agreement, counted_answers
from bico.scoring.scores import TRUTH, calibration_path, score_columns
from bico.sources.concepts import unnamed

TITLES = {"table1": "Table 1, methods", "table2": "Table 2, parts of BiCo", "table3": "Table 3, stages of training"}
PAPER = Path(__file__).parent  # of paper_<table>.csv
HUMAN = tuple(f"human_{question}" for question in (*QUESTIONS, "overall"))
MEANING = {
    "clip_t": "CLIP similarity of frames and prompt, x100",
    "dino_i": "DINO similarity of frames and each visual input, harmonic mean over the inputs, x100",
    "motion_fidelity": "points move in the directions of those of bound videos: -100 to 100, 0 if still; no score "
    "where no video is bound, or no point of it can be followed",
    "dynamic_degree": "speed of the fastest 5 % of points, in % of the shorter side a second: more is not better",
    "truth_concept": "parameters of each instance as read from the clip, against those of its source",
    "truth_prompt": "the words of the prompt are read in the clip",
    "truth_motion": "the subject's path, frame by frame, against the true one, about 0 if still or farther off than "
    "that; where only a word says how it moves, that word's probability",
    "truth_overall": "case by case the mean of those of the three that the case has: where nothing moves, of two",
}
ASKS = {"clip_t": "truth_prompt", "dino_i": "truth_concept", "motion_fidelity": "truth_motion"}
"""Score that knows no truth -> the truth score that answers the same question."""
REFERENCE = "bico"
FEWEST = 5
"""Cases of which an interval can be told: resampling fewer gives little more than their range."""


def write_table(config: Config, name: str) -> pd.DataFrame:
    """Collects `R/scores/<row>.csv` of a table's rows into `R/<name>.csv` and `R/<name>.md`, and returns the table."""
    paper, rows = published(name), config.table(name)
    answers, outdated = counted_answers(config, rows)
    scores = {row: _rated(read_scores(config, row), answers[answers["method"] == row]) for row in rows}
    table = pd.DataFrame([_row(config, row, scores[row], paper.loc[number or 0]) for row, number in rows.items()])
    write_csv(config.results / f"{name}.csv", table, decimals=2)
    write_text(
        config.results / f"{name}.md", _document(config, TITLES[name], table, scores, _judged(answers, outdated))
    )
    return table


def published(name: str) -> pd.DataFrame:
    """A table of the paper (arXiv 2512.09824 v2): CLIP-T and DINO-I x100, human ratings from 1 to 5, and what it calls
    its rows. Indexed by their numbers; row 0 is empty."""
    table = pd.read_csv(PAPER / f"paper_{name}.csv", index_col="row")
    return table.reindex([0, *table.index]).fillna({"configuration": ""})


def read_scores(config: Config, method: str) -> pd.DataFrame:
    """A row per case and seed, as `bico.scoring.scores.score` wrote them."""
    return pd.read_csv(config.results / "scores" / f"{method}.csv")


def _rated(scores: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """A row's scores with the mean rating of each clip and how many people rated it; NaN if nobody did."""
    clips = answers.groupby(["case", "seed"])
    means = clips[list(QUESTIONS)].mean()
    means["overall"] = means.mean(axis=1)
    return scores.join(means.add_prefix("human_").assign(human_ratings=clips.size()), on=["case", "seed"])


# --- statistics -----------------------------------------------------------------------------------------------------


def case_means(config: Config, rows: pd.DataFrame, column: str) -> np.ndarray:
    """[trainings, cases]: mean of each case over the seeds that a training has made, in the order of the rows; NaN
    where no such clip was scored."""
    by_training = rows["seed"].map(config.learning_seed)
    means = rows.groupby([by_training, "case"])[column].mean().unstack("case")
    return means.reindex(index=config.learning_seeds, columns=rows["case"].unique()).to_numpy()


def interval(values: np.ndarray, *, resamples: int, seed: int) -> tuple[float, float, float]:
    """Mean of [cases], and the ends of its 95 % interval: 2.5 and 97.5 percentiles of a bootstrap over cases.

    Of [trainings, cases] the trainings, too, are resampled: the interval is of what other cases and another training
    could have given. Cases without a value (NaN) are resampled like the others and left out of the means; all three are
    NaN if no case has one. The same seed and shape resample the same: see `paired_difference`.
    """
    values = np.atleast_2d(values)
    if not np.isfinite(values).any():
        return np.nan, np.nan, np.nan
    samples = _resampled(values, resamples, seed).compressed()
    low, high = np.percentile(samples, [2.5, 97.5])
    return float(_mean(values)), float(low), float(high)


def rank_agreement(values: np.ndarray, ranking: np.ndarray, *, resamples: int, seed: int) -> tuple[float, float, float]:
    """Kendall's tau (b) between the means of [rows, trainings, cases] and a ranking [rows], and its 95 % interval.

    Without ties tau is +1 for the same order and -1 for the reverse. All three are NaN if the rows are all equal, the
    ends if there are fewer than `FEWEST` cases. The bootstrap is that of `interval`.
    """
    from scipy.stats import kendalltau

    resampled = np.asarray(_resampled(values, resamples, seed))
    samples = np.array([kendalltau(means, ranking).statistic for means in resampled.T])
    return float(kendalltau(np.asarray(_mean(values)), ranking).statistic), *_ends(samples, cases=values.shape[-1])


def rank_correlation(
    clips: pd.DataFrame, first: str, second: str, *, resamples: int, seed: int
) -> tuple[float, float, float]:
    """Spearman's correlation of two columns over the clips that have both, and its 95 % interval.

    A bootstrap over cases; the ranks stay those among all clips. All three are NaN where a column does not vary, the
    ends if there are fewer than `FEWEST` cases.
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


def _ends(samples: np.ndarray, *, cases: int) -> tuple[float, float]:
    """Of the 95 % interval: percentiles of the samples that are defined; NaN without such, or of too few cases."""
    samples = samples[np.isfinite(samples)]
    if not len(samples) or cases < FEWEST:
        return np.nan, np.nan
    low, high = np.percentile(samples, [2.5, 97.5])
    return float(low), float(high)


def _mean(values: np.ndarray) -> np.ma.MaskedArray:
    """Of [..., trainings, cases], every case with the mean of its trainings; without NaN."""
    return np.ma.masked_invalid(values).mean(axis=-2).mean(axis=-1)


def _resampled(values: np.ndarray, resamples: int, seed: int) -> np.ma.MaskedArray:
    """[..., resamples]: means of [..., trainings, cases] with cases drawn again, and trainings.

    Of k trainings resampled, the mean varies by (k - 1) / k of what it does among others: two are so few that this is
    made good for.
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

    A case that either of them lacks says nothing about their difference and is left out; see `case_interval`.
    """
    return case_interval(first - second, resamples=resamples, seed=seed)


def case_interval(values: np.ndarray, *, resamples: int, seed: int) -> tuple[float, float, float]:
    """`interval` of [trainings, cases], without ends (NaN) where fewer than `FEWEST` cases have a value."""
    mean, low, high = interval(values, resamples=resamples, seed=seed)
    enough = np.isfinite(np.atleast_2d(values)).any(axis=0).sum() >= FEWEST
    return (mean, low, high) if enough else (mean, np.nan, np.nan)


def row_interval(config: Config, rows: pd.DataFrame, column: str) -> dict[str, float]:
    """`case_interval` of a row's score, as the config wants it: the column, column_low and column_high of a table."""
    ends = case_interval(case_means(config, rows, column), **_bootstrap(config))
    return dict(zip((column, f"{column}_low", f"{column}_high"), ends, strict=True))


def row_intervals(config: Config, rows: pd.DataFrame, columns: Iterable[str]) -> dict[str, float]:
    """`row_interval` of several scores, as one dict."""
    return {name: value for column in columns for name, value in row_interval(config, rows, column).items()}


def _bootstrap(config: Config) -> dict[str, int]:
    return {"resamples": config.scoring.bootstrap, "seed": config.scoring.seed}


# --- a table --------------------------------------------------------------------------------------------------------


def _row(config: Config, method: str, rows: pd.DataFrame, paper: pd.Series) -> dict[str, str | int | float]:
    counts = {
        "method": method,
        "configuration": paper["configuration"],
        "cases": rows["case"].nunique(),
        "seeds": rows["seed"].nunique(),
        "trainings": len(config.learning_seeds) if config.methods[method].LEARNS_PER != "nothing" else 0,
        "clips": len(rows),
        "missing": int(rows["status"].isin(["failed", "missing"]).sum()),
        "not_supported": int((rows["status"] == "not supported").sum()),
    }
    scores = row_intervals(config, rows, score_columns(config))
    figures = {f"paper_{column}": value for column, value in paper.items() if column != "configuration"}
    human = {"human_ratings": int(rows["human_ratings"].sum())} | row_intervals(config, rows, HUMAN)
    return counts | scores | human | figures


def _document(config: Config, title: str, table: pd.DataFrame, scores: dict[str, pd.DataFrame], judged: str) -> str:
    columns = score_columns(config)
    rows = _rows(table) + ([_truth(config, columns)] if _has_truth(config) else [])
    parts = [
        f"# {title}: {config.name}",
        _counts(table),
        _markdown(["method", *columns], [[row["method"], *(_cell(row, column) for column in columns)] for row in rows]),
        _legend(config),
    ]
    if REFERENCE in scores and len(scores) > 1:
        compared = [*columns, *(HUMAN if table["human_ratings"].any() else ())]
        parts += [
            f"## Differences to {REFERENCE}",
            "Row minus reference, case by case, both resampled with the same cases.",
            _markdown(["method", *compared], _differences(config, scores, compared)),
        ]
    if _has_truth(config):
        parts += [*_validity(config, scores), *_agreement(config, table, scores)]
    parts += [
        "## People, and the paper",
        f"Human ratings of these clips (1 to 5): {judged} Beside them the paper's published figures: measured there, "
        "on other cases with other models.",
        _people(table),
    ]
    return "\n\n".join(parts) + "\n"


def _rows(table: pd.DataFrame) -> list[dict]:
    return table.to_dict(orient="records")


def _has_truth(config: Config) -> bool:
    return config.models.probe is not None and bool(config.truths)


def _truth(config: Config, columns: tuple[str, ...]) -> dict:
    """The scores of exact renderings, as a row of the table."""
    return {"method": TRUTH} | row_intervals(config, read_scores(config, TRUTH), columns)


def _cell(row: dict, column: str, digits: int = 1) -> str:
    return _span(row[column], row[f"{column}_low"], row[f"{column}_high"], digits=digits)


def _span(mean: float, low: float, high: float, *, sign: str = "", digits: int = 1) -> str:
    form = f"{sign}.{digits}f"
    ends = f" [{low:{form}}, {high:{form}}]" if np.isfinite(low) else ""
    return f"{mean:{form}}{ends}" if np.isfinite(mean) else ""


def _counts(table: pd.DataFrame) -> str:
    columns = ["method", "configuration", "cases", "seeds", "trainings", "clips", "missing", "not_supported"]
    return _markdown(columns, [[str(row[column]) for column in columns] for row in _rows(table)])


def _differences(config: Config, scores: dict[str, pd.DataFrame], columns: list[str]) -> list[list[str]]:
    def difference(method: str, column: str) -> str:
        both = (case_means(config, scores[name], column) for name in (method, REFERENCE))
        return _span(*paired_difference(*both, **_bootstrap(config)), sign="+", digits=2 if column in HUMAN else 1)

    others = [method for method in scores if method != REFERENCE]
    return [[method, *(difference(method, column) for column in columns)] for method in others]


def _validity(config: Config, scores: dict[str, pd.DataFrame]) -> list[str]:
    """Whether scores that know no truth rank clips as the truth does."""
    clips = pd.concat(scores.values())
    found = {score: rank_correlation(clips, score, truth, **_bootstrap(config)) for score, truth in ASKS.items()}
    return [
        "## Do scores that know no truth agree with it?",
        "Spearman's rank correlation over the clips of all rows, 95 % interval over cases: 1 = the score ranks clips "
        "as the truth does, 0 = it says nothing of it.",
        _markdown(
            ["score", "truth", "clips", "correlation"],
            [
                [score, truth, str(len(clips[[score, truth]].dropna())), _span(*found[score], sign="+", digits=2)]
                for score, truth in ASKS.items()
            ],
        ),
    ]


def _agreement(config: Config, table: pd.DataFrame, scores: dict[str, pd.DataFrame]) -> list[str]:
    """Whether the rows come in the paper's order: as a whole, and each two of them that are neighbours there."""
    paper = table.set_index("method")["paper_overall"].dropna().sort_values()
    if len(paper) < 2:
        return []
    values = np.array([case_means(config, scores[row], "truth_overall") for row in paper.index])
    values = values[..., np.isfinite(values).all(axis=(0, 1))]
    if not values.size:
        return []
    tau = _span(*rank_agreement(values, paper.to_numpy(), **_bootstrap(config)), sign="+", digits=2)
    neighbours = {
        f"`{better}` minus `{worse}`": paired_difference(second, first, **_bootstrap(config))
        for (worse, first), (better, second) in pairwise(zip(paper.index, values, strict=True))
    }
    apart = sum(low > 0 or high < 0 for _, low, high in neighbours.values())
    return [
        "## The paper's order",
        f"Kendall's tau between `truth_overall` and the paper's Overall, over {len(paper)} rows and the "
        f"{values.shape[-1]} cases that all of them have: {tau or 'not defined'} (1 = the same order, "
        "-1 = the reverse).",
        f"Neighbours in the paper's order, the better one there minus the worse, in `truth_overall`: {apart} of "
        f"{len(neighbours)} are told apart.",
        "\n".join(f"- {pair}: {_span(*found, sign='+')}, {_verdict(*found)}" for pair, found in neighbours.items()),
    ]


def _verdict(mean: float, low: float, high: float) -> str:
    if np.isnan(low):
        return "too few cases to tell"
    if low > 0:
        return "as in the paper"
    return "the other way round" if high < 0 else "not told apart"


def _people(table: pd.DataFrame) -> str:
    paper = [name for name in table.columns if name.startswith("paper_")]
    cells = [
        [
            row["method"],
            str(row["human_ratings"]),
            *(_cell(row, name, digits=2) for name in HUMAN),
            *("" if np.isnan(row[name]) else f"{row[name]:.2f}" for name in paper),
        ]
        for row in _rows(table)
    ]
    return _markdown(["method", "human_ratings", *HUMAN, *paper], cells)


def _judged(answers: pd.DataFrame, outdated: int) -> str:
    """Who rated how much, and how far they agree."""
    if answers.empty and not outdated:
        return "none yet."
    raters, clips = answers["rater"].nunique(), len(answers.drop_duplicates(["method", "case", "seed"]))
    alphas = {question: agreement(answers, question) for question in QUESTIONS}
    told = ", ".join(
        f"{name} {value:.2f}" if np.isfinite(value) else f"{name} not defined" for name, value in alphas.items()
    )
    lost = f" {outdated} more are not counted: their clips have changed since, or are gone." if outdated else ""
    return (
        f"{len(answers)} by {raters} raters, of {clips} clips, averaged clip by clip first.{lost} Krippendorff's alpha "
        f"between raters (interval scale): {told}."
    )


def _legend(config: Config) -> str:
    lines = [f"- `{column}`: {MEANING[column]}" for column in score_columns(config)]
    if _has_truth(config):
        ends = json.loads(calibration_path(config).read_text())
        raw = ", ".join(f"{name} {end['floor']:.3f} to {end['ceiling']:.3f}" for name, end in ends.items())
        lines.append(
            f"- Last, `{TRUTH}`: exact renderings, one of each case, scored like clips. A score above theirs says no "
            "more of how well a clip fits."
        )
        lines.append(
            "- The truth scores run from 0 (another clip: the truth of a case that shares no source) to 100 (the truth "
            f"itself, rendered and read by the same probe) and may lie outside; raw values in 0..1 at these ends: {raw}"
        )
    lines.append(
        f"- In brackets: 95 % interval, {config.scoring.bootstrap} bootstrap resamples of the cases (seeds of a case "
        f"are averaged first); none where fewer than {FEWEST} cases have a score. `missing` and `not_supported` clips "
        "have no scores: means are over the others."
    )
    if len(config.learning_seeds) > 1:
        lines.append(
            "- Rows were learned once with each of `learning_seeds`, which the seeds of a case take in turn. Trainings "
            "are resampled, too: intervals cover other cases and another training, as far as so few can tell."
        )
    else:
        lines.append(
            "- Every row learned once. How far another training would move it is in no interval: before you trust a "
            "small difference, give the config more `learning_seeds`."
        )
    if lost := dict.fromkeys(f"'{word}' of {source}" for _, source, word in unnamed(config)):
        lines.append(
            f"- No caption names {', '.join(lost)}: little was learned under these words. `concepts` of a source sets "
            "its key words."
        )
    models = ", ".join(f"{name} {folder_digest(folder)}" for name, folder in config.models if folder)
    code = code_digest("bico.cli", *(f"bico.methods.{settings.method}" for settings in config.methods.values()))
    lines.append(
        f"- Made by bico {__version__} (code {code}) in {_precision(config)} with the models {models}. What was made "
        "with other models does not compare: where you cite figures, cite this line and keep `config.yaml`."
    )
    return "\n".join(lines)


def _precision(config: Config) -> str:
    """Of the frozen models that made the clips, from the records beside them: another machine may choose another."""
    records = (config.results / "clips").rglob("*.made_from.json")
    found = {json.loads(path.read_text(encoding="utf-8"))["dtype"].removeprefix("torch.") for path in records}
    return " and ".join(sorted(found)) or "unknown precision"


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table with aligned columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: list[str]) -> str:
        others = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return f"| {' | '.join([cells[0].ljust(widths[0]), *others])} |"

    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([line(header), f"|{rule}|", *map(line, rows)])
