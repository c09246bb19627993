"""Copies what the page of results shows from runs into docs/results.

    uv run python docs/collect.py table1 [--config FILE]
    uv run python docs/collect.py parts [0=results/lean_0/config.yaml] "0.85, shipped=results/config.yaml"
    uv run python docs/collect.py worlds 0=results/lean_0/config.yaml
    uv run python docs/collect.py scorers [--config FILE]
    uv run python docs/collect.py additions [--config FILE]
    uv run python docs/collect.py ranks [--config FILE]
    uv run python docs/collect.py curves [--config FILE]
    uv run python docs/collect.py controls [--config FILE]
    uv run python docs/collect.py applications [--config FILE]
    uv run python docs/collect.py binding [--config FILE]
    uv run python docs/collect.py scale 500=results/scale_500/config.yaml ... shipped=results/config.yaml

`table1` writes table1.csv, differences.csv and automatic_scores.csv from the rows of table 1. `parts` writes table2.csv
and table3.csv of the last of its runs if it has all their rows, and parts.csv: what each part of BiCo adds in every
run, of which each is given with the lean of its text encoder; lines of parts and leans without scores stay as they are.
`worlds` writes worlds.csv: rows of table 1 with other text encoders, and with the shipped one. `scorers` writes
scorers.csv, what each score sees of each fault, and agreement.csv, how it ranks the clips of methods. `additions`
writes additions.csv and additions_differences.csv: variants of ours beside BiCo; `ranks` does the same for binders of
low rank. `curves` writes the points of two curves, and settings.csv: their differences from BiCo. `controls` rounds the
table of the controls, and `applications` says what was asked of BiCo in each. `binding` counts what the rows learned of
single sources. `scale` writes scale.csv, scale_differences.csv and scale_growth.csv, and draws scale.png: rows on
backbones of which each is given with the number of steps that its DiT was trained. Then change the dates in
docs/results/tables.yaml, and run docs/generate.py.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from bico.analysis.controls import CLUTTER
from bico.config.reading import load
from bico.config.schema import Config
from bico.config.scores import TRUTH_SCORES, Column
from bico.core.errors import exit_code
from bico.core.tables import read_table
from bico.plan.controls import mixed_cases
from bico.report.names import counted, scope
from bico.report.partial import scored_cases
from bico.report.plots import AXES, curves_figure
from bico.report.statistics import (
    bootstrap,
    case_means,
    difference_p,
    named,
    paired_difference,
    rank_correlation,
    row_intervals,
)
from bico.report.style import GREY, save, styled
from bico.report.tables import paper_table
from bico.scoring.results import TRUTH, answering, read_scores, score_columns

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
ADDITIONS = ["bico_plain_keys", "bico_key_words", "bico_fast"]
"""Variants of ours."""
GOOD = 4.0
"""dB of reconstruction that a source should gain."""
LEAK = 0.2
CURVES = ["strength", "length"]
SETTINGS = {
    "bico_strength_60": "strength of the binders 0.6 instead of 1",
    "bico_strength_140": "strength of the binders 1.4 instead of 1",
    "bico_half": "half of the training steps",
    "bico_double": "twice the training steps",
}
"""Row: the setting in which it differs from BiCo."""
RANKS = ["bico_rank_32", "bico_rank_8", "bico_rank_2"]
FAULTS = {
    "hue": "hue of the subject",
    "pattern": "pattern of the subject",
    "size": "size of the subject",
    "scene": "hues of the background",
    "light": "no light",
    "subject": "another subject",
    "copy": "a source's frames, copied",
    "path": "another path",
    "speed": "too slow",
    "frozen": "frozen",
}
"""Fault -> how the page calls it."""
SHIPPED = "0.85, shipped"
"""What the lean of the shipped text encoder is called."""
PARTS = {
    "per-block binders beside the global one": ("bico_hierarchical", "bico_global"),
    "diversified captions": ("bico_diversified", "bico_hierarchical"),
    "temporal decoupling": ("bico_tds", "bico_diversified"),
    "temporal decoupling, with absorption token": ("bico", "bico_absorption"),
    "absorption token": ("bico_absorption", "bico_diversified"),
    "absorption token, with temporal decoupling": ("bico", "bico_tds"),
    "two stages instead of one": ("bico", "bico_single_stage"),
    "inverted noise instead of uniform": ("bico", "bico_not_inverted"),
    "alpha read as a noise level instead of a position": ("bico_sigma", "bico"),
    "noise of the released code instead of the paper's": ("bico_released", "bico"),
}
"""Part of BiCo: the row that has it, and the row that lacks it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("what", choices=list(COLLECTED))
    parser.add_argument("runs", nargs="*", type=lambda text: text.partition("=")[::2], metavar="LEAN=CONFIG")
    parser.add_argument("--config", type=Path, default=Path("results/config.yaml"))
    options = parser.parse_args()
    runs = {lean: load(Path(config)) for lean, config in options.runs} or {"": load(options.config)}
    COLLECTED[options.what](runs)


