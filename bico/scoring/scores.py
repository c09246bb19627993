"""Scores of one method: its clips and their references in, a row per case and seed out.

A clip that failed, is missing or is not supported by the method is a row too, with that status and empty scores: it is
counted, never dropped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bico.config.schema import Config
from bico.core.files import write_csv, write_json
from bico.media.files import read_media, read_written

if TYPE_CHECKING:
    from bico.scoring.clip_t import ClipT
    from bico.scoring.dino_i import DinoI

SCORES = ("clip_t", "dino_i", "motion_fidelity", "dynamic_degree")
TRUTH_SCORES = ("truth_concept", "truth_prompt", "truth_motion", "truth_overall")
TRUTH = "truth"
"""What stands for a method where exact renderings are measured like its clips."""


def score_columns(config: Config) -> tuple[str, ...]:
    """The scores that this benchmark has: those against the truth need the probe."""
    return SCORES + (TRUTH_SCORES if config.models.probe else ())


def clip_statuses(config: Config, method: str) -> dict[tuple[str, int], str]:
    """(case, seed) -> "ok", "failed", "not supported" or "missing", for every clip that the table asks for."""
    manifest = json.loads((config.results / "clips" / f"{method}.json").read_text())
    found = {(entry["case"], entry["seed"]): entry["status"] for entry in manifest}
    wanted = [(case_id, seed) for case_id in config.cases for seed in config.seeds]
    return {clip: _status(config, method, clip, found.get(clip, "missing")) for clip in wanted}


def status_told(config: Config, method: str, case_id: str, status: str) -> str:
    """A status other than "ok", for people: with what keeps a method from a case."""
    reason = config.unsupported(method, case_id)
    return f"{status}: {reason}" if reason else status


def score(config: Config, method: str) -> None:
    """Scores all clips of a method.

    Writes `R/scores/<method>.csv`, a row per case and seed, and `R/scores/<method>.frames.json`, the same clips with
    their values frame by frame. Needs `R/scores/calibration.json` (see `calibrate`) if the config has a probe.
    """
    import torch

    use_gpu = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    scorer = _Scorer(config, "cuda" if use_gpu else "cpu")
    rows, details = [], []
    for (case_id, seed), status in clip_statuses(config, method).items():
        row: dict[str, Any] = {"case": case_id, "seed": seed, "status": status}
        if status == "ok":
            scores, frame_values = scorer.score(case_id, config.clip_path(method, case_id, seed))
            row |= scores
            details.append({"case": case_id, "seed": seed} | frame_values)
        rows.append(row)
    _write(config, method, rows)
    write_json(config.results / "scores" / f"{method}.frames.json", _rounded(details))


def calibrate(config: Config) -> dict[str, dict[str, float]]:
    """Reads every truth clip with the probe, prints both ends of each truth score and writes them to
    `R/scores/calibration.json`: question -> {"ceiling", "floor"}, raw values in 0..1.

    Then scores these clips like those of a method, into `R/scores/truth.csv`: what there is to reach.
    """
    from bico.scoring import truth
    from bico.toybox.probe import Probe

    truths, readings = truth.read_truths(config, Probe.open(config.models.probe))
    ends = truth.calibration(truths, readings)
    for question, end in ends.items():
        floor, ceiling = end["floor"], end["ceiling"]
        print(f"truth_{question}: floor {floor:.3f} (another clip), ceiling {ceiling:.3f} (the truth itself)")
    write_json(calibration_path(config), ends)
    scorer, rows = _Scorer(config, "cpu"), []
    for case_id in truths:
        scores, _ = scorer.score(case_id, config.truth_path(case_id))
        rows += [{"case": case_id, "seed": seed, "status": "ok"} | scores for seed in config.seeds]  # all show the same
    _write(config, TRUTH, rows)
    return ends


def calibration_path(config: Config) -> Path:
    return config.results / "scores" / "calibration.json"


def open_judges(config: Config, device: str) -> tuple[ClipT, DinoI]:
    """Both judges of similarity, as the config has them."""
    from bico.scoring.clip_t import ClipT
    from bico.scoring.dino_i import DinoI

    scoring = config.scoring
    clip_t = ClipT(config.models.clip, pooling=scoring.pooling, device=device)
    return clip_t, DinoI(config.models.dino, pooling=scoring.pooling, crop=scoring.dino_crop, device=device)


class Judges:
    """The scores that know no truth: judges opened once, and sources that are read and looked at once for all clips."""

    def __init__(self, config: Config, device: str):
        from bico.scoring.motion import tracks

        self.clip_t, self.dino_i = open_judges(config, device)
        source = cache(lambda path: read_media(path, **dict(config.media)))
        self.reference = cache(lambda path: self.dino_i.reference(source(path)))
        self.tracks = cache(lambda path: tracks(source(path)))

    def score(
        self, frames: np.ndarray, prompt: str, sources: Mapping[str, Path], videos: Iterable[str], fps: float
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """The scores of one clip, and its values frame by frame.

        Args:
            frames: uint8 [T, H, W, 3].
            sources: their files, by name; `videos` are those whose motion counts.
            fps: of the clip.
        """
        from bico.scoring.motion import motion_scores

        clip_t, clip_frames = self.clip_t.score(frames, prompt)
        dino_i, dino_frames = self.dino_i.score(frames, {name: self.reference(path) for name, path in sources.items()})
        scores = {"clip_t": clip_t, "dino_i": dino_i}
        scores |= motion_scores(frames, [self.tracks(sources[video]) for video in videos], fps)
        return scores, {"clip_t": clip_frames, "dino_i": dino_frames}


class _Scorer:
    """All scores of our clips: those of the judges, and against the truth where there is one."""

    def __init__(self, config: Config, device: str):
        self.config, self.judges = config, Judges(config, device)
        if config.models.probe:
            from bico.toybox.probe import Probe

            self.probe = Probe.open(config.models.probe)
            self.ends = json.loads(calibration_path(config).read_text())

    def score(self, case_id: str, path: Path) -> tuple[dict[str, float], dict[str, Any]]:
        """The scores of one clip, and its values frame by frame."""
        case, frames = self.config.cases[case_id], read_written(path, self.config.media)
        sources = {source: self.config.media_path(source) for source in case.bind}
        videos = [source for source in case.bind if self.config.sources[source].kind == "video"]
        scores, values = self.judges.score(frames, case.prompt, sources, videos, self.config.media.fps)
        if self.config.models.probe and case.truth:
            truth_scores, truth_frames = self._truth(case_id, frames)
            scores, values = scores | truth_scores, values | truth_frames
        return scores, values

    def _truth(self, case_id: str, frames: np.ndarray) -> tuple[dict[str, float], dict[str, Any]]:
        from bico.scoring import truth

        reading, wanted = self.probe.read(frames[None])[0], truth.Truth.of(self.config, case_id)
        values = {"path": reading.trajectory.tolist(), "path_error": truth.path_error(reading, wanted).tolist()}
        return truth.truth_scores(reading, wanted, self.ends), values


def _write(config: Config, method: str, rows: list[dict[str, Any]]) -> None:
    table = pd.DataFrame(rows).reindex(columns=["case", "seed", "status", *score_columns(config)])
    write_csv(config.results / "scores" / f"{method}.csv", table)


def _status(config: Config, method: str, clip: tuple[str, int], promised: str) -> str:
    """A clip that was promised but is not there is missing."""
    return "missing" if promised == "ok" and not config.clip_path(method, *clip).is_file() else promised


def _rounded(values: Any) -> Any:
    """Floats at four decimals: what is kept does not depend on the last bits of a sum."""
    if isinstance(values, dict):
        return {key: _rounded(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_rounded(value) for value in values]
    return round(values, 4) if isinstance(values, float) else values
