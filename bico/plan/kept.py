"""What a run keeps of an earlier one, as far as one can tell before it: for estimates, which must not take long.

Records are compared, but no file is read: the digests of inputs, which another step may make anew, are left out, and so
is the precision, which depends on the machine of the job.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bico.config.schema import Config
from bico.core.records import Record, record_of
from bico.plan import dependencies
from bico.plan.clips import Job, jobs
from bico.plan.dependencies import Dependencies
from bico.plan.trainings import artifact_path, learner, trainings, trainings_of_part


def due_trainings(config: Config, row: str, part: int) -> list[tuple[str, int]]:
    """The trainings of one job that it will not keep: (item, learning seed)."""
    made = {f"{item} {seed}": (item, seed) for item, seed in trainings_of_part(config, row, part)}
    paths = {name: artifact_path(config, row, *training) for name, training in made.items()}
    kept = _kept(config, dependencies.learn(config, row, part, config.dtype), paths)
    return [training for name, training in made.items() if name not in kept]


def due_clips(config: Config, row: str) -> list[Job]:
    """The clips of a row that are missing or stale, or whose trainings are."""
    of = learner(config, row)
    parts = range(config.parts) if trainings(config, row) else []
    due = {artifact_path(config, of, *training) for part in parts for training in due_trainings(config, of, part)}
    made = {f"{job.case_id} {job.seed}": job for job in jobs(config, row)}
    paths = {name: config.paths.clip(row, job.case_id, job.seed) for name, job in made.items()}
    kept = _kept(config, dependencies.generate(config, row, config.dtype), paths)
    return [job for name, job in made.items() if name not in kept or not due.isdisjoint(job.artifacts.values())]


def _kept(config: Config, depends: Dependencies, paths: Mapping[str, Path]) -> set[str]:
    """Names of the things whose records say what they would say now."""
    found = {name: record for name, path in paths.items() if path.is_file() and (record := record_of(path))}
    if not found:
        return set()
    shared = depends.shared(config)  # once, because it looks at the models' files
    return {
        name for name, record in found.items() if _comparable(record) == _comparable({**shared, **depends.own(name)})
    }


def _comparable(record: Record) -> Record:
    settings = {key: value for key, value in record["settings"].items() if key != "dtype"}
    return {**record, "settings": settings, "inputs": None}