def _table1(runs: dict[str, Config]) -> None:
    (config,) = runs.values()
    scores = {row: read_scores(config, row) for row in (*config.table("table1"), TRUTH)}
    _save("table1", (_row(config, row, found) for row, found in scores.items()))
    _save("differences", _differences(config, scores, COMPARED))
    _save("automatic_scores", _agreements(config, scores))


def _parts(runs: dict[str, Config]) -> None:
    shipped = list(runs.values())[-1]
    for name in ("table2", "table3"):
        if not _scored(shipped, *shipped.table(name)):
            continue
        labels = paper_table(name)["configuration"]
        lines = [
            {"configuration": labels.get(number) or shipped.label(row)} | _row(shipped, row, read_scores(shipped, row))
            for row, number in shipped.table(name).items()
        ]
        _save(name, lines)
    lines = [
        line
        for part, rows in PARTS.items()
        for lean, config in runs.items()
        if _scored(config, *rows)
        for line in _part(config, part, lean)
    ]
    measured = {(line["part"], line["lean"]) for line in lines}
    before = cast("list[dict[str, Any]]", pd.read_csv(OUT / "parts.csv", dtype={"lean": str}).to_dict("records"))
    lines += [line for line in before if (line["part"], line["lean"]) not in measured]
    parts = list(PARTS)
    _save("parts", sorted(lines, key=lambda line: (parts.index(line["part"]), line["lean"])))


def _worlds(runs: dict[str, Config]) -> None:
    """The rows that all runs have, and beside them those of table1.csv, which is of the shipped text encoder."""
    rows = [
        row for row in next(iter(runs.values())).table("table1") if all(_scored(each, row) for each in runs.values())
    ]
    shipped = pd.read_csv(OUT / "table1.csv").set_index("method")
    lines = []
    for row in rows:
        lines += [{"lean": lean} | _row(config, row, read_scores(config, row)) for lean, config in runs.items()]
        lines.append({"lean": SHIPPED, "method": row} | shipped.loc[row].to_dict())
    _save("worlds", lines)


def _scored(config: Config, *rows: str) -> bool:
    return all(config.paths.scores(row).exists() for row in rows)


def _scorers(runs: dict[str, Config]) -> None:
    """A line for each fault, with each score's share of pairs in the wrong order; and one for each score and scope of
    clips, with its rank correlations with the truth scores."""
    (config,) = runs.values()
    types = dict.fromkeys(("score", "fault", "about"), str) | {"cases": int}
    table = read_table(config.paths.table("scorers"), types)
    lines = dict[str, dict[str, Any]]()
    for line in table.to_dict(orient="records"):
        fault, score = FAULTS[line["fault"]], line["score"]
        entry = lines.setdefault(
            fault, {"fault": fault, "about": line["about"].replace(" ", ", "), "cases": line["cases"]}
        )
        entry |= {f"{score}{end}": line[f"wrong{end}"] for end in ("", "_low", "_high")}
    _save("scorers", lines.values())
    agreement, lines = read_table(config.paths.agreement, dict.fromkeys(("score", "answer", "clips"), str)), {}
    for line in agreement.to_dict(orient="records"):
        score, clips = score_columns(config)[line["score"]].label, line["clips"]
        entry = lines.setdefault((clips, score), {"score": score, "clips": clips})
        entry |= {f"{line['answer']}{end}": line[f"correlation{end}"] for end in ("", "_low", "_high")}
    _save("agreement", lines.values())


def _beside_bico(name: str, rows: list[str], runs: dict[str, Config]) -> None:
    (config,) = runs.values()
    scores = {row: read_scores(config, row) for row in ("bico", *rows)}
    compared = [(row, "bico", [*TRUTH_SCORES, "motion_fidelity"]) for row in rows]
    _save(name, (_row(config, row, found) for row, found in scores.items()))
    _save(f"{name}_differences", _differences(config, scores, compared))


