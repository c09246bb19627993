"""The tables: scores of methods and of BiCo's variants with their intervals, as CSV for programs, Markdown for readers
and LaTeX for a paper.
"""

from __future__ import annotations

import json
from itertools import chain, pairwise
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from bico import __version__
from bico.config.methods import module_of
from bico.config.schema import Config
from bico.config.scores import QUESTIONS
from bico.core.files import write_text
from bico.core.fingerprints import code_digest, folder_digest
from bico.core.records import SUFFIX, load_json
from bico.core.saving import save_csv
from bico.core.tables import read_table
from bico.report import latex, statistics
from bico.report.answers import agreement, counted_answers, rated
from bico.report.controls import verdicts
from bico.report.markdown import markdown
from bico.report.names import TRUTH_LABEL, counted, scope, span
from bico.report.partial import REFERENCE, complete_first, covered, lost, on_same_cases, scored_cases
from bico.report.power import POWER, variance_components
from bico.report.statistics import (
    bootstrap,
    case_means,
    difference_p,
    holm,
    paired_difference,
    rank_agreement,
    rank_correlation,
    row_intervals,
)
from bico.scoring.results import TRUTH, answering, read_scores, score_columns
from bico.sources.coverage import coverage

TITLES = {"table1": "Table 1, methods", "table2": "Table 2, parts of BiCo", "table3": "Table 3, stages of training"}
PAPER = Path(__file__).parent  # folder of paper_<table>.csv
HUMAN = tuple(f"human_{question}" for question in (*QUESTIONS, "overall"))
NARROW = (
    "With few cases the intervals of the bootstrap are too narrow: they miss a true zero in 13 % of experiments with 7 "
    "cases, in 8 % with 17, and in 6 % with 28. With few trainings that differ much they are too narrow, too: with 28 "
    "cases they miss it in 15 % with two trainings, and in 8 % with four. The star does so in 5 %, with two such "
    "trainings in 9 %."
)
LEARNED_ONCE = "They cover only the variation over cases, because one training does not show the variation of others. "


def write_table(config: Config, name: str) -> pd.DataFrame:
    """Writes `results/<name>.csv`, `.md` and `.tex` from `results/scores/<row>.csv` of a table's rows. Returns it."""
    paper, rows = paper_table(name), config.table(name)
    answers, outdated = counted_answers(config, rows)
    scores = {row: rated(read_scores(config, row), answers[answers["method"] == row]) for row in rows}
    table = pd.DataFrame(
        [_row(config, row, scores[row], cast("pd.Series", paper.loc[number or 0])) for row, number in rows.items()]
    )
    save_csv(config.paths.table(name), table)
    groups = _groups(config, table, scores)
    document = _document(config, name, table, groups, scores, _judged(answers, outdated))
    write_text(config.paths.table(name, "md"), document)
    write_text(config.paths.table(name, "tex"), _latex(config, name, table, groups))
    return table


def paper_table(name: str) -> pd.DataFrame:
    """A table of the paper (arXiv 2512.09824 v2): CLIP-T and DINO-I x100, human ratings from 1 to 5, and the names of
    its rows. The index is the number of the row; row 0 is empty."""
    table = read_table(PAPER / f"paper_{name}.csv", {"row": int, "configuration": str}).set_index("row")
    return table.reindex([0, *table.index]).fillna({"configuration": ""})


# --- a table --------------------------------------------------------------------------------------------------------


def _row(config: Config, row: str, rows: pd.DataFrame, paper: pd.Series) -> dict[str, str | int | float]:
    counts = {
        "method": row,
        "configuration": paper["configuration"],
        "cases": rows["case"].nunique(),
        "scored_cases": len(scored_cases(rows)),
        "seeds": rows["seed"].nunique(),
        "trainings": config.methods[row].trainings(config.learning_seeds),
        "clips": len(rows),
        "missing": int(rows["status"].isin(["failed", "missing"]).sum()),
        "not_supported": int((rows["status"] == "not supported").sum()),
    }
    counts["made_elsewhere"] = int(bool(config.methods[row].origin()))
    scores = row_intervals(config, rows, score_columns(config))
    figures = {f"paper_{column}": value for column, value in paper.items() if column != "configuration"}
    human = {"human_ratings": int(rows["human_ratings"].sum())} | row_intervals(config, rows, HUMAN)
    return counts | scores | human | figures


