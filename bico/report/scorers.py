"""Tests of scores: does a score fall as a fault grows, and does it rank methods' clips like the truth or like people?

On exact renderings with a known fault (`bico.toybox.faults`), for each score and fault:

* slope: points that a whole dose costs, by least squares through the exact rendering;
* wrong: share of pairs of doses of one case in which the clip with more of the fault has the higher score; equal scores
  count half. 0.5 = the score does not detect the fault;
* seen at: the smallest dose from which on the score lies below that of the exact rendering (95 % interval over cases).

On the clips of methods: Spearman's correlation with the answer to each question, and the share of pairs of clips that a
score puts in the same order. Two scores count as equal if their difference is below a threshold, which is chosen for
the best agreement (Deutsch et al., Ties Matter, EMNLP 2023).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bico.config.schema import Config
from bico.config.scores import QUESTIONS, TRUTH_SCORES, Column, columns_of
from bico.core.errors import InputError
from bico.core.files import write_text
from bico.core.saving import save_csv
from bico.core.tables import read_table
from bico.report.answers import counted_answers, rated
from bico.report.markdown import markdown
from bico.report.names import counted, scope, span
from bico.report.statistics import bootstrap, case_interval, named, pair_accuracy, rank_correlation
from bico.report.style import INK, save_pair, styled
from bico.scoring.results import dose_columns, read_scores, score_columns
from bico.toybox.faults import DOSES, EXACT, FAULTS, dosed_clips

TRUSTED = 0.75
"""Share of a question's faults that a score must put in the right order to be trusted for this question."""

FAULT_COLUMNS = (
    *("score", "fault", "about", "cases", "slope", "slope_low", "slope_high"),
    *("wrong", "wrong_low", "wrong_high", "seen_at"),
)
AGREEMENT_COLUMNS = (
    *("score", "answer", "clips", "count", "correlation", "correlation_low", "correlation_high"),
    *("accuracy", "accuracy_low", "accuracy_high", "tie"),
)


def scorers(config: Config) -> None:
    """Writes `results/scorers.csv` (a row for each score and fault), `results/scorers/agreement.csv` (one for each
    score, answer and scope of clips), `results/scorers.md`, and, for the Toybox, `results/figures/scorers.png` and
    `.pdf`.

    Raises:
        InputError: there are neither exact renderings nor ratings.
    """
    faults = pd.DataFrame(list(_faults(config)) if config.has_truth else [], columns=list(FAULT_COLUMNS))
    agreements = pd.DataFrame(list(_agreements(config)), columns=list(AGREEMENT_COLUMNS))
    if faults.empty and agreements.empty:
        raise InputError(
            f"{config.paths.rating_answers}: no ratings of these clips, and no probe for exact renderings: expected "
            "one of them, to compare scores with"
        )
    save_csv(config.paths.table("scorers"), faults)
    save_csv(config.paths.agreement, agreements)
    write_text(config.paths.table("scorers", "md"), _document(config, faults, agreements))
    if len(faults):
        with styled([config.name]):
            save_pair(_figure(config, faults), config.paths.figure("scorers"))


def ordered_names(columns: Mapping[str, Column]) -> list[str]:
    """Those of which more is better."""
    return [name for name, column in columns.items() if column.ordered]


# --- faults ---------------------------------------------------------------------------------------------------------


def _faults(config: Config) -> Iterator[dict[str, Any]]:
    types = {"case": str, "fault": str, "dose": float}
    clips = read_table(config.paths.doses, types, by=tuple(types), expected=dosed_clips(config))
    exact = clips[clips["fault"] == EXACT].set_index("case")
    for score in ordered_names(dose_columns(config)):
        for fault in FAULTS:
            dosed = clips[clips["fault"] == fault].pivot(index="case", columns="dose", values=score)
            if len(dosed):
                values = np.column_stack([exact.loc[dosed.index, score], dosed[list(DOSES)]])
                yield {"score": score, "fault": fault, "about": " ".join(FAULTS[fault].about)} | _of_fault(
                    config, values
                )


