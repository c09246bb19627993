"""The gallery: a static page on which a reader filters by case, method and seed, and plays all clips in step.

The folder holds copies of everything that it shows, so it can be put on any web server, or sent as it is. The same page
with everything in one file is for Snakemake's report, which takes no folders.
"""

from __future__ import annotations

import base64
import json
import mimetypes
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
from bico.media.writing import compressed
from bico.prompts.text import clean
from bico.prompts.words import spans
from bico.report.style import PALETTE
from bico.scoring.results import clip_statuses, read_scores, score_columns, status_told

PAGE = Path(__file__).with_name("gallery.html")
SCRIPT = Path(__file__).with_name("page.js")
LARGE = 1_000_000
"""Bytes. Clips of full size are kept with hardly any loss: hundreds of them would make a page of gigabytes."""


Place = Callable[[Path, str], str]
"""From a file, and where it would stand in the gallery, to its address there."""


def gallery(config: Config) -> None:
    """Writes `R/gallery/index.html` and the media beside it, and `R/gallery.html`, which holds them all."""
    folder = config.paths.gallery
    shutil.rmtree(folder, ignore_errors=True)
    write_text(folder / "index.html", _page(config, partial(_copied, folder)))
    once = cache(embedded)  # a source of several cases
    write_text(config.paths.gallery_page, _page(config, lambda file, _: once(file)))


def _page(config: Config, place: Place) -> str:
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
                "sources": [_source(config, place, case, number) for number in range(len(case.bind))],
                "truth": case.truth and place(config.paths.truth(case_id), f"truth/{case_id}"),
                "clips": clips,
            }
        )
    data = {
        "title": f"{config.name}: compositions",
        "methods": list(rows),
        "seeds": config.seeds,
        "fps": config.media.fps,
        "frames": config.media.num_frames,
        "aspect": f"{config.media.width} / {config.media.height}",
        "cases": cases,
    }
    return filled(PAGE, data)


def filled(page: Path, data: dict[str, Any]) -> str:
    """A page with its data, and with the script that all pages share."""
    # In a script element only "</" could end the text early.
    text = json.dumps(data, ensure_ascii=False).replace("</", "<\\/")
    html = page.read_text(encoding="utf-8").replace("{{page}}", SCRIPT.read_text(encoding="utf-8"))
    return html.replace("{{data}}", text)


def coloured(case: Case) -> list[tuple[str, int | None]]:
    """The prompt in pieces, each with the number of the source that its words are bound to, or None."""
    text = clean(case.prompt)
    held = sorted((span, number) for number, owned in enumerate(spans(text, case.bind).values()) for span in owned)
    pieces, end = [], 0
    for (start, stop), number in held:
        pieces += [(text[end:start], None), (text[start:stop], number)]
        end = stop
    return [(piece, number) for piece, number in [*pieces, (text[end:], None)] if piece]


def _source(config: Config, place: Place, case: Case, number: int) -> dict[str, Any]:
    name, words = list(case.bind.items())[number]
    file = place(config.media_path(name), f"sources/{name}")
    still = config.sources[name].kind == "image"
    return {"name": name, "words": words, "colour": PALETTE[number % len(PALETTE)], "file": file, "still": still}


def _clip(
    config: Config, place: Place, row: str, case_id: str, seed: int, statuses: dict, scores: dict[str, pd.DataFrame]
) -> dict[str, str | None]:
    status = statuses[row][case_id, seed]
    if status != "ok":
        return {"status": status_told(config, row, case_id, status), "file": None, "scores": ""}
    values = cast("pd.Series[float]", scores[row].loc[(case_id, seed)])
    told = " · ".join(f"{str(name).replace('_', ' ')} {value:.0f}" for name, value in values.items() if pd.notna(value))
    file = place(config.paths.clip(row, case_id, seed), f"clips/{row}/{case_id}-{seed}")
    return {"status": status, "file": file, "scores": told}


def _scores(config: Config, row: str) -> pd.DataFrame:
    """The scores shown below a clip, by case and seed: those against the truth, or else all others."""
    table = read_scores(config, row).set_index(["case", "seed"])
    shown = [name for name in score_columns(config) if name == "truth_overall" or not config.models.probe]
    return table[shown]


def _copied(folder: Path, file: Path, name: str) -> str:
    """Copies a file into the gallery and returns its address there."""
    target = folder / f"{name}{file.suffix.lower()}"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(intact(file), target)
    return target.relative_to(folder).as_posix()


def embedded(file: Path, crf: int = 23) -> str:
    """The file itself as its address; a large video as a smaller one, in H.264 of this quality (lower is better)."""
    kind, _ = mimetypes.guess_type(file)
    content = intact(file).read_bytes()
    if len(content) > LARGE and kind and kind.startswith("video/"):
        kind, content = "video/mp4", compressed(file, crf)
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
