"""The trainings of each row of the tables: from which sources they learn, and the paths of their artifacts."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from itertools import product
from pathlib import Path
from typing import TypeVar

from bico.config.schema import Config

Answer = TypeVar("Answer")


def once(ask: Callable[..., Answer]) -> Callable[..., Answer]:
    """Caches answers for a config, which is frozen, because planning asks the same for each of thousands of jobs."""
    known: dict[tuple[object, ...], tuple[Config, Answer]] = {}

    @wraps(ask)
    def answer(config: Config, *arguments: object) -> Answer:
        key = (id(config), *arguments)
        if key not in known:
            known[key] = config, ask(config, *arguments)  # keeping the config alive keeps its id unique
        return known[key][1]

    return answer


def unsupported(config: Config, row: str, case_id: str) -> str | None:
    """Why a row cannot take a case; None if it can."""
    return config.methods[row].unsupported([config.sources[source].kind for source in config.cases[case_id].bind])


@once
def applying_rows(config: Config) -> list[str]:
    """Rows that decompose and edit: those of the main table that bind words."""
    return [row for row in config.table("table1") if config.methods[row].BINDS_WORDS]


@once
def learner(config: Config, row: str) -> str:
    """The row under whose name a row's artifacts are stored, so that rows that differ only in how they compose are
    trained once: of the rows with the same training the one that is named as its method, or else the first. So a new
    row does not rename the artifacts of a method's own row, wherever it stands."""
    wanted = config.methods[row].learning()
    alike = [name for name, settings in config.methods.items() if settings.learning() == wanted]
    return next((name for name in alike if name == config.methods[name].method), alike[0])


def given_artifact(config: Config, row: str, source: str) -> Path | None:
    """The artifact of a source that a row uses instead of training one, if the config gives one."""
    return config.sources[source].binder if config.methods[row].BINDS_WORDS else None


@once
def learned_items(config: Config, row: str) -> dict[str, list[str]]:
    """What a row learns for the cases that it supports -> the sources of each. Keys are "<source>", or "case-<case>"
    if the row learns per case."""
    cases = {case: list(entry.bind) for case, entry in config.cases.items() if not unsupported(config, row, case)}
    alone = [entry.source for entry in config.applications.values()] if row in applying_rows(config) else []
    items: dict[str, dict[str, list[str]]] = {
        "nothing": {},
        "source": {
            source: [source]
            for bind in [*cases.values(), alone]
            for source in bind
            if not given_artifact(config, row, source)
        },
        "case": {f"case-{case}": bind for case, bind in cases.items()},
    }
    return dict(sorted(items[config.methods[row].LEARNS_PER].items()))


def toybox_items(config: Config, row: str) -> list[str]:
    """The Toybox sources that a row learns, in the order of their names. The row learns per source, or nothing."""
    return [name for name in learned_items(config, row) if config.sources[name].scene]


@once
def trainings(config: Config, row: str) -> list[tuple[str, int]]:
    """Every item that a row learns, with every learning seed. The jobs of a row divide them."""
    return list(product(learned_items(config, row), config.learning_seeds))


def trainings_of_part(config: Config, row: str, part: int) -> list[tuple[str, int]]:
    """The trainings of one job."""
    return trainings(config, row)[part :: config.parts]


def learning_seed(config: Config, seed: int) -> int:
    """The learning seed of the training that makes the clips of a seed."""
    return config.learning_seeds[config.seeds.index(seed) % len(config.learning_seeds)]


def artifact_path(config: Config, row: str, item: str, seed: int) -> Path:
    """The artifact of an item with a learning seed, or the one that the config gives for a source."""
    if item in config.sources and (given := given_artifact(config, row, item)):
        return given
    return config.paths.artifact(learner(config, row), item, seed)