def _of_fault(config: Config, values: np.ndarray) -> dict[str, Any]:
    """The measures of one fault from a score [cases, doses], with the exact rendering first."""
    doses = np.array([0.0, *DOSES])
    changes = values - values[:, :1]
    slopes = changes @ doses / (doses @ doses)
    pairs = [np.sign(values[:, more] - values[:, less]) for less, more in combinations(range(len(doses)), 2)]
    wrong = (np.mean(pairs, axis=0) + 1) / 2  # NaN stays
    falls = [case_interval(changes[:, place], **bootstrap(config))[2] < 0 for place in range(1, len(doses))]
    seen = next((dose for place, dose in enumerate(DOSES) if all(falls[place:])), np.nan)
    measures = {"cases": int(np.isfinite(slopes).sum())}
    for name, of_cases in {"slope": slopes, "wrong": wrong}.items():
        measures |= named(name, case_interval(of_cases, **bootstrap(config)))
    return measures | {"seen_at": seen}


# --- clips of methods -----------------------------------------------------------------------------------------------


def _agreements(config: Config) -> Iterator[dict[str, Any]]:
    rows = list(config.table("table1"))
    answers, _ = counted_answers(config, rows)
    of_rows = [
        rated(read_scores(config, row), answers[answers["method"] == row]).assign(method=row)
        for row in rows
        if not config.methods[row].CONTROL
    ]
    if not of_rows:
        return
    clips = pd.concat(of_rows, ignore_index=True)
    kinds = ("truth", "human") if config.has_truth else ("human",)
    for target in (f"{kind}_{asked}" for asked in QUESTIONS for kind in kinds):
        for score in ordered_names(columns_of(config.scoring.scores)):
            known = clips[["method", "case", score, target]].dropna()
            if known.empty:
                continue
            # Ranks within each row remove the differences between methods.
            own = known.assign(**{name: known.groupby("method")[name].rank(pct=True) for name in (score, target)})
            for scope_, ranked, by in (("all rows", known, None), ("within rows", own, "method")):
                found = rank_correlation(ranked, score, target, **bootstrap(config))
                accuracy = pair_accuracy(known, score, target, by=by, **bootstrap(config))
                yield {
                    "score": score,
                    "answer": target,
                    "clips": scope_,
                    "count": len(known),
                    **named("correlation", found),
                    **named("accuracy", accuracy[:3]),
                    "tie": accuracy[3],
                }


# --- what people read -----------------------------------------------------------------------------------------------


def _document(config: Config, faults: pd.DataFrame, agreements: pd.DataFrame) -> str:
    parts = [
        f"# What each score is worth: {config.name}",
        f"{scope(config)}. 95 % intervals over cases are in brackets.",
        "## Which score to trust",
        f"A score is trusted for a question if it puts at least {TRUSTED:.0%} of the question's faults in order (the "
        "interval of its wrong pairs lies below one half), and if its rank correlation with the answers, within each "
        "row's clips, is above zero. If only some of the conditions that could be tested hold, it is trusted in part.",
        "\n".join(_statements(config, faults, agreements)),
    ]
    if len(faults):
        parts += [
            "## Faults",
            "Exact renderings with one fault, in doses from a quarter to 1. Each cell has the share of pairs of doses "
            "in the wrong order (0 = always right, 0.5 = the score does not detect the fault), and the smallest dose "
            "that is seen.",
            _fault_table(config, faults, _wrong),
            "Points that a whole dose costs:",
            _fault_table(
                config, faults, lambda line: span(line["slope"], line["slope_low"], line["slope_high"], sign="+")
            ),
        ]
    if len(agreements):
        parts += [
            "## Clips of methods",
            "Controls, such as copied frames, are left out. Accuracy: share of pairs of clips in the same order as the "
            "answers. A difference up to `tie` counts as equal. Chance is about 0.5, or the share of equal answers if "
            "that is larger.",
            _agreement_table(config, agreements),
        ]
    return "\n\n".join(parts) + "\n"


def _statements(config: Config, faults: pd.DataFrame, agreements: pd.DataFrame) -> Iterator[str]:
    columns = dose_columns(config)
    for asked in QUESTIONS:
        about = faults[faults["fault"].isin([name for name, fault in FAULTS.items() if asked in fault.about])]
        within = agreements[agreements["clips"] == "within rows"]
        within = within[within["answer"].isin([f"truth_{asked}", f"human_{asked}"])]
        for score in [*ordered_names(columns_of(config.scoring.all)), f"truth_{asked}"]:
            holds, reasons = list[bool](), list[str]()
            of_score = about[(about["score"] == score) & about["wrong_high"].notna()]  # NaN: too few cases
            if len(of_score):
                ordered = of_score[of_score["wrong_high"] < 0.5]
                missed = [fault for fault in of_score["fault"] if fault not in set(ordered["fault"])]
                holds.append(len(ordered) >= TRUSTED * len(of_score))
                reasons.append(f"{len(ordered)} of {len(of_score)} faults in order")
                reasons += [f"not {', '.join(missed)}"] if missed else []
            of_clips = within[(within["score"] == score) & within["correlation_low"].notna()]
            for line in of_clips.to_dict(orient="records"):
                holds.append(line["correlation_low"] > 0)
                reasons.append(f"correlation with {line['answer']} {_correlation(line)}")
            if holds:
                verdict = "trusted" if all(holds) else "trusted in part" if any(holds) else "not trusted"
                yield f"- {asked}, {_named(columns, score)}: **{verdict}** ({'; '.join(reasons)})"


