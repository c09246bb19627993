"""Draws the first picture of the README from the results of a run.

    uv run python docs/pictures.py [--config config/toybox.yaml] [--case robot_circling_in_space] [--seed 0]

It shows the sources of a case, its prompt with each bound word in the colour of its source, and the clips of the plain
prompt and of BiCo with the exact rendering below them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea

from bico.config.benchmark import Case
from bico.config.reading import load
from bico.config.schema import Config
from bico.media.reading import read_media, read_written
from bico.report.pages import coloured
from bico.report.style import INK, PALETTE, STYLE, save

PICTURE = Path(__file__).with_name("composition.png")
FRAMES, GAP = 6, 0.05  # of a clip; between two of them, in widths of a frame
LABEL, ROW = 1.45, 0.92  # inches: width of a label, height of a row


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("config/toybox.yaml"))
    parser.add_argument("--case", default="robot_circling_in_space")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with matplotlib.rc_context(STYLE):
        print(save(draw(load(options.config).chosen(), options.case, options.seed), PICTURE))


def draw(config: Config, case_id: str, seed: int) -> Figure:
    """A row for each source and for each clip, with the prompt between them."""
    case = config.cases[case_id]
    colours = dict(zip(case.bind, PALETTE, strict=False))
    rows = []
    for source, colour in colours.items():
        entry = config.sources[source]
        frames = read_media(config.media_path(source), **dict(config.media), start=entry.start)
        rows.append((f"{', '.join(case.bind[source])}\n({entry.kind})", colour, frames))
    rows += [
        ("plain prompt", INK, read_written(config.paths.clip("base", case_id, seed), config.media)),
        ("BiCo", INK, read_written(config.paths.clip("bico", case_id, seed), config.media)),
        ("exact rendering", INK, read_written(config.paths.truth(case_id), config.media)),
    ]
    width, height = LABEL + FRAMES * ROW + 0.1, ROW * (len(rows) + 0.55) + 0.1
    figure = Figure(figsize=(width, height), dpi=150)
    top = height - 0.05
    for place, (label, colour, frames) in enumerate(rows):
        if place == len(colours):
            _write(figure, case, colours, (LABEL / width, (top - 0.27 * ROW) / height))
            top -= 0.55 * ROW
        axes = figure.add_axes((LABEL / width, (top - ROW) / height, FRAMES * ROW / width, ROW / height))
        _fill(axes, label, colour, frames)
        top -= ROW
    return figure


def _fill(axes: Axes, label: str, colour: str, frames: np.ndarray) -> None:
    """Frames side by side, each one unit wide, and their label on the left."""
    picked = frames[np.unique(np.linspace(0, len(frames) - 1, FRAMES).round().astype(int))]
    for column, frame in enumerate(picked):
        axes.imshow(frame, extent=(column, column + 1 - GAP, GAP, 1), interpolation="nearest")
    axes.text(-0.12, 0.5, label, ha="right", va="center", color=colour, fontweight="bold")
    axes.set(xlim=(0, FRAMES), ylim=(0, 1))
    axes.axis("off")


def _write(figure: Figure, case: Case, colours: dict[str, str], place: tuple[float, float]) -> None:
    """The prompt, its bound words in the colours of their sources."""
    looks = [{"color": colour, "weight": "bold"} for colour in colours.values()]
    plain = {"color": INK, "weight": "normal"}
    pieces = [
        TextArea(text, textprops={"size": 14, **(plain if number is None else looks[number])})
        for text, number in coloured(case)
    ]
    line = HPacker(children=pieces, pad=0, sep=0, align="baseline")
    figure.add_artist(
        AnchoredOffsetbox(
            "center left", child=line, pad=0, frameon=False, bbox_to_anchor=place, bbox_transform=figure.transFigure
        )
    )


if __name__ == "__main__":
    main()