def _groups(config: Config, table: pd.DataFrame, scores: dict[str, pd.DataFrame]) -> list[list[dict]]:
    """The rows of the Markdown and LaTeX tables, each with its "label", and with what it "covers" if not all cases and
    clips.

    Rows that cover all cases come first. Each row that covers fewer follows, with the reference on the same cases. The
    exact renderings come last, if there are any.
    """
    columns, groups = score_columns(config), [[]]
    beside = on_same_cases(config, scores, columns)
    for row in _rows(complete_first(table)):
        fewer = covered(row)
        if fewer:
            groups.append([])
        groups[-1].append(
            row | {"label": config.label(row["method"]), "covers": ", ".join(filter(None, (fewer, lost(row))))}
        )
        groups[-1] += [beside[row["method"]]] if row["method"] in beside else []
    if config.has_truth:
        truth = row_intervals(config, read_scores(config, TRUTH), columns)
        groups.append([{"label": f"{TRUTH_LABEL}s", "covers": ""} | truth])
    return groups


def _document(
    config: Config,
    name: str,
    table: pd.DataFrame,
    groups: list[list[dict]],
    scores: dict[str, pd.DataFrame],
    judged: str,
) -> str:
    columns = score_columns(config)
    parts = [
        f"# {TITLES[name]}: {config.name}",
        f"{scope(config)}.",
        markdown(
            ["method", *columns],
            [[_named(row), *(_cell(row, column) for column in columns)] for row in chain.from_iterable(groups)],
        ),
        _counts(config, table),
        _legend(config, name, table),
    ]
    if REFERENCE in scores and len(scores) > 1:
        compared = [*columns, *(HUMAN if table["human_ratings"].any() else ())]
        differences, smallest = _comparisons(config, scores, compared)
        parts += [
            f"## Differences to {config.label(REFERENCE)}",
            "Row minus reference, case by case, on the cases that both have; a cell says if fewer of them have the "
            "score. Both are resampled with the same cases. A star: significant by a t test, also after Holm's "
            f"correction for the comparisons in its column (p < 0.05). {NARROW}",
            markdown(["method", "common cases", *compared], differences),
            f"Minimal detectable differences: a true difference of this size is significant in {POWER:.0%} of "
            f"experiments, without Holm's correction. {LEARNED_ONCE if len(config.learning_seeds) == 1 else ''}"
            "`bico power` says how many cases and trainings a smaller one needs.",
            markdown(["method", *compared], smallest),
        ]
    if config.has_truth:
        parts += [*_validity(config, scores), *_paper_order(config, table, scores)]
    parts += ["## People", f"Human ratings of these clips (1 to 5): {judged}"]
    if table["human_ratings"].any():
        parts.append(_people(config, table))
    parts += _paper_values(config, table)
    return "\n\n".join(parts) + "\n"


def _named(row: dict) -> str:
    return f"{row['label']}, {row['covers']}" if row["covers"] else row["label"]


def _latex(config: Config, name: str, table: pd.DataFrame, groups: list[list[dict]]) -> str:
    title = TITLES[name].partition(", ")[2]
    notes = [
        title[0].upper() + title[1:],
        scope(config),
        "Means over cases, with 95% intervals in brackets (bootstrap over cases"
        f"{' and trainings' if len(config.learning_seeds) > 1 else ''})",
    ]
    fewer = (table["scored_cases"] < table["cases"]).any()
    notes += ["A row that covers fewer cases cannot be compared with the rows above it"] if fewer else []
    headings = {name: column.heading for name, column in score_columns(config).items() if column.heading}
    if table["paper_overall"].notna().any():
        headings["paper_overall"] = "Paper"
        notes.append("Paper: the overall rating by people, 1 to 5, that the paper published for its own clips")
    return latex.document(groups, headings, f"{'. '.join(notes)}.", f"{config.name}-{name}")


def _rows(table: pd.DataFrame) -> list[dict]:
    return table.to_dict(orient="records")


def _cell(row: dict, column: str, digits: int = 1) -> str:
    return span(row[column], row[f"{column}_low"], row[f"{column}_high"], digits=digits)


def _counts(config: Config, table: pd.DataFrame) -> str:
    counts = ["cases", "scored_cases", "seeds", "trainings", "clips", "missing", "not_supported"]
    cells = [
        [config.label(row["method"]), row["method"], row["configuration"], *(str(row[column]) for column in counts)]
        for row in _rows(table)
    ]
    return markdown(["method", "row in files", "in the paper", *counts], cells)


def _comparisons(
    config: Config, scores: dict[str, pd.DataFrame], columns: list[str]
) -> tuple[list[list[str]], list[list[str]]]:
    """Cells of two tables with a line a row: its differences to the reference, and the minimal detectable ones."""
    cases = {row: set(scored_cases(of_row)) for row, of_row in scores.items()}
    others = [row for row in scores if row != REFERENCE]
    differences = [[config.label(row), str(len(cases[row] & cases[REFERENCE]))] for row in others]
    smallest = [[config.label(row)] for row in others]
    for column in columns:
        digits = 2 if column in HUMAN else 1
        means = {row: case_means(config, of_row, column) for row, of_row in scores.items()}
        pairs = [(means[row], means[REFERENCE]) for row in others]
        corrected = holm([difference_p(*pair) for pair in pairs])
        for difference, least, pair, p in zip(differences, smallest, pairs, corrected, strict=True):
            interval = span(*paired_difference(*pair, **bootstrap(config)), sign="+", digits=digits)
            common = _common(*pair)
            star = " *" if p < 0.05 else ""
            fewer = f" ({counted(common, 'case')})" if interval and str(common) != difference[1] else ""
            difference.append(f"{interval}{star}{fewer}")
            least.append(_smallest(*pair, digits))
    return differences, smallest