def _curves(runs: dict[str, Config]) -> None:
    (config,) = runs.values()
    for name in CURVES:
        rows = config.curves[name].rows.items()
        _save(f"curve_{name}", ({"value": value} | _row(config, row, read_scores(config, row)) for row, value in rows))
    scores = {row: read_scores(config, row) for row in ("bico", *SETTINGS)}
    compared = [(row, "bico", ["truth_overall"]) for row in SETTINGS]
    differences = zip(SETTINGS.values(), _differences(config, scores, compared), strict=True)
    _save("settings", ({"setting": setting} | line for setting, line in differences))


def _controls(runs: dict[str, Config]) -> None:
    """Probabilities with three digits, scores and percentages with one."""
    (config,) = runs.values()
    labels, lines = score_columns(config), []
    for line in pd.read_csv(config.paths.table("controls")).fillna({"moves": "-"}).to_dict("records"):
        measure, digits = line["measure"], 3 if line["measure"] == CLUTTER else 1
        lines.append(
            {
                "ingredient": line["ingredient"].replace("_", " "),
                "measure": labels[measure].label if measure in labels else measure,
                "over": f"{line['count']} {line['over']}",
                **{side: line[side] for side in ("without", "with")},
                **{key: f"{value:.{digits}f}" for key, value in line.items() if isinstance(value, float)},
                "moves": line["moves"],
            }
        )
    _save("controls", lines)


def _applications(runs: dict[str, Config]) -> None:
    (config,) = runs.values()
    table, lines = pd.read_csv(config.paths.table("applications")), []
    for line in table[table["method"] == "bico"].to_dict("records"):
        entry = config.applications[line.pop("application")]
        asked = entry.keep or [f"{new} instead of {old}" for old, new in (entry.swap or {}).items()]
        words = {str(key): value for key, value in line.items()}
        lines.append({"asked": f"{line['kind']}: {', '.join(asked)}", "prompt": entry.prompt, **words})
    _save("applications", lines)


def _scale(runs: dict[str, Config]) -> None:
    rows = ("base", "db_lora", "bico")
    lines, differences, leads = [], [], dict[str, dict[str, np.ndarray]]()
    for steps, config in runs.items():
        scores = {row: read_scores(config, row) for row in rows}
        lines += [{"steps": steps} | _row(config, row, found) for row, found in scores.items()]
        differences += [
            {"steps": steps} | line for line in _differences(config, scores, [("bico", "db_lora", [*TRUTH_SCORES])])
        ]
        leads[steps] = {
            score: case_means(config, scores["bico"], score) - case_means(config, scores["db_lora"], score)
            for score in TRUTH_SCORES
        }
    _save("scale", lines)
    _save("scale_differences", differences)
    last = list(runs.values())[-1]
    _save("scale_growth", _growth(last, leads))
    _draw_scale(pd.DataFrame(differences), last)


def _growth(config: Config, leads: dict[str, dict[str, np.ndarray]]) -> Iterator[dict[str, Any]]:
    """How much larger the lead is than on the first backbone on which rows had as many trainings as on the last."""
    trainings = len(config.learning_seeds)
    first, *others = [steps for steps, lead in leads.items() if len(lead["truth_overall"]) == trainings]
    for steps in others:
        for score in TRUTH_SCORES:
            pair = leads[steps][score], leads[first][score]
            yield {
                "steps": f"{steps} minus {first}",
                "score": score_columns(config)[score].label,
                **_difference(config, *pair),
            }


def _draw_scale(differences: pd.DataFrame, config: Config) -> None:
    """A panel for each truth score: the lead on each backbone, one beside the other."""
    backbones = list(differences["steps"].unique())
    points = pd.DataFrame({"method": differences["score"], "value": differences["steps"].map(backbones.index)})
    points[["lead", "lead_low", "lead_high"]] = differences[["difference", "difference_low", "difference_high"]]
    label = differences["comparison"].iloc[0]
    with styled([label], AXES):
        figure = curves_figure(points, "training steps of the DiT", {"lead": Column("lead", label, "")}, scope(config))
        for axes in figure.axes:
            axes.set_xticks(range(len(backbones)), backbones)
            axes.axhline(0, color=GREY, linewidth=0.8)
        figure.axes[0].set_ylabel("points")
        save(figure, OUT.parent / "scale.png")


