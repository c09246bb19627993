"""The share of finished work, and the time for the rest."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from bico.core.progress import duration

TRUST = 60.0
"""Seconds of a run after which measured times have the same weight as expected ones."""

SLACK = 5.0
"""Seconds by which the clock of a file server may be late."""


class Share:
    """Follows the jobs of a run. A job without an expected time counts as one second.

    Attributes:
        jobs: number of all jobs.
        done: number of jobs that have succeeded.
        waiting: number of each job that was submitted but has not begun -> its log file, and its time of submission.
        running: number of each running job -> its time of beginning.
    """

    def __init__(self) -> None:
        self.jobs = self.done = 0
        self.waiting: dict[int, tuple[Path, float]] = {}
        self.running: dict[int, float] = {}
        self.began = time.monotonic()
        self.expected: Mapping[int, float] = {}
        self.cores, self.finished = 1, 0.0

    def expect(self, seconds: Mapping[int, float], cores: int) -> None:
        """Sets the expected time of each job, and the number of jobs that run at once."""
        self.expected, self.cores = seconds, max(1, min(cores, len(seconds)))

    def submit(self, job: int, log: Path | None) -> None:
        """A job begins when it writes its log; on a cluster that is long after. Without a log it begins now."""
        if log is None:
            self.running[job] = time.monotonic()
        else:
            self.waiting[job] = log, time.time()

    def look(self) -> None:
        """Notes which jobs have begun. Call it often, because a job counts as begun when this is noticed."""
        for job, (log, submitted) in list(self.waiting.items()):
            with suppress(OSError):
                if log.stat().st_mtime > submitted - SLACK:
                    del self.waiting[job]
                    self.running[job] = time.monotonic()

    def finish(self, job: int) -> float:
        """Seconds that the job took."""
        self.done += 1
        self.finished += self._of(job)
        return self.give_up(job)

    def give_up(self, job: int) -> float:
        """The same for a job that failed."""
        self.look()
        self.waiting.pop(job, None)
        now = time.monotonic()
        return now - self.running.pop(job, now)

    def text(self) -> str:
        """The share in per cent, and the minutes left, always with the same width."""
        self.look()
        total = sum(self.expected.values()) or float(self.jobs or 1)
        now = time.monotonic()
        begun = sum(min(now - since, 0.9 * self._of(job)) for job, since in self.running.items())
        share = min(1.0, (self.finished + begun) / total)
        if not self.expected or share == 1:
            return f"{share:4.0%} {'':14}"
        done, rest = share * total / self.cores, (1 - share) * total / self.cores
        left = rest * (now - self.began + TRUST) / (done + TRUST)
        time_left = "< 1 min" if left < 60 else duration(left)
        return f"{share:4.0%} {time_left + ' left':>14}"

    def _of(self, job: int) -> float:
        return self.expected.get(job, 1.0)
