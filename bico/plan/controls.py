"""The rows of the files that controls measure themselves."""

from __future__ import annotations

from itertools import product

from bico.config.schema import Config
from bico.plan.counterparts import counterparts
from bico.plan.trainings import toybox_items

ROLES = ("subject", "scene")
"""Roles of which only the word is bound, in the control of absorption."""
SENTENCES = 2
"""Number of sentences in which each role is bound."""


def measured_sources(config: Config) -> list[str]:
    """Toybox sources that both rows of the control of diversification learn, in the order of their names."""
    lacks, has = (toybox_items(config, row) for row in config.controls.rows()["diversification"])
    return [source for source in lacks if source in has]


def mixed_cases(config: Config) -> set[str]:
    """Cases that bind an image and a video, for which temporal decoupling is made."""
    return {
        case for case, entry in config.cases.items() if len({config.sources[name].kind for name in entry.bind}) == 2
    }


def trainings_compared(config: Config) -> list[tuple[str, str, int]]:
    """(row, source, learning seed) of each training that the control of diversification compares."""
    return list(product(config.controls.rows()["diversification"], measured_sources(config), config.learning_seeds))


def clips_compared(config: Config) -> list[tuple[str, int, str, int, bool]]:
    """(source, seed, bound role, number of its sentence, learned with clutter) of each clip that the control of
    absorption compares."""
    return list(product(counterparts(config).sources, config.seeds, ROLES, range(SENTENCES), (False, True)))
