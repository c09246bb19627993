"""The step that learns what the control of absorption compares: each source with clutter, and without."""

from __future__ import annotations

import shutil

from bico.config.schema import Config
from bico.core.files import replacing
from bico.pipeline.encode import encode
from bico.pipeline.learn import learn
from bico.plan.counterparts import counterparts
from bico.toybox.scenes import write_source


def learn_counterparts(config: Config) -> None:
    """Renders, encodes and learns the sources of `bico.plan.counterparts`, each with the captions of the source itself,
    so that clutter is all in which they differ. What is up to date stays.
    """
    benchmark = counterparts(config)
    for source in benchmark.sources:
        write_source(benchmark, source)
        with replacing(benchmark.paths.concepts(source)) as unfinished:
            shutil.copyfile(config.paths.concepts(source), unfinished)
    encode(benchmark)
    for row in benchmark.methods:
        learn(benchmark, row, part=0)
