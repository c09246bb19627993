"""Results of scoring: which columns there are, which clips have scores, and their table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product

import pandas as pd

from bico.config.schema import Config
from bico.config.scores import Column, ScoreSettings
from bico.core.tables import read_table
from bico.plan.trainings import unsupported

TRUTH_SCORES = {
    "truth_concept": Column(
        "concept",
        heading="Concept",
        description="parameters of each instance, as the probe measures them in the clip, compared with its source's",
    ),
    "truth_prompt": Column(
        "prompt",
        heading="Prompt",
        description="probability with which the probe recognises the words of the prompt in the clip",
    ),
    "truth_motion": Column(
        "motion",
        heading="Motion",
        description="the subject's path, frame by frame, compared with the true path; about 0 if the clip is still or "
        "its path is even farther off. Where only a word defines the motion, it is the probability of that word",
    ),
    "truth_overall": Column(
        "overall",
        heading="Overall",
        description="mean of concept, prompt and motion for each case; where nothing moves, of the first two",
    ),
    "truth_clean": Column(
        "clean",
        heading="Clean",
        description="the clip shows nothing that its sources show but no word of its prompt names: clutter, another "
        "subject, scene, style or light. One such thing costs the whole score, and further ones cost no more. It is "
        "not part of `truth_overall`. A case whose sources have no such thing has no score",
    ),
}
"""The columns of `bico.scoring.truth`, which compares a clip with the exact rendering."""
TRUTH = "truth"
"""Name in place of a method where exact renderings are measured like clips."""


def columns_of(scores: Mapping[str, ScoreSettings]) -> dict[str, Column]:
    """The columns that these scores write."""
    return {name: column for settings in scores.values() for name, column in settings.COLUMNS.items()}


def score_columns(config: Config) -> dict[str, Column]:
    """The columns of scores that the tables of this benchmark have. Truth scores need the probe."""
    return columns_of(config.scoring.scores) | (TRUTH_SCORES if config.models.probe else {})


def dose_columns(config: Config) -> dict[str, Column]:
    """The same for the test of scores on exact renderings with a fault, which has further scores."""
    return columns_of(config.scoring.scores | config.scoring.tested) | TRUTH_SCORES


def answering(config: Config) -> dict[str, str]:
    """Score of the tables that needs no exact rendering -> the truth score for the same question."""
    return {name: column.asks for name, column in score_columns(config).items() if column.asks}


def clip_statuses(config: Config, method: str) -> dict[tuple[str, int], str]:
    """(case, seed) -> "ok", "failed", "not supported" or "missing", for every clip of a row of the table."""
    manifest = json.loads((config.paths.all_clips(method)).read_text())
    found = {(entry["case"], entry["seed"]): entry["status"] for entry in manifest}
    wanted = [(case_id, seed) for case_id in config.cases for seed in config.seeds]
    return {clip: _status(config, method, clip, found.get(clip, "missing")) for clip in wanted}


def status_told(config: Config, method: str, case_id: str, status: str) -> str:
    """A status other than "ok" as a text, with the reason why a method cannot take a case."""
    reason = unsupported(config, method, case_id)
    return f"{status}: {reason}" if reason else status


def read_scores(config: Config, method: str) -> pd.DataFrame:
    """A row per case and seed, as `score` wrote them, in the order of the config.

    Raises:
        InputError: the file has other rows.
    """
    types = {"case": str, "seed": int, "status": str} | dict.fromkeys(score_columns(config), float)
    clips = product(config.truths if method == TRUTH else config.cases, config.seeds)
    return read_table(config.paths.scores(method), types, by=("case", "seed"), expected=clips)


def _status(config: Config, method: str, clip: tuple[str, int], promised: str) -> str:
    """The status of a clip: "missing" if the manifest lists it but its file does not exist."""
    return "missing" if promised == "ok" and not config.paths.clip(method, *clip).is_file() else promised
