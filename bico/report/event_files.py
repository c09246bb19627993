"""Training curves as event files of TensorBoard, one run for each training, with its previews.

    bico tensorboard results
    tensorboard --logdir results/tensorboard

They are written from the metrics files, also while a training runs. The same curves give the same bytes: times are
seconds of training, which TensorBoard shows on its axis "relative".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from bico.config.layout import Layout
from bico.core.errors import InputError
from bico.core.files import replacing
from bico.training.metrics import METRICS

NAME = "events.out.tfevents.bico"
"""TensorBoard reads every file whose name contains "tfevents"."""

Line = Mapping[str, Any]
"""A line of a metrics file: "step", "stage", and numbers or lists of numbers."""


def write_event_files(results: Path) -> tuple[Path, int]:
    """Writes `results/tensorboard/<row>/<item>/<seed>`. Other files in that folder stay.

    Returns:
        The folder, and the number of trainings in it.

    Raises:
        InputError: no results, no training curves in them, or no `tensorboard` to write with.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]  (made at run time)
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError:
        install = "`uv sync --extra tensorboard`, or `pip install tensorboard`"
        raise InputError(f"tensorboard: not installed: it writes the event files; install it with {install}") from None
    folder, found = Layout(results).event_files, metrics_files(results)
    if not found:
        raise InputError(f"{results}: no training curves: expected a folder of results in which something was learned")
    for run, (metrics, previews) in found.items():
        with replacing(folder / run / NAME) as unfinished, unfinished.open("wb") as file:
            writer = RecordWriter(file)
            writer.write(Event(wall_time=0.0, file_version="brain.Event:2").SerializeToString())
            for event in _events(metrics, previews):
                writer.write(Event(**event).SerializeToString())
    return folder, len(found)


def metrics_files(results: Path) -> dict[str, tuple[Path, Path]]:
    """Run, "<row>/<item>/<seed>" -> its metrics file, and the folder of its previews, which may not exist.

    While a training runs, both are in the folder of its checkpoints.
    """
    paths, every, files = Layout(results), Layout(Path()), {}
    for metrics in sorted(results.glob(str(every.metrics("*", "*", "*")))):
        row, item, seed = *metrics.parts[-3:-1], metrics.name.partition(".")[0]
        files[f"{row}/{item}/{seed}"] = metrics, paths.previews(row, item, seed)
    for metrics in sorted(results.glob(str(every.artifact("*", "*", "*").with_suffix(".ckpt") / METRICS))):
        row, item, seed = *metrics.parts[-4:-2], metrics.parent.stem
        files[f"{row}/{item}/{seed}"] = metrics, metrics.with_name("previews")
    return files


def _events(metrics: Path, previews: Path) -> Iterator[dict[str, Any]]:
    """The events of a file, as keywords of `Event`: the numbers of each step, and the previews after it."""
    text, seconds = metrics.read_text(encoding="utf-8"), 0.0
    for line in map(json.loads, text[: text.rfind("\n") + 1].splitlines()):  # the last one may not be whole yet
        seconds += line["seconds"]
        values: list[dict[str, Any]] = [{"tag": tag, "simple_value": value} for tag, value in _numbers(line)]
        picture = previews / f"{line['step'] + 1:06}.png"
        if picture.exists():
            width, height = Image.open(picture).size
            image = {"width": width, "height": height, "colorspace": 3, "encoded_image_string": picture.read_bytes()}
            values.append({"tag": "preview", "image": image})
        yield {"wall_time": seconds, "step": line["step"], "summary": {"value": values}}


def _numbers(line: Line) -> Iterator[tuple[str, float]]:
    """Pairs of name and number. A list, such as one number for each block, gives names "<name>/<index>"."""
    for name, value in line.items():
        if isinstance(value, list):
            yield from ((f"{name}/{place}", each) for place, each in enumerate(value))
        elif name not in ("step", "stage"):
            yield name, value
