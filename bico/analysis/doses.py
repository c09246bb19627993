"""Scores of exact renderings with a known fault, for each dose. Toybox only."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pandas as pd

from bico.config.schema import Config
from bico.core.progress import progress
from bico.core.saving import save_csv
from bico.scoring.results import dose_columns
from bico.scoring.scoring import Scorer
from bico.toybox.faults import EXACT, FAULTS, clip_of, dosed_clips


def measure_doses(config: Config, device: str) -> pd.DataFrame:
    """Writes `results/scorers/doses.csv` and returns it: case, fault, dose and all scores, a row for each clip.

    Each case has its exact rendering, as fault "exact" with dose 0, and `DOSES` of each possible fault. Clips are
    rendered and scored, but not stored.
    """
    scorer, rows = Scorer(config, config.scoring.all, device), list[dict[str, Any]]()
    of_cases = {case: list(clips) for case, clips in groupby(dosed_clips(config), key=lambda clip: clip[0])}
    for case in progress("scorers", of_cases):
        rows += _of_case(config, scorer, case, of_cases[case])
    table = pd.DataFrame(rows).reindex(columns=["case", "fault", "dose", *dose_columns(config)])
    save_csv(config.paths.doses, table)
    return table


def _of_case(
    config: Config, scorer: Scorer, case: str, clips: list[tuple[str, str, float]]
) -> Iterator[dict[str, Any]]:
    exact = clip_of(config, case)
    for _, fault, dose in clips:
        frames = exact.frames() if fault == EXACT else FAULTS[fault].change(exact, dose)
        measured = scorer.score_frames(case, frames, f"case {case} with the fault {fault}, dose {dose}")
        yield {"case": case, "fault": fault, "dose": dose, **measured.values}
