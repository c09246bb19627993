"""Figures of cases: sources, the exact rendering if there is one, and the clip of every method, frame by frame."""

from __future__ import annotations

import textwrap
from itertools import chain
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bico.config.benchmark import Case
from bico.config.schema import Config
from bico.config.settings import Media
from bico.media.frames import spread
from bico.media.reading import read_media, read_written
from bico.report.names import TRUTH_LABEL, scope
from bico.report.style import GREY, INK, PALETTE, PAPER, save_pair, styled
from bico.scoring.results import clip_statuses, status_text

MOST_FRAMES, GAP = 9, 0.04  # frames in a row; the gap between them in frame widths
ROW_HEIGHT, LABELS, HEAD = 0.95, 1.6, 0.75  # inches: height of a row, width of its label, room above all rows
LETTERS_AN_INCH = 15  # characters of a note


def figures(config: Config) -> list[Path]:
    """Draws `results/figures/cases/<case>.png` and `.pdf` for every case, with the clips of the first seed."""
    words = (word for case in config.cases.values() for words in case.bind.values() for word in words)
    labels = map(config.label, config.table("table1"))
    with styled([*(case.prompt for case in config.cases.values()), *words, *labels]):
        drawn = (save_pair(draw(config, case), config.paths.figure(f"cases/{case}")) for case in config.cases)
        return list(chain.from_iterable(drawn))


def draw(config: Config, case_id: str) -> Figure:
    """The figure of one case: a row for each source, the exact rendering and each method.

    A missing clip is replaced by the reason.
    """
    case, seed = config.cases[case_id], config.seeds[0]
    rows = [*_sources(config, case), *_truth(config, case_id, case), *_clips(config, case_id, seed)]
    place = f"case {1 + list(config.cases).index(case_id)}, {case_id}, seed {seed}"
    return strip(f"“{case.prompt}”", f"{scope(config)}; here {place}", rows, config.media)


Row = tuple[str, str, np.ndarray | str]  # label, its colour, and uint8 frames [T, H, W, 3] or why there are none


def strip(title: str, note: str, rows: list[Row], media: Media) -> Figure:
    """Clips below each other, each frame by frame beside its label, with a title and a note above them."""
    aspect, columns = media.width / media.height, min(MOST_FRAMES, media.num_frames)
    figure = Figure(figsize=(LABELS + 0.1 + columns * ROW_HEIGHT * aspect, HEAD + ROW_HEIGHT * len(rows)), dpi=120)
    height = figure.get_figheight()
    top, left = 1 - HEAD / height, LABELS / figure.get_figwidth()
    grid = figure.add_gridspec(len(rows), 1, left=left, right=0.995, top=top, bottom=0.01, hspace=0.06)
    figure.suptitle(title, x=0.01, y=1 - 0.16 / height, ha="left", va="top", fontsize=12)
    note = textwrap.fill(note, int(figure.get_figwidth() * LETTERS_AN_INCH))
    figure.text(0.01, 1 - 0.42 / height, note, ha="left", va="top", fontsize=8, color=GREY)
    for place, (label, colour, content) in enumerate(rows):
        _row(figure.add_subplot(grid[place]), label, colour, content, columns, aspect)
    return figure


def _sources(config: Config, case: Case) -> list[Row]:
    rows = []
    for number, (source, words) in enumerate(case.bind.items()):
        frames = read_media(config.media_path(source), **dict(config.media), start=config.sources[source].start)
        rows.append((f"{source.replace('_', ' ')}\n→ {', '.join(words)}", PALETTE[number % len(PALETTE)], frames))
    return rows


def _truth(config: Config, case_id: str, case: Case) -> list[Row]:
    if not case.truth:
        return []
    return [(TRUTH_LABEL, INK, read_written(config.paths.truth(case_id), config.media))]


def _clips(config: Config, case_id: str, seed: int) -> list[Row]:
    rows = []
    for row in config.table("table1"):
        status = clip_statuses(config, row)[case_id, seed]
        if status == "ok":
            shown = read_written(config.paths.clip(row, case_id, seed), config.media)
        else:
            shown = status_text(config, row, case_id, status)
        control = "\n(control)" if config.methods[row].CONTROL else ""
        rows.append((config.label(row) + control, INK, shown))
    return rows


def _row(axes: Axes, label: str, colour: str, content: np.ndarray | str, columns: int, aspect: float) -> None:
    """One row: its label on the left, then its frames side by side, each one unit wide."""
    width, height = columns * (1 + GAP) - GAP, 1 / aspect
    lines = [textwrap.fill(line, 20) for line in label.split("\n")]
    axes.text(-0.1, height / 2, "\n".join(lines), ha="right", va="center", color=colour, fontweight="bold")
    if isinstance(content, str):
        axes.add_patch(Rectangle((0, 0), width, height, color=PAPER, linewidth=0))
        axes.text(0.15, height / 2, content, va="center", style="italic")
    else:
        picked = content[spread(len(content), columns)]
        for column, frame in enumerate(picked):
            left = column * (1 + GAP)
            axes.imshow(frame, extent=(left, left + 1, 0, height), interpolation="nearest")
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal", anchor="W")
    axes.axis("off")