def _smallest(first: np.ndarray, second: np.ndarray, digits: int) -> str:
    found = variance_components(first, second)
    return f"{found.smallest_difference(_common(first, second), len(first)):.{digits}f}" if found else ""


def _common(first: np.ndarray, second: np.ndarray) -> int:
    """Number of cases for which both have a value."""
    return int(np.isfinite(first - second).any(axis=0).sum())


def _validity(config: Config, scores: dict[str, pd.DataFrame]) -> list[str]:
    """Rank correlations of scores without access to exact renderings with the truth scores."""
    clips = pd.concat(scores.values())
    asked = answering(config)
    found = {score: rank_correlation(clips, score, truth, **bootstrap(config)) for score, truth in asked.items()}
    return [
        "## Do the other scores agree with the truth scores?",
        "Spearman's rank correlation over the clips of all rows, with 95 % intervals over cases: 1 = the score ranks "
        "clips like the truth score, 0 = there is no relation.",
        markdown(
            ["score", "truth", "clips", "correlation"],
            [
                [score, truth, str(len(clips[[score, truth]].dropna())), span(*found[score], sign="+", digits=2)]
                for score, truth in asked.items()
            ],
        ),
    ]


def _paper_order(config: Config, table: pd.DataFrame, scores: dict[str, pd.DataFrame]) -> list[str]:
    """Whether the rows have the paper's order: all of them, and each pair of neighbours in that order."""
    paper = table.set_index("method")["paper_overall"].dropna().sort_values()
    if len(paper) < 2:
        return []
    values = np.array([case_means(config, scores[row], "truth_overall") for row in paper.index])
    values = values[..., np.isfinite(values).all(axis=(0, 1))]
    if not values.size:
        return ["## The paper's order", "No case has clips of all rows that are in the paper, so there is no order."]
    tau = span(*rank_agreement(values, paper.to_numpy(), **bootstrap(config)), sign="+", digits=2)
    pairs = [(second, first) for first, second in pairwise(values)]
    found = [paired_difference(*pair, **bootstrap(config)) for pair in pairs]
    p_values = [difference_p(*pair) for pair in pairs]
    labels = [f"“{config.label(better)}” minus “{config.label(worse)}”" for worse, better in pairwise(paper.index)]
    return [
        "## The paper's order",
        f"Kendall's tau between `truth_overall` and the paper's Overall, over {len(paper)} rows and the "
        f"{values.shape[-1]} cases that all of them have: {tau or 'not defined'} (1 = the same order, "
        "-1 = the reverse).",
        "Neighbours in the paper's order, the better one there minus the worse, in `truth_overall`: "
        f"{sum(p < 0.05 for p in p_values)} of {len(pairs)} differences are significant by a t test, "
        f"{sum(p < 0.05 for p in holm(p_values))} of them also after Holm's correction for several comparisons.",
        "\n".join(
            f"- {label}: {span(*difference, sign='+')}, {_verdict(difference[0], p)}"
            for label, difference, p in zip(labels, found, p_values, strict=True)
        ),
    ]


def _verdict(mean: float, p: float) -> str:
    if np.isnan(p):
        return "too few cases to tell"
    if p >= 0.05:
        return "not significant"
    return "as in the paper" if mean > 0 else "the other way round"


def _people(config: Config, table: pd.DataFrame) -> str:
    cells = [
        [config.label(row["method"]), str(row["human_ratings"]), *(_cell(row, name, digits=2) for name in HUMAN)]
        for row in _rows(table)
    ]
    return markdown(["method", "human_ratings", *HUMAN], cells)


def _paper_values(config: Config, table: pd.DataFrame) -> list[str]:
    """The paper's values, for the rows that it has too."""
    figures = [name for name in table.columns if name.startswith("paper_")]
    rows = _rows(table[table[figures].notna().any(axis=1)])
    cells = [
        [config.label(row["method"]), row["configuration"]]
        + ["" if np.isnan(row[name]) else f"{row[name]:.2f}" for name in figures]
        for row in rows
    ]
    note = "The paper's values for the rows that it has too. It measured them on other cases with other models."
    return ["## The paper", note, markdown(["method", "in the paper", *figures], cells)] if rows else []


