"""The gallery: a static page on which readers filter clips by case, method and seed, and play them synchronously.

The folder holds copies of everything that the page shows, so any web server can serve it. The same page as a single
file is for Snakemake's report, which takes no folders.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import pandas as pd

from bico.config.benchmark import Case
from bico.config.schema import Config
from bico.core.files import write_text
from bico.core.records import intact
from bico.report.names import TRUTH_LABEL, scope
from bico.report.pages import as_read, coloured, embedded, filled, shown
from bico.report.style import PALETTE
from bico.scoring.results import clip_statuses, read_scores, score_columns, status_text

SHOWN = ("truth_overall", "truth_concept", "truth_prompt", "truth_motion")
"""Scores that are shown below a clip if there is a probe; otherwise all others are."""

Place = Callable[[Path, str], str]
"""Function of a file and its name in the gallery that returns its address there."""


def gallery(config: Config) -> None:
    """Writes `results/gallery/index.html` with the media beside it, and `results/gallery.html` with them embedded."""
    folder = config.paths.gallery
    shutil.rmtree(folder, ignore_errors=True)
    sources = {name: as_read(config, name, folder / "sources" / name) for name in config.bound()}
    write_text(folder / "index.html", _page(config, sources, partial(_copied, folder)))
    once = cache(embedded)  # several cases share a source
    write_text(config.paths.gallery_page, _page(config, sources, lambda file, _: once(file)))


def _page(config: Config, sources: dict[str, Path], place: Place) -> str:
    rows = config.table("table1")
    scores = {row: _scores(config, row) for row in rows}
    statuses = {row: clip_statuses(config, row) for row in rows}
    cases = []
    for case_id, case in config.cases.items():
        clips = {
            row: {str(seed): _clip(config, place, row, case_id, seed, statuses, scores) for seed in config.seeds}
            for row in rows
        }
        cases.append(
            {
                "id": case_id,
                "prompt": coloured(case),
                "text": case.prompt,
                "sources": [_source(config, sources, place, case, number) for number in range(len(case.bind))],
                "truth": case.truth and place(config.paths.truth(case_id), f"truth/{case_id}"),
                "clips": clips,
            }
        )
    data = {
        "title": f"{config.name}: compositions",
        "scope": scope(config),
        "methods": [
            {"row": row, "label": config.label(row), "control": config.methods[row].CONTROL}
            for row in sorted(rows, key=lambda row: bool(config.methods[row].CONTROL))
        ],
        "truth": TRUTH_LABEL,
        "seeds": config.seeds,
        "cases": cases,
    }
    return filled("gallery.html", data | shown(config))


def _source(config: Config, sources: dict[str, Path], place: Place, case: Case, number: int) -> dict[str, Any]:
    name, words = list(case.bind.items())[number]
    return {
        "name": name.replace("_", " "),
        "words": words,
        "colour": PALETTE[number % len(PALETTE)],
        "file": place(sources[name], f"sources/{name}"),
        "still": config.sources[name].kind == "image",
    }


def _clip(
    config: Config, place: Place, row: str, case_id: str, seed: int, statuses: dict, scores: dict[str, pd.DataFrame]
) -> dict[str, Any]:
    status = statuses[row][case_id, seed]
    if status != "ok":
        return {"status": status_text(config, row, case_id, status), "file": None, "scores": []}
    columns = score_columns(config)
    values = cast("pd.Series[float]", scores[row].loc[(case_id, seed)])
    lines = [(columns[str(name)].label, f"{value:.0f}") for name, value in values.items() if pd.notna(value)]
    file = place(config.paths.clip(row, case_id, seed), f"clips/{row}/{case_id}-{seed}")
    return {"status": status, "file": file, "scores": lines}


def _scores(config: Config, row: str) -> pd.DataFrame:
    """The scores shown below a clip, by case and seed: the truth scores, or all others if there are none."""
    table = read_scores(config, row).set_index(["case", "seed"])
    return table[list(SHOWN if config.has_truth else score_columns(config))]


def _copied(folder: Path, file: Path, name: str) -> str:
    """Copies a file into the gallery, unless it was written there, and returns its address in the gallery."""
    target = folder / f"{name}{file.suffix.lower()}"
    if file != target:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(intact(file), target)
    return target.relative_to(folder).as_posix()
