"""What a run keeps of an earlier one, as far as one can tell before it: for estimates, which must not take long.

Records are compared, but no file is read: the digests of inputs, which another step may make anew, are left out, and so
is the precision, which depends on the machine of the job.
"""

from __future__ import annotations

from pathlib import Path

from bico.config.schema import Config
from bico.core.records import Record, record_of
from bico.plan import dependencies
from bico.plan.clips import Job, jobs
from bico.plan.dependencies import Dependencies
from bico.plan.trainings import artifact_path, learner, trainings, trainings_of_part


def due_trainings(config: Config, row: str, part: int) -> list[tuple[str, int]]:
    """The trainings of one job that it will not keep: (item, learning seed)."""
    depends = dependencies.learn(config, row, part, config.dtype)
    return [
        (item, seed)
        for item, seed in trainings_of_part(config, row, part)
        if not _fits(config, depends, f"{item} {seed}", artifact_path(config, row, item, seed))
    ]


def due_clips(config: Config, row: str) -> list[Job]:
    """The clips of a row that are missing or stale, or whose trainings are."""
    depends, of = dependencies.generate(config, row, config.dtype), learner(config, row)
    parts = range(config.parts) if trainings(config, row) else []
    due = {artifact_path(config, of, *training) for part in parts for training in due_trainings(config, of, part)}

    def kept(job: Job) -> bool:
        path = config.paths.clip(row, job.case_id, job.seed)
        return due.isdisjoint(job.artifacts.values()) and _fits(config, depends, f"{job.case_id} {job.seed}", path)

    return [job for job in jobs(config, row) if not kept(job)]


def _fits(config: Config, depends: Dependencies, name: str, path: Path) -> bool:
    found = record_of(path) if path.is_file() else None
    return found is not None and _comparable(found) == _comparable(depends.values(config, name))


def _comparable(record: Record) -> Record:
    settings = {key: value for key, value in record["settings"].items() if key != "dtype"}
    return {**record, "settings": settings, "inputs": None}
