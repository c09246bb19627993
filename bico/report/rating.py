"""The human study: a page for each rater, who sees clips without their methods and answers three questions per clip.

A group is a case: its prompt, its sources, and one clip of every row of table 1, in a random order. The three
questions, ratings from 1 to 5 and ten groups per rater follow the paper (arXiv 2512.09824); the wording of the
questions is ours. `bico.report.answers` reads the answers.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bico.config.schema import Config
from bico.config.settings import Rating
from bico.core.files import write_text
from bico.report.answers import CLIP, COLUMNS, SCALE, checksums
from bico.report.pages import as_read, coloured, embedded, filled, shown
from bico.report.style import PALETTE
from bico.scoring.results import clip_statuses

ASKED = {
    "concept": {
        "ask": "Is what the coloured words name taken from the sources?",
        "low": "nothing of the sources is in it",
        "high": "it looks, or moves, just as in the sources",
    },
    "prompt": {
        "ask": "Does it show what the sentence says?",
        "low": "it shows something else",
        "high": "it shows every part of the sentence",
    },
    "motion": {
        "ask": "Does it move well?",
        "low": "it is still, or jumps and falls apart",
        "high": "it moves smoothly and naturally",
    },
}
CRF = 18  # H.264 quality of clips of full size, at which the loss is not visible


def rating(config: Config) -> None:
    """Writes `results/rating/pages/rater-<number>.html` with embedded media, and `results/rating/keys/<study>.csv`.

    The same settings and clips give the same study. The folder for answers is created; files in it are not touched.
    """
    key = draw_items(config)
    text = key.to_csv(index=False)
    study = f"study-{hashlib.sha256(text.encode()).hexdigest()[:8]}"  # a name that no spreadsheet takes for a number
    pages = config.paths.rating_pages
    shutil.rmtree(pages, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        show = _Show(config, Path(folder))
        for rater, items in key.groupby("rater"):
            groups = [_group(config, str(case), clips, show) for case, clips in items.groupby("case", sort=False)]
            write_text(pages / f"rater-{rater}.html", _page(config, study, str(rater), groups))
    write_text(config.paths.rating_keys / f"{study}.csv", text)
    config.paths.rating_answers.mkdir(exist_ok=True)


def draw_groups(rating: Rating, seeds: Mapping[str, Sequence[int]]) -> list[list[tuple[str, int]]]:
    """For each rater a list of groups in order: the case, and the seed whose clips are shown.

    All cases have the same number of raters, plus or minus one. With several raters each case has at least two; where
    there are too few places for that, some cases are left out. Each clip also has at least two raters, because
    agreement compares ratings of the same clip. For this a case shows at most one seed for every two raters. The seeds
    take turns over the cases.

    Args:
        seeds: case -> the seeds that have clips.
    """
    rng = np.random.default_rng(rating.seed)
    cases = [list(seeds)[number] for number in rng.permutation(len(seeds))]
    left = np.full(rating.raters, min(rating.groups, len(cases)))  # number of groups that each rater can still take
    places = int(left.sum())
    cases = cases[: places // min(rating.raters, 2)]
    groups: list[list[tuple[str, int]]] = [[] for _ in left]
    turn = 0
    for number, case in enumerate(cases):
        views = places // len(cases) + (number < places % len(cases))
        shuffled = rng.permutation(rating.raters)
        emptiest = shuffled[np.argsort(-left[shuffled], kind="stable")][:views]
        shown = min(len(seeds[case]), max(1, views // 2))
        for view, rater in enumerate(emptiest):
            groups[rater].append((case, seeds[case][(turn + view % shown) % len(seeds[case])]))
        left[emptiest] -= 1
        turn += shown
    return [[found[number] for number in rng.permutation(len(found))] for found in groups]


def draw_items(config: Config) -> pd.DataFrame:
    """The key: a line per item, with the columns rater, item, and those of CLIP.

    Raters are numbered from 1, and so are the items of each rater, in the order in which they are shown.
    """
    rows = list(config.table("table1"))
    clips = {row: {clip for clip, status in clip_statuses(config, row).items() if status == "ok"} for row in rows}
    digests = {row: checksums(config, row) for row in rows}
    seeds = {
        case: found
        for case in config.cases
        if (found := [seed for seed in config.seeds if any((case, seed) in made for made in clips.values())])
    }
    rng, lines = np.random.default_rng([config.rating.seed, 1]), []
    for rater, groups in enumerate(draw_groups(config.rating, seeds), start=1):
        item = 0
        for case, seed in groups:
            for row in rng.permutation([row for row in rows if (case, seed) in clips[row]]):
                item += 1
                lines.append((rater, item, case, row, seed, digests[row][case, seed]))
    return pd.DataFrame(lines, columns=["rater", "item", *CLIP])


def _page(config: Config, study: str, rater: str, groups: list[dict[str, Any]]) -> str:
    data = {
        "study": study,
        "rater": rater,
        "columns": COLUMNS,
        "questions": ASKED,
        "scale": SCALE,
        "groups": groups,
    }
    return filled("rating.html", data | shown(config))


def _group(config: Config, case_id: str, clips: pd.DataFrame, show: _Show) -> dict[str, Any]:
    """A prompt, its sources, and clips that show only their numbers."""
    case = config.cases[case_id]
    sources = [
        {
            "words": words,
            "colour": PALETTE[number % len(PALETTE)],
            "still": config.sources[source].kind == "image",
            "file": show.source(source),
        }
        for number, (source, words) in enumerate(case.bind.items())
    ]
    items = [
        {"item": item, "file": show.clip(config.paths.clip(row, case_id, seed))}
        for item, row, seed in zip(clips["item"], clips["method"], clips["seed"], strict=True)
    ]
    return {"prompt": coloured(case), "sources": sources, "clips": items}


class _Show:
    """Addresses of media in a page. Each is made once for all pages."""

    def __init__(self, config: Config, folder: Path):
        self.config, self.folder = config, folder
        self.source, self.clip = cache(self._source), cache(partial(embedded, crf=CRF))

    def _source(self, name: str) -> str:
        path = as_read(self.config, name, self.folder / "source")
        return embedded(path, CRF)
