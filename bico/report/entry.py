"""The entry of a run for a board: its main table, the digests that show which entries are comparable, and some clips.

results/entry/entry.json               `Entry`
results/entry/clips/<row>/<case>.mp4   the first seed of the first cases
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterable
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from bico import __version__
from bico.config.schema import Config
from bico.config.scores import module_of_score, need_key_words
from bico.config.section import Count, Name, Section, Words
from bico.core.files import replacing, write_json
from bico.core.fingerprints import code_digest, file_digest, folder_digest
from bico.core.records import intact, load_json
from bico.core.tables import read_table
from bico.media.writing import compressed
from bico.plan.bundle import Digest, FileName
from bico.plan.dependencies import judging, scoring_models
from bico.plan.trainings import learner, trainings
from bico.scoring.results import score_columns

SHOWN = 3
"""Number of cases whose clips are kept."""
QUALITY = 18
"""H.264 quality (crf) of these clips, without visible loss."""


class Score(Section):
    """A score of a row: the mean over cases, and its 95 % interval if it has one."""

    mean: float
    low: float | None = None
    high: float | None = None


class Cost(Section):
    """The cost of a row."""

    learning_seconds: float | None = Field(
        default=None,
        description="Time of the training steps on one source, or for one case, by the run's machine; null = none.",
    )
    steps_image: float = Field(ge=0, description="Training steps on an image.")
    steps_video: float = Field(ge=0, description="Training steps on a video.")
    passes: int | None = Field(description="Passes of the transformer for one clip; null = made elsewhere.")


class EntryRow(Section):
    """A row of the main table."""

    label: Words
    method: Words
    track: Literal["one-shot", "per-case", "feed-forward", "control"]
    origin: str = Field(description="Who made the clips, and how; empty if this project made them.")
    cases: Count = Field(description="Number of cases for which the row has a clip.")
    trainings: Count
    missing: Count = Field(description="Number of clips that failed or are missing.")
    scores: dict[str, Score]
    cost: Cost
    clips: dict[Name, FileName] = Field(description="Case -> file.")


class Entry(Section):
    """The main table of a run."""

    format: Literal["bico-entry-1"] = "bico-entry-1"
    benchmark: Words = Field(description="Name of the benchmark.")
    set_digest: Digest = Field(description="SHA-256 of cases, sources and the form of clips.")
    judges_digest: Digest = Field(description="SHA-256 of the models that score, and of their settings.")
    backbone: Words = Field(description="Digest of the video model, for rows that use it.")
    version: Words = Field(description="Version of bico, and digest of its code.")
    cases: Count
    seeds: Count
    width: Count
    height: Count
    num_frames: Count
    fps: float
    prompts: dict[Name, Words] = Field(description="Prompts of the cases whose clips are kept.")
    meanings: dict[str, str] = Field(description="Column -> what the score means.")
    labels: dict[str, Words] = Field(
        default={}, description="Column -> its name on pages; a column that is not here has its own name."
    )
    unordered: list[str] = Field(
        default=["dynamic_degree"], description="Columns of scores of which more is not better."
    )
    rows: dict[Name, EntryRow]


def write_entry(config: Config) -> Entry:
    """Writes `results/entry` from table 1 and its clips, and returns the manifest."""
    rows = ((row,) for row in config.table("table1"))
    types = {"method": str, "configuration": str, "cases": int, "scored_cases": int, "trainings": int, "missing": int}
    table = read_table(config.paths.table("table1"), types, by=("method",), expected=rows)
    shutil.rmtree(config.paths.entry.parent, ignore_errors=True)
    columns = score_columns(config)
    entry = Entry(
        benchmark=config.name,
        set_digest=set_digest(config),
        judges_digest=judges_digest(config),
        backbone=folder_digest(config.models.wan),
        version=f"{__version__} (code {code_digest('bico.cli.main')})",
        cases=len(config.cases),
        seeds=len(config.seeds),
        width=config.media.width,
        height=config.media.height,
        num_frames=config.media.num_frames,
        fps=config.media.fps,
        prompts={case: config.cases[case].prompt for case in _shown(config)},
        meanings={name: column.description for name, column in columns.items()},
        labels={name: column.label for name, column in columns.items()},
        unordered=[name for name, column in columns.items() if not column.ordered],
        rows={line["method"]: _row(config, pd.Series(line)) for line in table.to_dict(orient="records")},
    )
    write_json(config.paths.entry, entry.model_dump(mode="json"))
    return entry


def set_digest(config: Config) -> str:
    """SHA-256 of the task of every row: cases, sources, size, length and rate of clips. Seeds do not count."""
    sources = {}
    for name in config.bound():
        source = config.sources[name]
        # Without defaults, because a new key of scenes does not change those that lack it.
        shown = source.scene and source.scene.model_dump(mode="json", exclude_defaults=True)
        files = [file_digest(path) for path in (*source.own_files, *source.own_masks)]
        sources[name] = [source.kind, source.start, shown, files]
    cases = {name: [case.prompt, case.bind, case.truth] for name, case in config.cases.items()}
    return _digest({"sources": sources, "cases": cases, "media": config.media.model_dump(mode="json")})


def judges_digest(config: Config) -> str:
    """SHA-256 of everything that determines the score of a clip: the scoring models, their settings, the key words of
    the sources if a score reads them, and the code."""
    scores = config.scoring.scores
    folders = {name: getattr(config.models, name) for name in (*scoring_models(config, scores), "probe")}
    models = {name: folder_digest(folder) for name, folder in folders.items() if folder}
    settings = {key: value for key, value in judging(config, scores).items() if key != "media"}
    settings["scores"] = {name: of_score.model_dump(mode="json") for name, of_score in scores.items()}
    videos = [name for name in config.bound() if config.sources[name].kind == "video"] if need_key_words(scores) else []
    concepts = {name: load_json(config.paths.concepts(name)) for name in videos}
    words = {name: [found["spatial"], found["temporal"]] for name, found in concepts.items()}
    code = code_digest("bico.scoring.scoring", *map(module_of_score, scores))
    return _digest({"models": models, "settings": settings, "key words": words, "code": code})


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def _shown(config: Config) -> list[str]:
    return list(config.cases)[:SHOWN]


def _row(config: Config, line: pd.Series) -> EntryRow:
    row = str(line["method"])
    settings = config.methods[row]
    scores = {
        column: Score(mean=line[column], low=_known(line[f"{column}_low"]), high=_known(line[f"{column}_high"]))
        for column in score_columns(config)
        if math.isfinite(line[column])
    }
    return EntryRow(
        label=config.label(row),
        method=settings.method,
        track="control" if settings.CONTROL else settings.track(),
        origin=settings.origin(),
        cases=int(line["scored_cases"]),
        trainings=int(line["trainings"]),
        missing=int(line["missing"]),
        scores=scores,
        cost=_cost(config, row),
        clips=_clips(config, row),
    )


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _cost(config: Config, row: str) -> Cost:
    """The cost of a row. Its training may be that of another row, which it shares."""
    settings, seconds = config.methods[row], learning_seconds(config, row, trainings(config, row))
    return Cost(
        learning_seconds=None if seconds is None else round(seconds, 2),
        steps_image=sum(settings.steps_of("image")),
        steps_video=sum(settings.steps_of("video")),
        passes=None if settings.origin() else settings.denoising_passes(config.sampling),
    )


def learning_seconds(config: Config, row: str, of: Iterable[tuple[str, int]]) -> float | None:
    """Mean time of these trainings of a row, from their curves, which are whole also if a training was resumed.

    Args:
        of: (item, learning seed) each.
    """
    paths = [config.paths.metrics(learner(config, row), item, seed) for item, seed in of]
    curves = [pd.read_json(path, lines=True) for path in paths if path.exists()]
    return float(np.mean([curve["seconds"].sum() for curve in curves])) if curves else None


def _clips(config: Config, row: str) -> dict[str, str]:
    """Copies existing clips in a format for browsers. Returns case -> file."""
    kept = {}
    for case in _shown(config):
        clip = config.paths.clip(row, case, config.seeds[0])
        if clip.is_file():
            kept[case] = f"clips/{row}/{case}.mp4"
            with replacing(config.paths.entry.parent / kept[case]) as unfinished:
                unfinished.write_bytes(compressed(intact(clip), QUALITY))
    return kept
