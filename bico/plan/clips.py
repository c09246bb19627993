"""Every clip that a config asks for: its prompt, its bound words, and the artifacts for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bico.config.benchmark import Application, Case
from bico.config.schema import Config
from bico.plan.trainings import artifact_path, learning_seed, unsupported
from bico.prompts.words import swapped


@dataclass(frozen=True)
class Job:
    """One clip to make."""

    case_id: str
    case: Case
    seed: int
    artifacts: dict[str, Path] = field(default_factory=dict)
    """Artifacts, by source id; for methods that learn per case {"case": path}."""
    media: dict[str, Path] = field(default_factory=dict)
    """The sources' files, by source id."""
    starts: dict[str, float] = field(default_factory=dict)
    """Position at which reading of a video begins, in seconds, by source id; 0 for sources that are not in it."""


def jobs(config: Config, row: str) -> Iterator[Job]:
    """Every clip of a row of the table: all cases, all seeds."""
    for case_id, case in config.cases.items():
        learns_per = "nothing" if unsupported(config, row, case_id) else config.methods[row].LEARNS_PER
        items: dict[str, str] = {
            "nothing": {},
            "source": {source: source for source in case.bind},
            "case": {"case": f"case-{case_id}"},
        }[learns_per]
        media = {source: config.media_path(source) for source in case.bind}
        starts = {source: config.sources[source].start for source in case.bind}
        for seed in config.seeds:
            trained = learning_seed(config, seed)
            artifacts = {name: artifact_path(config, row, item, trained) for name, item in items.items()}
            yield Job(case_id, case, seed, artifacts, media, starts)


def as_case(application: Application) -> Case:
    """A decomposition or an edit as a case with one source. The bound words are the kept ones, or all but the swapped
    ones."""
    if application.keep:
        return Case(prompt=application.prompt, bind={application.source: application.keep})
    prompt, unchanged = swapped(application.prompt, application.swap or {})
    return Case(prompt=prompt, bind={application.source: unchanged})
