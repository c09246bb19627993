"""Pictures: for each case its sources, the truth if there is one, and every method's clip, frame by frame."""

from __future__ import annotations

import textwrap
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bico.config.benchmark import Case
from bico.config.schema import Config
from bico.config.settings import Media
from bico.media.reading import read_media, read_written
from bico.report.style import INK, PALETTE, PAPER, STYLE, save
from bico.scoring.results import clip_statuses, status_told

MOST_FRAMES, GAP = 9, 0.04  # frames in a row; the gap between them in frame widths
ROW_HEIGHT, LABELS = 0.95, 1.6  # inches: height of a row, width of its label


def figures(config: Config) -> list[Path]:
    """Draws `R/figures/cases/<case>.png` for every case, with the clips of the first seed."""
    with matplotlib.rc_context(STYLE):
        return [save(draw(config, case), config.paths.figure(f"cases/{case}")) for case in config.cases]


def draw(config: Config, case_id: str) -> Figure:
    """The figure of one case: a row for each source, the truth and each method; a clip that is not there says so."""
    case, seed = config.cases[case_id], config.seeds[0]
    rows = [*_sources(config, case), *_truth(config, case_id, case), *_clips(config, case_id, seed)]
    return strip(f"“{case.prompt}”", rows, config.media)


Row = tuple[str, str, np.ndarray | str]  # label, its colour, and uint8 frames [T, H, W, 3] or why there are none


def strip(title: str, rows: list[Row], media: Media) -> Figure:
    """Clips below each other, each frame by frame beside its label."""
    aspect, columns = media.width / media.height, min(MOST_FRAMES, media.num_frames)
    figure = Figure(figsize=(LABELS + 0.1 + columns * ROW_HEIGHT * aspect, 0.6 + ROW_HEIGHT * len(rows)), dpi=120)
    top = 1 - 0.5 / figure.get_figheight()
    left = LABELS / figure.get_figwidth()
    grid = figure.add_gridspec(len(rows), 1, left=left, right=0.995, top=top, bottom=0.01, hspace=0.06)
    figure.suptitle(title, x=0.01, y=1 - 0.16 / figure.get_figheight(), ha="left", va="top", fontsize=12)
    for place, (label, colour, content) in enumerate(rows):
        _row(figure.add_subplot(grid[place]), label, colour, content, columns, aspect)
    return figure


def _sources(config: Config, case: Case) -> list[Row]:
    rows = []
    for number, (source, words) in enumerate(case.bind.items()):
        frames = read_media(config.media_path(source), **dict(config.media), start=config.sources[source].start)
        rows.append((f"{source}\n→ {', '.join(words)}", PALETTE[number % len(PALETTE)], frames))
    return rows


def _truth(config: Config, case_id: str, case: Case) -> list[Row]:
    if not case.truth:
        return []
    return [("truth", INK, read_written(config.paths.truth(case_id), config.media))]


def _clips(config: Config, case_id: str, seed: int) -> list[Row]:
    rows = []
    for method in config.table("table1"):
        status = clip_statuses(config, method)[case_id, seed]
        if status == "ok":
            shown = read_written(config.paths.clip(method, case_id, seed), config.media)
        else:
            shown = status_told(config, method, case_id, status)
        rows.append((method, INK, shown))
    return rows


def _row(axes: Axes, label: str, colour: str, content: np.ndarray | str, columns: int, aspect: float) -> None:
    """One row: its label on the left, then its frames side by side, each one unit wide."""
    width, height = columns * (1 + GAP) - GAP, 1 / aspect
    lines = [textwrap.fill(line.replace("_", " "), 20) for line in label.split("\n")]
    axes.text(-0.1, height / 2, "\n".join(lines), ha="right", va="center", color=colour, fontweight="bold")
    if isinstance(content, str):
        axes.add_patch(Rectangle((0, 0), width, height, color=PAPER, linewidth=0))
        axes.text(0.15, height / 2, content, va="center", style="italic")
    else:
        picked = content[np.unique(np.linspace(0, len(content) - 1, columns).round().astype(int))]
        for column, frame in enumerate(picked):
            left = column * (1 + GAP)
            axes.imshow(frame, extent=(left, left + 1, 0, height), interpolation="nearest")
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal", anchor="W")
    axes.axis("off")
