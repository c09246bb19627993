"""Scores of one row of the tables, from its clips and their references: a row per case and seed.

A clip that failed, is missing or is not supported by the method also has a row, with this status and empty scores. It
is counted, never dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bico.config.schema import Config
from bico.config.scores import ScoreSettings
from bico.core.records import load_json
from bico.core.saving import save_csv, save_json
from bico.media.reading import read_written
from bico.scoring.judges import Judges
from bico.scoring.protocol import Measured, ScoredClip
from bico.scoring.results import TRUTH, clip_statuses, score_columns


def score(config: Config, row: str, device: str) -> None:
    """Scores all clips of a row.

    Writes `results/scores/<row>.csv`, a row per case and seed, and `results/scores/<row>.frames.json`, the same
    clips with their values frame by frame. Needs `results/scores/calibration.json` (see `calibrate`) if the config has
    a probe.
    """
    scorer = Scorer(config, config.scoring.scores, device)
    rows, details = [], []
    for (case_id, seed), status in clip_statuses(config, row).items():
        entry: dict[str, Any] = {"case": case_id, "seed": seed, "status": status}
        if status == "ok":
            path = config.paths.clip(row, case_id, seed)
            measured = scorer.score(case_id, path, f"case {case_id}, seed {seed} ({path})")
            entry |= measured.values
            details.append({"case": case_id, "seed": seed, **measured.frames})
        rows.append(entry)
    _write(config, row, rows)
    save_json(config.paths.frame_scores(row), _rounded(details))


def calibrate(config: Config, device: str) -> dict[str, dict[str, float]]:
    """Reads every exact rendering with the probe, prints both ends of each truth score and writes them to
    `results/scores/calibration.json`: question, or "clean" -> {"ceiling", "floor"}, raw values in 0..1.

    Then scores the exact renderings like the clips of a row, on the same kind of device, into
    `results/scores/truth.csv`.
    """
    from bico.scoring import truth

    probe = truth.open_probe(config)
    truths, readings = truth.read_truths(config, probe)
    unrelated = [] if config.has_unrelated_cases else truth.read_unrelated(config, probe)
    ends = truth.calibration(truths, readings, truth.read_spoiled(config, probe, truths), unrelated)
    for question, end in ends.items():
        floor, ceiling = end["floor"], end["ceiling"]
        other = "the exact rendering with unasked things" if question == truth.CLEAN else "another clip"
        print(f"truth_{question}: floor {floor:.3f} ({other}), ceiling {ceiling:.3f} (the exact rendering)")
    save_json(config.paths.calibration, ends)
    scorer, rows = Scorer(config, config.scoring.scores, device), []
    for case_id in truths:
        measured = scorer.score(case_id, config.paths.truth(case_id), f"the exact rendering of case {case_id}")
        # One clip for all seeds.
        rows += [{"case": case_id, "seed": seed, "status": "ok", **measured.values} for seed in config.seeds]
    _write(config, TRUTH, rows)
    return ends


class Scorer:
    """All scores of our clips: those of files, and the truth scores where there is an exact rendering.

    Args:
        scores: name -> settings of those of files.
        device: of all models.
    """

    def __init__(self, config: Config, scores: Mapping[str, ScoreSettings], device: str):
        self.config, self.judges = config, Judges(config, scores, device)
        if config.has_truth:
            from bico.scoring.truth import open_probe

            self.probe = open_probe(config)
            self.ends = load_json(config.paths.calibration)

    def score(self, case_id: str, path: Path, where: str) -> Measured:
        """The scores of one clip. `where` says which one it is, for messages."""
        return self.score_frames(case_id, read_written(path, self.config.media), where)

    def score_frames(self, case_id: str, frames: np.ndarray, where: str) -> Measured:
        """The same for frames uint8 [T, H, W, 3]."""
        case = self.config.cases[case_id]
        clip = ScoredClip(
            frames=frames,
            prompt=case.prompt,
            bind=case.bind,
            sources={source: self.judges.source(source) for source in case.bind},
            fps=self.config.media.fps,
        )
        measured = self.judges.score(clip, where)
        if not (self.config.has_truth and case.truth):
            return measured
        values, by_frame = self._truth(case_id, frames)
        return Measured({**measured.values, **values}, {**measured.frames, **by_frame})

    def _truth(self, case_id: str, frames: np.ndarray) -> tuple[dict[str, float], dict[str, Any]]:
        from bico.scoring import truth

        reading, wanted = self.probe.read(frames[None])[0], truth.Truth.of(self.config, case_id)
        values = {"path": reading.trajectory.tolist(), "path_error": truth.path_error(reading, wanted).tolist()}
        return truth.truth_scores(reading, wanted, self.ends), values


def _write(config: Config, row: str, rows: list[dict[str, Any]]) -> None:
    table = pd.DataFrame(rows).reindex(columns=["case", "seed", "status", *score_columns(config)])
    save_csv(config.paths.scores(row), table)


def _rounded(values: Any) -> Any:
    """Floats rounded to four decimals, so that files do not depend on the last bits of a sum."""
    if isinstance(values, dict):
        return {key: _rounded(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_rounded(value) for value in values]
    return round(values, 4) if isinstance(values, float) else values
