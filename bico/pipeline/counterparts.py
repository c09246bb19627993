"""The step that trains on the counterparts of sources, with or without clutter, for the control of absorption."""

from __future__ import annotations

import shutil

from bico.config.schema import Config
from bico.core.files import replacing
from bico.pipeline.encode import encode
from bico.pipeline.learn import learn
from bico.plan.counterparts import counterparts
from bico.toybox.scenes import write_source


def learn_counterparts(config: Config) -> None:
    """Renders and encodes the sources of `bico.plan.counterparts` and trains on them. Each has the captions of its
    source, so that they differ only in clutter. What is up to date stays.
    """
    benchmark = counterparts(config)
    for source in benchmark.sources:
        write_source(benchmark, source)
        with replacing(benchmark.paths.concepts(source)) as unfinished:
            shutil.copyfile(config.paths.concepts(source), unfinished)
    encode(benchmark)
    for row in benchmark.methods:
        learn(benchmark, row, part=0)