def _wrong(line: Mapping[Any, Any]) -> str:
    if math.isnan(line["wrong"]):
        return ""
    if math.isnan(line["wrong_high"]):
        return f"{span(line['wrong'], digits=2)}, too few cases"
    seen = "not seen" if math.isnan(line["seen_at"]) else f"seen at {line['seen_at']:g}"
    return f"{span(line['wrong'], line['wrong_low'], line['wrong_high'], digits=2)}, {seen}"


def _correlation(line: Mapping[Any, Any]) -> str:
    ends = (line[name] for name in ("correlation", "correlation_low", "correlation_high"))
    return span(*ends, sign="+", digits=2)


def _fault_table(config: Config, faults: pd.DataFrame, cell: Any) -> str:
    scores = list(dict.fromkeys(faults["score"]))
    lines = {(line["fault"], line["score"]): line for line in faults.to_dict(orient="records")}
    names = list(dict.fromkeys(faults["fault"]))
    cases = faults.groupby("fault")["cases"].max()
    return markdown(
        ["fault", "about", "cases", *(_named(dose_columns(config), score) for score in scores)],
        [
            [name, ", ".join(FAULTS[name].about), str(cases[name]), *(cell(lines[name, score]) for score in scores)]
            for name in names
        ],
    )


def _agreement_table(config: Config, agreements: pd.DataFrame) -> str:
    cells = [
        [
            score_columns(config)[line["score"]].label,
            line["answer"],
            line["clips"],
            str(line["count"]),
            _correlation(line),
            span(line["accuracy"], line["accuracy_low"], line["accuracy_high"], digits=2),
            f"{line['tie']:.2f}",
        ]
        for line in agreements.to_dict(orient="records")
    ]
    return markdown(["score", "answer", "clips of", "clips", "rank correlation", "accuracy", "tie"], cells)


def _figure(config: Config, faults: pd.DataFrame) -> Figure:
    """A square for each score and fault: how often more of the fault costs points. Blank: too few cases."""
    right = 1 - faults.pivot(index="score", columns="fault", values="wrong")
    known = faults.pivot(index="score", columns="fault", values="wrong_high").notna()
    scores, names = list(dict.fromkeys(faults["score"])), list(dict.fromkeys(faults["fault"]))
    seen = faults.pivot(index="score", columns="fault", values="seen_at").loc[scores, names].to_numpy()
    values = right.where(known).loc[scores, names].to_numpy()
    figure = Figure(figsize=(2.2 + 0.85 * len(names), 1.6 + 0.5 * len(scores)), dpi=120, layout="constrained")
    figure.suptitle(
        f"{config.name}: {counted(len(config.truths), 'case')}\n"
        "Share of pairs of doses in the right order, in %; below, the smallest dose that is seen. Blank: too few cases",
        x=0.005, ha="left", fontsize=8,
    )  # fmt: skip
    axes = figure.subplots()
    axes.imshow(values, cmap="PuOr", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(names)), ["\n".join([name, *FAULTS[name].about]) for name in names], fontsize=7)
    axes.set_yticks(range(len(scores)), [_named(dose_columns(config), score) for score in scores])
    axes.tick_params(length=0)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            dose = "-" if math.isnan(seen[row, column]) else f"{seen[row, column]:g}"
            colour = "white" if abs(value - 0.5) > 0.3 else INK
            axes.text(column, row, f"{100 * value:.0f}\n{dose}", ha="center", va="center", fontsize=7, color=colour)
    return figure


def _named(columns: Mapping[str, Column], score: str) -> str:
    return f"truth: {columns[score].label}" if score in TRUTH_SCORES else columns[score].label
