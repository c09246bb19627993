"""Plots of a table's scores with intervals, of scores against a setting, and of training curves.

They are drawn from result files; nothing is computed again. Each plot is written as PNG for the screen and as PDF for
print. All are readable in grey: values of the paper are hatched, and rows that cover fewer cases are hollow.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import chain, cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from PIL import Image

from bico.config.schema import Config
from bico.config.scores import TRUTH_SCORES, Column
from bico.core.errors import InputError
from bico.core.tables import read_table
from bico.media.frames import spread
from bico.plan.trainings import learner, trainings
from bico.report.names import counted, scope
from bico.report.partial import COUNTS, complete_first, covered, lost, on_same_cases
from bico.report.statistics import row_intervals
from bico.report.style import GREY, INK, PALETTE, PAPER, save_pair, styled
from bico.scoring.results import read_scores, score_columns

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

OURS, THEIRS = PALETTE[0], PALETTE[4]
BLOCKS = matplotlib.colormaps["viridis"]  # first to last block of the backbone; readable in grey, too
AXES: dict[RcKeyType, Any] = {
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "xtick.color": INK,
    "ytick.color": INK,
}
STEP, BAR = 0.52, 0.34  # height of a table's row in inches, and of a bar in rows
MOST_PREVIEWS = 4  # per training
DASHES = ("-", "--", ":", "-.")  # patterns of lines, once all colours are used
SMOOTHING = 10  # a loss is averaged over a tenth of its stage


def plot(config: Config, table: str) -> list[Path]:
    """Draws `results/<table>.csv` into `results/figures/<table>.png` and `.pdf`."""
    names = ((row,) for row in config.table(table))
    types = {"method": str, "configuration": str} | dict.fromkeys(COUNTS, int)
    rows = read_table(config.paths.table(table), types, by=("method",), expected=names)
    rows["label"] = [_label(config, row) for row in rows.to_dict(orient="records")]
    columns = {name: column for name, column in drawn_columns(config).items() if rows[name].notna().any()}
    beside = on_same_cases(config, {row: read_scores(config, row) for row in rows["method"]}, columns)
    with styled(rows["label"], AXES):
        figure = scores_figure(complete_first(rows), columns, scope(config), beside)
        return save_pair(figure, config.paths.figure(table))


def curve_plot(config: Config, name: str) -> list[Path]:
    """Draws `results/scores/<row>.csv` of a curve's rows into `results/figures/curves/<name>.png` and `.pdf`."""
    curve, parts = config.curves[name], []
    for row, value in curve.rows.items():
        scores = row_intervals(config, read_scores(config, row), drawn_columns(config))
        parts.append({"method": name, "value": value} | scores)
    with styled([curve.label], AXES):
        figure = curves_figure(pd.DataFrame(parts), curve.label, drawn_columns(config), scope(config))
        return save_pair(figure, config.paths.figure(f"curves/{name}"))


def drawn_columns(config: Config) -> dict[str, Column]:
    """The truth scores; without them all others of which more is better."""
    columns = TRUTH_SCORES if config.has_truth else score_columns(config)
    return {name: column for name, column in columns.items() if column.ordered}


def training_plot(config: Config, row: str) -> list[Path]:
    """Draws a row's `results/learned/<row>/*/*.metrics.jsonl` into `results/figures/training/<row>.png` and `.pdf`.

    Below the curves it shows the previews of one training for each kind of source, if there are any.
    """
    curves: Curves = {}
    previews: Previews = {}
    for item, seed in trainings(config, row):
        path = config.paths.metrics(learner(config, row), item, seed)
        if path.exists():
            kind = config.sources[item].kind if item in config.sources else "case"
            lines = pd.read_json(path, lines=True)
            name = item.removeprefix("case-").replace("_", " ")
            curves.setdefault(kind, {}).setdefault(name, []).append(lines)
            found = sorted(config.paths.previews(learner(config, row), item, seed).glob("*.png"))
            if found and kind not in previews:
                previews[kind] = name, [found[place] for place in spread(len(found), MOST_PREVIEWS)]
    if not curves:
        folder = config.paths.all_learned(learner(config, row), 0).parent
        raise InputError(f"{folder}: no training curves: expected <source>/<seed>.metrics.jsonl of a row that learns")
    with styled([config.label(row)], AXES):
        figure = training_figure(config.label(row), curves, previews, scope(config))
        return save_pair(figure, config.paths.figure(f"training/{row}"))


# --- scores ---------------------------------------------------------------------------------------------------------


