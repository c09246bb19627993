"""Scores of the clips that the authors published, measured like those of our clips."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from bico.config.schema import Config
from bico.core.saving import save_csv
from bico.media.inspecting import frame_rate
from bico.media.reading import read_clip
from bico.scoring.judges import Judges
from bico.scoring.protocol import ScoredClip
from bico.scoring.results import columns_of
from bico.sources.authors_page import read_page


def score_published(config: Config, *, device: str) -> None:
    """Scores the clips that the authors published in the same way as ours, to `results/published.csv`: a row per clip.

    Clips keep their own size, length and frame rate: some of the baselines' clips are smaller than the benchmark's.
    A clip that is missing, or lacks one of its sources, is a row with the status "missing" and empty scores.
    Prints how many clips each row of the paper has, how many are missing, and the means of the others.
    """
    columns = list(columns_of(config.scoring.scores))
    table = pd.DataFrame(_scored(config, device)).reindex(
        columns=["table", "row", "method", "case", "clip", "status", *columns]
    )
    table["row"] = table["row"].astype("Int64")
    save_csv(config.paths.table("published"), table)
    rows = table.assign(missing=table["status"] == "missing").groupby(["table", "row"], dropna=False)
    print(rows.agg(clips=("clip", "size"), missing=("missing", "sum"), **{name: (name, "mean") for name in columns}))


def _scored(config: Config, device: str) -> Iterator[dict[str, Any]]:
    page, judges = config.authors_page, Judges(config, config.scoring.scores, device)
    for composition in read_page(page / "index.html"):
        sources = {source: page / medium for source, medium in composition.media.items()}
        for label, clip in composition.published.items():
            table, number = composition.row(label)
            row = {"table": table, "row": number, "method": label, "case": composition.name, "clip": clip}
            if not all(path.is_file() for path in (page / clip, *sources.values())):
                yield row | {"status": "missing"}
                continue
            shown = ScoredClip(
                frames=read_clip(page / clip),
                prompt=composition.prompt,
                bind=composition.bind,
                sources={name: judges.file(path, composition.kinds[name]) for name, path in sources.items()},
                fps=frame_rate(page / clip),
            )
            yield row | {"status": "ok", **judges.score(shown, clip).values}