def _binding(runs: dict[str, Config]) -> None:
    (config,) = runs.values()
    rows = [row for row in (*config.methods, TRUTH) if config.paths.binding(row).exists()]
    _save("binding", (_learned(row, pd.read_csv(config.paths.binding(row))) for row in rows))


def _learned(row: str, table: pd.DataFrame) -> dict[str, Any]:
    """Counts of sources and roles. A role passes the leak test if it measurably gains when its word alone is bound, and
    no other role falls by more than `LEAK` of that gain."""
    whole = table[table["measured"] == "psnr"]["gain"]
    alone = table[table["bound"] != "everything"]
    own = alone[alone["bound"] == alone["measured"]].set_index(["source", "bound"])
    others = alone[alone["bound"] != alone["measured"]].groupby(["source", "bound"])["gain"].min()
    gains = own["gain_low"] > 0
    clean = others.reindex(own.index) >= -LEAK * own["gain"]
    return {
        "method": row,
        "reconstruction": f"{whole.mean():+.1f}",
        "sources": f"{(whole >= GOOD).sum()} of {len(whole)}",
        "roles": f"{gains.sum()} of {len(own)}",
        "leak": f"{(gains & clean).sum()} of {len(own)}",
    }


COLLECTED = {
    "table1": _table1,
    "parts": _parts,
    "worlds": _worlds,
    "scorers": _scorers,
    "additions": partial(_beside_bico, "additions", ADDITIONS),
    "ranks": partial(_beside_bico, "ranks", RANKS),
    "curves": _curves,
    "controls": _controls,
    "applications": _applications,
    "scale": _scale,
    "binding": _binding,
}


def _save(name: str, lines: Iterable[dict[str, Any]]) -> None:
    pd.DataFrame(lines).to_csv(OUT / f"{name}.csv", index=False, float_format="%.4f")


def _part(config: Config, part: str, lean: str) -> Iterator[dict[str, Any]]:
    """What it adds over all cases; and, as temporal decoupling is made for them, over those that mix kinds of sources
    and over the others."""
    scores = [read_scores(config, row) for row in PARTS[part]]
    mixed, cases = mixed_cases(config), {"all": set(config.cases)}
    if part.startswith("temporal decoupling"):
        cases |= {"mix images and videos": mixed, "do not": set(config.cases) - mixed}
    for which, chosen in cases.items():
        line: dict[str, Any] = {"part": part, "cases": f"{which} ({len(chosen)})", "lean": lean}
        for column in (*TRUTH_SCORES, "motion_fidelity"):
            pair = [case_means(config, rows[rows["case"].isin(chosen)], column) for rows in scores]
            line |= named(column, paired_difference(*pair, **bootstrap(config))) | {f"{column}_p": difference_p(*pair)}
        yield line


def _row(config: Config, row: str, scores: pd.DataFrame) -> dict[str, Any]:
    cases = len(scored_cases(scores))
    return {"method": row, "cases": cases} | row_intervals(config, scores, score_columns(config))


def _differences(
    config: Config, scores: dict[str, pd.DataFrame], compared: Iterable[tuple[str, str, list[str]]]
) -> Iterator[dict[str, Any]]:
    for first, second, columns in compared:
        common = [case for case in scored_cases(scores[first]) if case in scored_cases(scores[second])]
        for column in columns:
            pair = [case_means(config, scores[row], column) for row in (first, second)]
            yield {
                "comparison": f"{config.label(first)} minus {config.label(second)}",
                "score": score_columns(config)[column].label,
                "cases": counted(len(common), "case"),
                **_difference(config, *pair),
            }


def _difference(config: Config, first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """The mean difference of case means, its interval, and p."""
    interval = named("difference", paired_difference(first, second, **bootstrap(config)))
    return interval | {"p": difference_p(first, second)}


def _agreements(config: Config, scores: dict[str, pd.DataFrame]) -> Iterator[dict[str, Any]]:
    rows = [row for row in scores if row != TRUTH]
    for which, chosen in (("all rows", rows), ("without copied frames", [row for row in rows if row != "copy"])):
        clips = pd.concat([scores[row] for row in chosen], ignore_index=True)
        for score, truth in answering(config).items():
            yield {
                "score": score_columns(config)[score].label,
                "truth": score_columns(config)[truth].label,
                "clips": which,
                **named("correlation", rank_correlation(clips, score, truth, **bootstrap(config))),
            }


if __name__ == "__main__":
    sys.exit(exit_code(main))
