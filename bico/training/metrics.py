"""The training curve: one JSON line per step."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from bico.core.errors import InputError

METRICS = "metrics.jsonl"


class Metrics:
    """Writes the lines of the metrics file, each when its numbers have arrived from the GPU.

    Args:
        file: file to which lines are appended.
        training: name of the training in an error.
        advance: called with the loss of each line that is written.
    """

    def __init__(self, file: TextIO, training: str, advance: Callable[[float], object]) -> None:
        self._file, self._training, self._advance = file, training, advance
        self._waiting: Callable[[], dict[str, Any]] | None = None

    def add(
        self, step: int, stage: str, numbers: Callable[[], Mapping[str, object]], known: Mapping[str, object]
    ) -> None:
        """Sets the line to `write` next."""
        self._waiting = lambda: {"step": step, "stage": stage, **numbers(), **known}

    def write(self) -> None:
        """Writes the line, if there is one. Raises InputError if its loss is not finite."""
        if self._waiting is None:
            return
        line, self._waiting = self._waiting(), None
        if not math.isfinite(line["loss"]):
            what = f"{self._training}: the loss is {line['loss']} in step {line['step']}"
            raise InputError(f"{what}: lower the learning_rate")
        self._file.write(json.dumps(line) + "\n")
        self._advance(line["loss"])


def metrics_from(path: Path, first: int) -> TextIO:
    """The metrics file, opened to append step `first`. Later lines of an interrupted run are dropped."""
    kept = path.read_text().splitlines(keepends=True)[:first] if path.exists() else []
    path.write_text("".join(kept))
    return path.open("a")
