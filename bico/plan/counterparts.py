"""Sources that only the control of absorption learns."""

from __future__ import annotations

from bico.config.benchmark import Case, Source
from bico.config.schema import Config
from bico.plan.trainings import once, toybox_items


@once
def counterparts(config: Config) -> Config:
    """A benchmark of one row in `results/controls`, with the counterparts of all Toybox sources that the row of
    `controls.absorption` learns. A counterpart has clutter if its source has none, and none if it has some.

    Otherwise the scene of a counterpart is the same, because clutter is drawn last. Each has its own case.
    """
    assert config.controls.absorption is not None
    row = config.controls.absorption.row
    sources = {name: config.sources[name] for name in toybox_items(config, row)}
    return config.alone(
        results=config.paths.counterparts.results,
        sources={name: _counterpart(entry) for name, entry in sources.items()},
        cases={name: _alone(name, entry) for name, entry in sources.items()},
        methods={row: config.methods[row]},
    )


def _counterpart(entry: Source) -> Source:
    assert entry.scene is not None
    scene = entry.scene.model_copy(update={"clutter": not entry.scene.clutter})
    return entry.model_copy(update={"scene": scene})


def _alone(name: str, entry: Source) -> Case:
    assert entry.scene is not None
    return Case(prompt=f"a {entry.scene.subject}", bind={name: [entry.scene.subject]})
