"""Commands of results: scores, tables, plots, figures, the gallery, the raters' pages."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from bico.cli.arguments import ConfigFile, Row, known, open_config, open_with_probe, open_with_row
from bico.core.errors import InputError

if TYPE_CHECKING:
    from bico.config.schema import Config

TableName = Annotated[str, Parameter(help="One of `tables` in the config.")]


def calibrate(*, config: ConfigFile) -> None:
    """Measure both ends of the scale of the truth scores, and score the exact renderings like clips."""
    opened = open_with_probe(config, "calibrate")
    from bico.core.device import free_device
    from bico.scoring.scoring import calibrate

    calibrate(opened, device=free_device(opened.device))


def score(row: Row, /, *, config: ConfigFile) -> None:
    """Score a method's clips."""
    opened, row = open_with_row(config, row)
    from bico.core.device import free_device
    from bico.profiling.memory import check_gpu
    from bico.scoring.scoring import score

    check_gpu(opened, "score", row)
    score(opened, row, device=free_device(opened.device))


def published(*, config: ConfigFile) -> None:
    """Score the clips that the authors published."""
    from bico.core.device import free_device
    from bico.profiling.memory import check_gpu
    from bico.scoring.published import score_published

    opened = open_config(config)
    check_gpu(opened, "published")
    score_published(opened, device=free_device(opened.device))


def table(table: TableName, /, *, config: ConfigFile) -> None:
    """Write a table: table1 (methods), table2 (parts of BiCo) or table3 (stages of its training)."""
    opened = _with_table(config, table)
    from bico.report.tables import write_table

    write_table(opened, table)


def plot(table: TableName, /, *, config: ConfigFile) -> None:
    """Draw a table's scores with their intervals, beside the paper's values."""
    opened = _with_table(config, table)
    from bico.report.plots import plot

    plot(opened, table)


def power(
    row: Row,
    against: Annotated[str, Parameter(help="Another row, with which it is compared.")],
    /,
    *,
    config: ConfigFile,
    score: Annotated[str, Parameter(help="A column of the tables.")] = "truth_overall",
    difference: Annotated[float | None, Parameter(help="Difference in points: how many cases does it need?")] = None,
) -> None:
    """Print the minimal detectable difference between two rows, for several numbers of cases and trainings.

    It follows from the variance of the rows' scores over cases and trainings, so both rows have to be scored.
    """
    opened = open_config(config)
    rows = known("row", row, opened.methods), known("row", against, opened.methods)
    if row == against:
        raise InputError(f"'{row}': a row does not differ from itself: expected two rows")
    from bico.report.power import power
    from bico.scoring.results import score_columns

    known("score", score, score_columns(opened))
    if difference is not None and not 0 < difference < math.inf:
        raise InputError(f"--difference {difference:g}: expected a number above 0")
    print(power(opened, rows, score, difference))


def verify(
    results: Annotated[Path, Parameter(help="A folder of results.")],
    /,
    *,
    mend: Annotated[bool, Parameter(negative="", help="Let the next run make damaged files again.")] = False,
) -> int:
    """Compare sources, captions, binders, clips, scores and tables of a folder of results with their records. The exit
    code is 1 if one is damaged or missing."""
    from bico.core.records import verify

    if not results.is_dir():
        raise InputError(f"{results}: no such folder: expected a folder of results")
    records, problems = verify(results, mend=mend)
    for problem in problems:
        print(problem)
    what_next = "the next run makes again what is not to be deleted" if mend else "--mend lets the next run mend them"
    print(f"{records} files compared, {len(problems)} do not match{f': {what_next}' if problems else ''}")
    return 1 if problems else 0


def tensorboard(results: Annotated[Path, Parameter(help="A folder of results.")], /) -> None:
    """Write the training curves of a folder of results as event files for TensorBoard, in its folder tensorboard."""
    from bico.report.event_files import write_event_files

    folder, runs = write_event_files(results)
    print(f"{runs} training curves written: look at them with `tensorboard --logdir {shlex.quote(str(folder))}`")


def _with_table(path: Path, table: str) -> Config:
    from bico.config.schema import Tables

    config = open_config(path)
    known("table", table, [name for name in Tables.model_fields if config.table(name)])
    return config


def curve(curve: Annotated[str, Parameter(help="One of `curves` in the config.")], /, *, config: ConfigFile) -> None:
    """Draw the scores of rows that differ in one setting."""
    opened = open_config(config)
    known("curve", curve, opened.curves)
    from bico.report.plots import curve_plot

    curve_plot(opened, curve)


def training_plot(row: Row, /, *, config: ConfigFile) -> None:
    """Draw the training curves of a method."""
    opened, row = open_with_row(config, row)
    from bico.report.plots import training_plot

    training_plot(opened, row)


def figures(*, config: ConfigFile) -> None:
    """Draw each case: its sources, its exact rendering and the clip of every method."""
    from bico.report.figures import figures

    figures(open_config(config))


def gallery(*, config: ConfigFile) -> None:
    """Write the gallery, a page on which all clips can be filtered and played synchronously."""
    from bico.report.gallery import gallery

    gallery(open_config(config))


def entry(*, config: ConfigFile) -> None:
    """Write what a board takes: the main table with all that says whether another one compares, and a few clips."""
    from bico.report.entry import write_entry

    write_entry(_with_table(config, "table1"))


def rating(*, config: ConfigFile) -> None:
    """Write the pages on which people rate the clips of table 1, and the key that identifies the clips."""
    from bico.report.rating import rating

    rating(open_config(config))
