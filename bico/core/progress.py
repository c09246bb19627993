"""Progress and remaining time of long work: a bar on a terminal, lines in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

log = logging.getLogger("bico")


def progress(label: str, names: Iterable[str]) -> Iterator[str]:
    """Yields the names, and logs a line after each: how many are done, and the time that the others will take."""
    names, started = list(names), time.monotonic()
    for done, name in enumerate(names, start=1):
        yield name
        elapsed = time.monotonic() - started
        left = elapsed / done * (len(names) - done)
        log.info("%s: %s, %d of %d, %.0f s elapsed, %.0f s left", label, name, done, len(names), elapsed, left)


def duration(seconds: float) -> str:
    """A duration as text: "40 s", "12 min", "3 h 20 min"."""
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def training_progress(label: str, total: int, first: int) -> Iterator[Callable[[float], object]]:
    """Yields a function to call with the loss after each step. A log gets a line after each tenth of the steps.

    Args:
        label: label of the bar or the lines; "" for neither.
        total: steps in all, of which `first` are done.
    """
    if sys.stderr.isatty() and label:
        with tqdm(desc=label, total=total, initial=first, dynamic_ncols=True) as bar:
            yield lambda loss: (bar.set_postfix_str(f"loss {loss:.4f}", refresh=False), bar.update())
        return
    started, done = time.perf_counter(), first

    def advance(loss: float) -> None:
        nonlocal done
        done += 1
        if label and (done == total or done % max(1, total // 10) == 0):
            rate = (time.perf_counter() - started) / (done - first)
            left = tqdm.format_interval(rate * (total - done))
            log.info("%s: step %d/%d, loss %.4f, %.3f s/step, %s left", label, done, total, loss, rate, left)

    yield advance
