"""The expected time of each job of a run, from which a run computes its progress."""

from __future__ import annotations

from collections.abc import Iterable

from bico.config.schema import Config
from bico.profiling.costs import costs_of
from bico.profiling.work import RuleJob, Work

LARGE = 1.0
"""TFLOP of a forward pass from which on the models run on a GPU."""


def expected_seconds(config: Config, jobs: Iterable[RuleJob]) -> list[float]:
    """Seconds of each job, on the `cpu_amx` of `machines.yaml` or, at full size, on its H100. Another machine is slower
    or faster by about the same factor for all jobs."""
    work = Work(config, costs_of("cpu_amx"))
    forward, _ = work.sizes.tflop(config.media, config.media.num_frames)
    if forward > LARGE:
        work = Work(config, costs_of("h100"))
    hours = (work.of(job) for job in jobs)
    return [3600 * (each["gpu_hours"] + each["cpu_hours"]) for each in hours]
