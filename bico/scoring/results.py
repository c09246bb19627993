"""Results of scoring: which columns there are, which clips have scores, and their table."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pandas as pd

from bico.config.schema import Config
from bico.config.scores import TRUTH_SCORES, Column, columns_of
from bico.core.tables import read_table
from bico.plan.trainings import unsupported

TRUTH = "truth"
"""Name in place of a row where exact renderings are measured like clips."""


def score_columns(config: Config) -> dict[str, Column]:
    """The columns of scores that the tables of this benchmark have."""
    return columns_of(config.scoring.scores) | (TRUTH_SCORES if config.has_truth else {})


def dose_columns(config: Config) -> dict[str, Column]:
    """The same for the test of scores on exact renderings with a fault, which has further scores."""
    return columns_of(config.scoring.all) | TRUTH_SCORES


def answering(config: Config) -> dict[str, str]:
    """Score of the tables that needs no exact rendering -> the truth score for the same question."""
    return {name: column.asks for name, column in score_columns(config).items() if column.asks}


def clips_manifest(config: Config, row: str) -> list[dict[str, Any]]:
    """What `generate` wrote of each clip of a row of the table: its case, seed, file, status, error and sha256."""
    return json.loads(config.paths.all_clips(row).read_text(encoding="utf-8"))


def clip_statuses(config: Config, row: str) -> dict[tuple[str, int], str]:
    """(case, seed) -> "ok", "failed", "not supported" or "missing", for every clip of a row of the table."""
    found = {(entry["case"], entry["seed"]): entry["status"] for entry in clips_manifest(config, row)}
    wanted = [(case_id, seed) for case_id in config.cases for seed in config.seeds]
    return {clip: _status(config, row, clip, found.get(clip, "missing")) for clip in wanted}


def status_text(config: Config, row: str, case_id: str, status: str) -> str:
    """A status other than "ok" as a text, with the reason why a method cannot take a case."""
    reason = unsupported(config, row, case_id)
    return f"{status}: {reason}" if reason else status


def read_scores(config: Config, row: str) -> pd.DataFrame:
    """A row per case and seed, as `score` wrote them, in the order of the config.

    Raises:
        InputError: the file has other rows.
    """
    types = {"case": str, "seed": int, "status": str} | dict.fromkeys(score_columns(config), float)
    clips = product(config.truths if row == TRUTH else config.cases, config.seeds)
    return read_table(config.paths.scores(row), types, by=("case", "seed"), expected=clips)


def _status(config: Config, row: str, clip: tuple[str, int], promised: str) -> str:
    """The status of a clip: "missing" if the manifest lists it but its file does not exist."""
    return "missing" if promised == "ok" and not config.paths.clip(row, *clip).is_file() else promised