def _judged(answers: pd.DataFrame, outdated: int) -> str:
    """The numbers of ratings, raters and clips, and the agreement between raters."""
    if answers.empty and not outdated:
        return "none yet."
    raters, clips = answers["rater"].nunique(), len(answers.drop_duplicates(["method", "case", "seed"]))
    alphas = {question: agreement(answers, question) for question in QUESTIONS}
    values = ", ".join(
        f"{name} {value:.2f}" if np.isfinite(value) else f"{name} not defined" for name, value in alphas.items()
    )
    lost = f" {outdated} more are not counted: their clips have changed or were removed since." if outdated else ""
    return (
        f"{len(answers)} by {raters} raters, of {clips} clips. The ratings of a clip are averaged first.{lost} "
        f"Krippendorff's alpha between raters (interval scale): {values}."
    )


def _legend(config: Config, name: str, table: pd.DataFrame) -> str:
    lines = [f"- `{name}`: {column.description}" for name, column in score_columns(config).items()]
    if config.has_truth:
        ends = load_json(config.paths.calibration)
        raw = ", ".join(f"{name} {end['floor']:.3f} to {end['ceiling']:.3f}" for name, end in ends.items())
        lines.append(
            f"- The last row is {TRUTH_LABEL}s: one of each case, scored like clips. Differences above their scores "
            "have no meaning."
        )
        other = (
            "the exact rendering of a case that shares no source"
            if config.has_unrelated_cases
            else "a Toybox scene drawn at random, because all cases share a source"
        )
        lines.append(
            f"- A truth score of 0 is that of another clip: {other}. For "
            "`truth_clean` it is that of the exact rendering with one source's unwanted things added. 100 is the score "
            "of the exact rendering itself, measured by the same probe. Scores may lie outside. Raw values (0..1) at "
            f"both ends: {raw}"
        )
    if (table["scored_cases"] < table["cases"]).any():
        lines.append(
            "- A row that covers fewer cases gives their number and is listed below the others. Its means cannot be "
            "compared with theirs."
        )
        if REFERENCE in table["method"].values:
            lines[-1] += (
                f" The line below it is {config.label(REFERENCE)} on the same cases. Differences use common cases."
            )
    if name in ("table2", "table3"):
        lines += verdicts(config)
    for row in table["method"]:
        if origin := config.methods[row].origin():
            lines.append(f"- {config.label(row)}: {origin}. Only its scores were computed here.")
    lines.append(
        f"- In brackets: 95 % interval from {config.scoring.bootstrap} bootstrap resamples of the cases (seeds of a "
        f"case are averaged first). There is none where fewer than {statistics.FEWEST} cases have a score. `missing` "
        "and `not_supported` clips have no scores; means are over the others."
    )
    if len(config.learning_seeds) > 1:
        lines.append(
            "- Rows were trained once with each of `learning_seeds`, which the seeds of a case use in turn. Trainings "
            "are resampled too, so intervals cover the variation over cases and, as far as so few show it, trainings."
        )
        for line in _rows(table):
            if 0 < line["trainings"] < len(config.learning_seeds):
                lines.append(
                    f"- {config.label(line['method'])} was trained {counted(line['trainings'], 'time')} only. Its "
                    "interval treats clips of other seeds as other trainings, and covers less of their variation."
                )
    else:
        lines.append(
            "- Every row was trained once, so the intervals do not include the variation between trainings. Before you "
            "trust a small difference, give the config more `learning_seeds`."
        )
    if low := dict.fromkeys(f"'{each.phrase}' of {each.source}" for each in coverage(config) if each.is_low):
        lines.append(
            f"- Captions contain less than half of the content words of {', '.join(low)}, so little was learned for "
            "these words (`coverage.csv`). `concepts` of a source sets its key words."
        )
    models = ", ".join(f"{name} {folder_digest(folder)}" for name, folder in config.models if folder)
    methods = [module_of(settings.method, "compose") for settings in config.methods.values()]
    code = code_digest("bico.cli.main", *methods)
    lines.append(
        f"- Made by bico {__version__} (code {code}) in {_precision(config)} with the models {models}. Results with "
        "other models cannot be compared. If you cite numbers, cite this line and keep `config.yaml`."
    )
    return "\n".join(lines)


def _precision(config: Config) -> str:
    """Precision of the frozen models that made the clips, from the records beside them; it depends on the machine."""
    records = config.paths.clips.rglob(f"*{SUFFIX}")
    settings = [json.loads(path.read_text(encoding="utf-8"))["settings"] for path in records]
    found = {each["dtype"].removeprefix("torch.") for each in settings if "dtype" in each}
    return " and ".join(sorted(found)) or "unknown precision"
