"""Scores of one method, from its clips and their references: a row per case and seed.

A clip that failed, is missing or is not supported by the method also has a row, with this status and empty scores. It
is counted, never dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bico.config.schema import Config
from bico.core.records import load_json
from bico.core.saving import save_csv, save_json
from bico.media.reading import read_source, read_written
from bico.scoring.results import TRUTH, clip_statuses, score_columns

if TYPE_CHECKING:
    from bico.scoring.clip_t import ClipT
    from bico.scoring.dino_i import DinoI

log = logging.getLogger("bico")


def score(config: Config, method: str, device: str = "cpu") -> None:
    """Scores all clips of a method.

    Writes `R/scores/<method>.csv`, a row per case and seed, and `R/scores/<method>.frames.json`, the same clips with
    their values frame by frame. Needs `R/scores/calibration.json` (see `calibrate`) if the config has a probe.
    """
    scorer = Scorer(config, device)
    _notice_context(config, scorer.judges.clip_t)
    rows, details = [], []
    for (case_id, seed), status in clip_statuses(config, method).items():
        row: dict[str, Any] = {"case": case_id, "seed": seed, "status": status}
        if status == "ok":
            scores, frame_values = scorer.score(case_id, config.paths.clip(method, case_id, seed))
            row |= scores
            details.append({"case": case_id, "seed": seed} | frame_values)
        rows.append(row)
    _write(config, method, rows)
    save_json(config.paths.frame_scores(method), _rounded(details))


def calibrate(config: Config) -> dict[str, dict[str, float]]:
    """Reads every exact rendering with the probe, prints both ends of each truth score and writes them to
    `R/scores/calibration.json`: question, or "clean" -> {"ceiling", "floor"}, raw values in 0..1.

    Then scores the exact renderings like the clips of a method, into `R/scores/truth.csv`.
    """
    from bico.scoring import truth

    probe = truth.open_probe(config)
    truths, readings = truth.read_truths(config, probe)
    ends = truth.calibration(truths, readings, truth.read_spoiled(config, probe, truths))
    for question, end in ends.items():
        floor, ceiling = end["floor"], end["ceiling"]
        other = "the exact rendering with unasked things" if question == truth.CLEAN else "another clip"
        print(f"truth_{question}: floor {floor:.3f} ({other}), ceiling {ceiling:.3f} (the exact rendering)")
    save_json(config.paths.calibration, ends)
    scorer, rows = Scorer(config, "cpu"), []
    for case_id in truths:
        scores, _ = scorer.score(case_id, config.paths.truth(case_id))
        # One clip for all seeds.
        rows += [{"case": case_id, "seed": seed, "status": "ok"} | scores for seed in config.seeds]
    _write(config, TRUTH, rows)
    return ends


def open_judges(config: Config, device: str) -> tuple[ClipT, DinoI]:
    """CLIP and DINO with the settings of the config."""
    from bico.scoring.clip_t import ClipT
    from bico.scoring.dino_i import DinoI

    scoring = config.scoring
    clip_t = ClipT(config.models.clip, pooling=scoring.pooling, device=device)
    return clip_t, DinoI(config.models.dino, pooling=scoring.pooling, crop=scoring.dino_crop, device=device)


def _notice_context(config: Config, clip_t: ClipT) -> None:
    """Logs a notice for each case whose prompt is longer than CLIP's context."""
    for case_id, case in config.cases.items():
        if not clip_t.reads_whole(case.prompt):
            log.warning(
                "notice: cases.%s: the prompt is longer than the %d tokens that the CLIP model reads: CLIP-T uses only "
                "these tokens",
                case_id, clip_t.model.context_length,
            )  # fmt: skip


class Judges:
    """The scores that need no exact rendering. Models are opened, and sources are read, once for all clips."""

    def __init__(self, config: Config, device: str):
        from bico.scoring.motion import tracks

        self.clip_t, self.dino_i = open_judges(config, device)
        source = cache(lambda paths, start: read_source(paths, config.media, start))
        self.reference = cache(lambda paths, start: self.dino_i.reference(source(paths, start)))
        self.tracks = cache(lambda paths, start: tracks(source(paths, start)))

    def score(
        self,
        frames: np.ndarray,
        prompt: str,
        sources: Mapping[str, tuple[tuple[Path, ...], float]],
        videos: Iterable[str],
        fps: float,
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """The scores of one clip, and its values frame by frame.

        Args:
            frames: uint8 [T, H, W, 3].
            sources: by name, their files, each with the second at which reading begins.
            videos: names of the sources whose motion is compared.
            fps: of the clip.
        """
        from bico.scoring.motion import motion_scores

        clip_t, clip_frames = self.clip_t.score(frames, prompt)
        dino_i, dino_frames = self.dino_i.score(frames, {name: self.reference(*file) for name, file in sources.items()})
        scores = {"clip_t": clip_t, "dino_i": dino_i}
        scores |= motion_scores(frames, [self.tracks(*sources[video]) for video in videos], fps)
        return scores, {"clip_t": clip_frames, "dino_i": dino_frames}


class Scorer:
    """All scores of our clips: those of `Judges`, and the truth scores where there is an exact rendering."""

    def __init__(self, config: Config, device: str):
        self.config, self.judges = config, Judges(config, device)
        if config.models.probe:
            from bico.toybox.probe import Probe

            self.probe = Probe.open(config.models.probe)
            self.ends = load_json(config.paths.calibration)

    def score(self, case_id: str, path: Path) -> tuple[dict[str, float], dict[str, Any]]:
        """The scores of one clip, and its values frame by frame."""
        return self.score_frames(case_id, read_written(path, self.config.media))

    def score_frames(self, case_id: str, frames: np.ndarray) -> tuple[dict[str, float], dict[str, Any]]:
        """The same for frames uint8 [T, H, W, 3]."""
        case = self.config.cases[case_id]
        sources = {
            source: (tuple(self.config.media_paths(source)), self.config.sources[source].start) for source in case.bind
        }
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
    save_csv(config.paths.scores(method), table)


def _rounded(values: Any) -> Any:
    """Floats rounded to four decimals, so that files do not depend on the last bits of a sum."""
    if isinstance(values, dict):
        return {key: _rounded(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_rounded(value) for value in values]
    return round(values, 4) if isinstance(values, float) else values