def scores_figure(
    rows: pd.DataFrame, columns: Mapping[str, Column], note: str, beside: dict[str, dict[str, Any]]
) -> Figure:
    """A panel for each score with a bar for each row. A hatched bar below it is the paper's rating, if there is one.

    The paper's ratings go from 1 to 5, the truth scores from 0 (another clip) to 100 (the exact rendering). A rating of
    1 is drawn at 0, and one of 5 at 100.

    Args:
        rows: the rows of a table, each with its "label". A row that covers fewer cases is hollow.
        note: what the figure covers.
        beside: row -> the reference's scores on the cases of that row, drawn as diamonds on its bars.
    """
    figure = Figure(figsize=(2.4 + 1.75 * len(columns), 1.4 + STEP * len(rows)), dpi=120, layout="constrained")
    figure.suptitle(note, x=0.005, ha="left", fontsize=8, color=GREY)
    panels = figure.subplots(1, len(columns), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (column, definition) in zip(panels, columns.items(), strict=True):
        ratings = _ratings(rows, column)
        shift = np.where(ratings.notna(), 0.19, 0)
        if column in TRUTH_SCORES:
            axes.update_datalim([(0, 0), (100, 0)])
            axes.set_xticks(range(0, 101, 25))
        _bars(axes, rows, column, np.arange(len(rows)) - shift)
        _diamonds(axes, rows, column, np.arange(len(rows)) - shift, beside)
        if ratings.notna().any():
            style = {"height": BAR, "facecolor": "white", "edgecolor": THEIRS, "hatch": "/////"}
            label = "paper: people's ratings, 1 to 5 (upper scale)"
            axes.barh(np.arange(len(rows)) + shift, (ratings - 1) * 25, label=label, **style)
            upper = axes.secondary_xaxis(
                "top", functions=(lambda score: 1 + score / 25, lambda rating: 25 * (rating - 1))
            )
            upper.set_xticks(range(1, 6))
        axes.set_title(definition.label, loc="left")
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.tick_params(axis="y", length=0)
        axes.margins(y=0.04)
    panels[0].set_yticks(range(len(rows)), rows["label"])
    panels[0].invert_yaxis()
    named = [axes.get_legend_handles_labels() for axes in panels]  # not every panel has ratings beside its bars
    entries = {label: handle for handles, labels in named for handle, label in zip(handles, labels, strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=2)
    return figure


def _ratings(rows: pd.DataFrame, column: str) -> pd.Series:
    """The paper's human ratings for the same question as a truth score; NaN for other scores."""
    name = f"paper_{column.removeprefix('truth_')}" if column in TRUTH_SCORES else None
    return rows.get(name, pd.Series(np.nan, rows.index))


def _bars(axes: Axes, rows: pd.DataFrame, column: str, places: np.ndarray) -> None:
    means = rows[column]
    ends = np.abs(rows[[f"{column}_low", f"{column}_high"]].to_numpy().T - means.to_numpy())
    hollow = np.array([bool(covered(row)) for row in rows.to_dict(orient="records")])
    labels = {
        False: "here: out of 100, 95 % interval",
        True: "here, fewer cases: not to be compared with the bars above",
    }
    whiskers = {"capsize": 2, "error_kw": {"ecolor": INK, "elinewidth": 1}}
    for fewer, label in labels.items():
        if (of := hollow == fewer).any():
            look = {"facecolor": "white", "edgecolor": OURS, "linestyle": "--"} if fewer else {"color": OURS}
            axes.barh(places[of], means[of], xerr=ends[:, of], height=BAR, label=label, **look, **whiskers)
    for place in places[means.isna()]:
        axes.annotate("no score", (0, place), (3, 0), textcoords="offset points", va="center", fontsize=7, color=GREY)


def _diamonds(
    axes: Axes, rows: pd.DataFrame, column: str, places: np.ndarray, beside: dict[str, dict[str, Any]]
) -> None:
    """The scores of the reference on the cases of a row that covers fewer."""
    found = [(beside[row][column], place) for row, place in zip(rows["method"], places, strict=True) if row in beside]
    if found:
        (name,) = {each["label"] for each in beside.values()}
        label = f"{name} on only the cases of that row"
        axes.plot(*zip(*found, strict=True), "D", color=INK, markersize=4, zorder=3, label=label)


def _label(config: Config, row: dict) -> str:
    """The row's name, the paper's name for it if it differs, and what its cases and clips lack, if anything."""
    label = config.label(row["method"])
    theirs = row["configuration"] if row["configuration"] != label else ""
    lines = (textwrap.fill(line, 26) for line in (label, theirs, covered(row), lost(row)) if line)
    return "\n".join(lines)


# --- curves over a setting ------------------------------------------------------------------------------------------


def curves_figure(points: pd.DataFrame, label: str, columns: Mapping[str, Column], note: str) -> Figure:
    """A panel for each method: its scores against the value of a setting, each with its 95 % interval.

    Args:
        points: "method", "value", and for each of `columns` the mean and the ends of its interval.
        label: name of the setting, for the axis.
        note: what the figure covers.
    """
    methods = list(dict.fromkeys(points["method"]))
    figure = Figure(figsize=(1.4 + 3.4 * len(methods), 3.8), dpi=120, layout="constrained")
    figure.suptitle(textwrap.fill(note, int(12.5 * figure.get_figwidth())), x=0.01, ha="left", fontsize=8, color=GREY)
    panels = figure.subplots(1, len(methods), sharey=True, squeeze=False)[0]
    for axes, method in zip(panels, methods, strict=True):
        of_method = points[points["method"] == method].sort_values("value")
        values = of_method["value"].to_numpy()
        for (score, definition), colour, marker in zip(columns.items(), cycle(PALETTE), cycle("osD^v"), strict=False):
            if of_method[score].isna().all():
                continue
            low, high = of_method[f"{score}_low"], of_method[f"{score}_high"]
            axes.plot(values, of_method[score], color=colour, marker=marker, markersize=4, label=definition.label)
            axes.fill_between(values, low, high, color=colour, alpha=0.1, linewidth=0)
        axes.set_title(method.replace("_", " "), loc="left")
        axes.set_xlabel(label)
        if values.min() > 0 and values.max() / values.min() > 3:
            axes.set_xscale("log")
            axes.minorticks_off()
        axes.set_xticks(values, [f"{value:g}" for value in values])
    panels[0].set_ylabel("score")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


# --- training -------------------------------------------------------------------------------------------------------


Curves = dict[str, dict[str, list[pd.DataFrame]]]
"""Kind of source -> name of the source, or of the case -> the lines of `metrics.jsonl` of each of its trainings."""

Previews = dict[str, tuple[str, list[Path]]]
"""Kind of source -> name of a source or case, and the pictures of one of its trainings, named by their steps."""


def training_figure(label: str, curves: Curves, previews: Previews, note: str) -> Figure:
    """A column for each kind of source. From top to bottom: loss, evaluation loss, |gamma| of every binder if the
    method has binders, |g| of the bound tokens if a gate was learned, and previews if there are any.

    Args:
        label: name of the row.
        curves: the training curves. All trainings of a kind have the same stages.
        previews: the previews to show. A kind may have none.
        note: what the figure covers.
    """
    groups = {kind: list(chain.from_iterable(of_kind.values())) for kind, of_kind in curves.items()}
    gammas = [name for name in ("gamma_global", "gamma_blocks") if any(name in g[0] for g in groups.values())]
    gated = any("gate_mean" in group[0] for group in groups.values())
    panels = 2 + bool(gammas) + gated
    named = 0.17 * max(math.ceil((len(of_kind) + 1) / 2) for of_kind in curves.values())  # room for the legends
    width, heights = 1.6 + 3.9 * len(curves), [1.5 + 1.9 * panels + named, 2.6 if previews else 0]
    whole = Figure(figsize=(width, sum(heights)), dpi=120, layout="constrained")
    figure = whole
    if previews:
        (figure,), (below,) = whole.subfigures(2, 1, squeeze=False, height_ratios=heights)
        for axes, kind in zip(below.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
            _previews(axes, *previews.get(kind, ("", [])))
    figure.suptitle(note, x=0.005, ha="left", fontsize=8, color=GREY)
    grid = figure.subplots(panels, len(curves), sharex="col", sharey="row", squeeze=False)
    for column, (kind, of_kind) in enumerate(curves.items()):
        group = groups[kind]
        losses = {source: [smoothed(lines) for lines in runs] for source, runs in of_kind.items()}
        fixed = {source: [lines["eval_loss"].dropna() for lines in runs] for source, runs in of_kind.items()}
        _lines(grid[0, column], losses)
        _lines(grid[1, column], fixed, marker="o", markersize=3)
        title = f"{label}: {counted(len(group), 'training')} on {kind}s"
        grid[0, column].set_title(title, loc="left", pad=24)
        if gammas:
            _gammas(grid[2, column], group)
        if gated:
            _gates(grid[-1, column], group)
        for axes in grid[:, column]:
            _stages(axes, group[0], named=axes is grid[0, column])
        grid[-1, column].set_xlabel("step")
        named_lines = grid[0, column].get_legend_handles_labels()
        grid[-1, column].legend(*named_lines, loc="upper left", bbox_to_anchor=(0, -0.3), ncols=2, fontsize=7)
    grid[0, 0].set_ylabel("loss, smoothed")
    grid[1, 0].set_ylabel("loss on fixed\nnoise")
    handles = []
    if gammas:
        grid[2, 0].set_ylabel("|\N{GREEK SMALL LETTER GAMMA}|, mean")
        handles += grid[2, 0].get_legend_handles_labels()[0]
    if "gamma_blocks" in gammas:
        blocks = len(next(iter(groups.values()))[0]["gamma_blocks"][0])
        scale = ScalarMappable(BoundaryNorm(np.arange(blocks + 1) - 0.5, BLOCKS.N), BLOCKS)
        figure.colorbar(scale, ax=grid[2, :], label="block", ticks=[0, blocks - 1], aspect=12)
    if gated:
        grid[-1, 0].set_ylabel("|g| of bound tokens")
        handles += max((axes.get_legend_handles_labels()[0] for axes in grid[-1]), key=len)
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return whole


def _previews(axes: Axes, name: str, shown: Sequence[Path]) -> None:
    """Previews, each with its number of steps: single pictures from left to right, clips from top to bottom."""
    axes.axis("off")
    style = {"fontsize": 7, "color": GREY, "ha": "center", "va": "bottom"}
    right, bottom = 0.0, 0.0
    for path in shown:
        picture = np.asarray(Image.open(path))
        width = picture.shape[1] / picture.shape[0]  # relative to the height of a picture
        if width > 2:
            left, top, right, bottom = 0.0, bottom, width, bottom - 1.35
        else:
            left, top, right, bottom = right, 0.0, right + width + 0.1, -1.35
        axes.imshow(picture, extent=(left, left + width, top - 1.3, top - 0.3), interpolation="nearest")
        axes.text(left + width / 2, top - 0.28, f"step {int(path.stem)}", **style)
    if shown:
        axes.set_title(f"previews of {name}", loc="left")
        axes.set(xlim=(0, right), ylim=(bottom, 0), aspect="equal", anchor="NW")


def _lines(axes: Axes, losses: dict[str, list[pd.Series]], **style: Any) -> None:
    """The mean loss of each source's trainings by step, in its own colour and pattern, and the mean over sources."""
    for number, (source, runs) in enumerate(losses.items()):
        times, colour = divmod(number, len(PALETTE))
        look: dict[str, Any] = {"color": PALETTE[colour], "linestyle": DASHES[times % len(DASHES)]}
        for each in runs if len(runs) > 1 else ():
            axes.plot(each.index, each, linewidth=0.5, alpha=0.3, **look)
        axes.plot(_mean_by_step(runs), linewidth=1, label=source, **look)
    each = list(chain.from_iterable(losses.values()))
    axes.plot(_mean_by_step(each), color=INK, linewidth=1.8, label="mean", **style)


def _mean_by_step(runs: Sequence[pd.Series]) -> pd.Series:
    """The mean of the trainings that have a value at a step: not all were evaluated at the same steps."""
    return pd.concat(runs, axis=1).mean(axis=1)


def smoothed(lines: pd.DataFrame) -> pd.Series:
    """The loss of each step, averaged over its neighbours in the same stage."""
    return lines.groupby("stage", sort=False)["loss"].transform(
        lambda losses: losses.rolling(max(1, len(losses) // SMOOTHING), min_periods=1, center=True).mean()
    )


def _gammas(axes: Axes, group: list[pd.DataFrame]) -> None:
    steps = group[0].index
    if "gamma_blocks" in group[0]:
        by_block = np.mean([lines["gamma_blocks"].tolist() for lines in group], axis=0).T
        for colour, values in zip(BLOCKS(np.linspace(0, 1, len(by_block))), by_block, strict=True):
            axes.plot(steps, values, color=colour, linewidth=1)
    shared = np.mean([lines["gamma_global"] for lines in group], axis=0)
    axes.plot(steps, shared, color=INK, linestyle="--", label="global binder")


def _gates(axes: Axes, group: list[pd.DataFrame]) -> None:
    """Mean and largest |g| by step, averaged over the trainings. Single frames and images do not use the gate."""
    if "gate_mean" not in group[0]:
        style = {"xycoords": "axes fraction", "ha": "center", "va": "center", "fontsize": 7, "color": GREY}
        axes.annotate("no temporal branch", (0.5, 0.5), **style)
        return
    for name, style in (("mean", "-"), ("largest", ":")):
        sizes = np.mean([lines[f"gate_{name}"] for lines in group], axis=0)
        axes.plot(group[0].index, sizes, color=PALETTE[1], linestyle=style, label=f"gate, {name}")


def _stages(axes: Axes, lines: pd.DataFrame, *, named: bool) -> None:
    """Shades every other stage, and writes the names of stages above the panel."""
    for number, (stage, steps) in enumerate(lines.groupby("stage", sort=False).groups.items()):
        name = str(stage).replace("_", "\n")
        if number % 2:
            axes.axvspan(steps[0], steps[-1] + 1, color=PAPER, zorder=0, linewidth=0)
        if named:
            axes.annotate(
                name, ((steps[0] + steps[-1]) / 2, 1), (0, 2), xycoords=("data", "axes fraction"),
                textcoords="offset points", ha="center", va="bottom", fontsize=7, color=GREY,
            )  # fmt: skip
