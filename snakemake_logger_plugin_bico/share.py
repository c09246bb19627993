"""Which share of the work is done, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Mapping

from bico.core.progress import duration

TRUST = 60.0
"""Seconds of a run after which what it took counts as much as what was expected of it."""


class Share:
    """Follows the jobs of a run. Jobs of which nothing is expected count as a second each.

    Attributes:
        jobs: in all.
        done: jobs that have ended well.
        running: number of each running job -> when it started.
    """

    def __init__(self) -> None:
        self.jobs = self.done = 0
        self.running: dict[int, float] = {}
        self.began = time.monotonic()
        self.expected: Mapping[int, float] = {}
        self.cores, self.finished = 1, 0.0

    def expect(self, seconds: Mapping[int, float], cores: int) -> None:
        """What each job is expected to take, and how many run side by side."""
        self.expected, self.cores = seconds, max(1, min(cores, len(seconds)))

    def start(self, job: int) -> None:
        self.running[job] = time.monotonic()

    def finish(self, job: int) -> float:
        """Seconds that the job took."""
        self.done += 1
        self.finished += self._of(job)
        return self.give_up(job)

    def give_up(self, job: int) -> float:
        """The same of a job that failed."""
        now = time.monotonic()
        return now - self.running.pop(job, now)

    def told(self) -> str:
        """The share in per cent, and the minutes left: the same width always."""
        total = sum(self.expected.values()) or float(self.jobs or 1)
        now = time.monotonic()
        begun = sum(min(now - since, 0.9 * self._of(job)) for job, since in self.running.items())
        share = min(1.0, (self.finished + begun) / total)
        if not self.expected or share == 1:
            return f"{share:4.0%} {'':14}"
        done, rest = share * total / self.cores, (1 - share) * total / self.cores
        left = rest * (now - self.began + TRUST) / (done + TRUST)
        told = "< 1 min" if left < 60 else duration(left)
        return f"{share:4.0%} {told + ' left':>14}"

    def _of(self, job: int) -> float:
        return self.expected.get(job, 1.0)
