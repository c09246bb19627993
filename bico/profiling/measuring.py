"""Measures the costs of this machine by running the commands on a small amount of work."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import cast

import torch

from bico.config.benchmark import Source
from bico.config.methods import LearnedSettings, method_names
from bico.config.schema import Config
from bico.core.errors import InputError
from bico.core.files import write_text
from bico.methods.base.settings import Settings as PlainPrompt
from bico.plan.trainings import learned_items, trainings, unsupported
from bico.profiling.costs import Costs, Speed
from bico.profiling.work import ModelSizes, captions

STEPS = 10
"""Steps of each stage of a training; the first two do not count."""
FEW, MORE = 1, 5


@dataclass(frozen=True)
class Taken:
    """Wall time and CPU time of a command, in seconds."""

    wall: float
    cpu: float


def measure(config: Config) -> Costs:
    """The costs of this machine, from running the commands on a little work with the config's sizes and models.

    Each command runs twice, once with more work: the difference is the time of the work, the rest that of its start.
    Without a GPU it is CPU time, on which other processes have little effect.

    Raises InputError if a command fails, or does not take longer for more work.
    """
    gpu = config.device != "cpu" and torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as folder:
        few, more = (handful(config.chosen(), Path(folder) / str(size), size) for size in (FEW, MORE))
        once, again = timed(few, few.methods), timed(more, ["base"])
        shares = {
            row: 1.0 if gpu else once[f"learn {row}"].cpu / once[f"learn {row}"].wall
            for row in few.methods
            if learned_items(few, row)
        }
        training, steps_alone = speeds(few, shares)
    forward, _ = ModelSizes(few).tflop(few.media, few.media.num_frames)
    clips = (MORE - FEW) * len(few.cases)
    units = {
        "concepts": captions(more) - captions(few),
        "encode": captions(more) - captions(few),
        "generate base": clips * few.sampling.steps * (2 if few.sampling.guidance_scale > 1 else 1) * forward,
        "score base": clips * few.media.num_frames,
    }
    first, second = ({name: each.wall if gpu else each.cpu for name, each in taken.items()} for taken in (once, again))
    for command in units:
        if second[command] <= first[command]:
            raise InputError(f"bico {command} took no longer for {MORE} times the work: measure on a machine at rest")
    unit = {command: (second[command] - first[command]) / count for command, count in units.items()}
    start = statistics.mean(first[name] - (second[name] - first[name]) * FEW / (MORE - FEW) for name in units)
    besides = [first[f"learn {row}"] - start - seconds for row, seconds in steps_alone.items()]
    return Costs(
        origin=f"measured on this machine, {time.strftime('%Y-%m-%d')}",
        gpu=gpu,
        start=max(start, 0.0),
        compile=max(statistics.mean(besides), 0.0) if besides else 0.0,
        training=training,
        sampling=1 / unit["generate base"],
        caption=unit["concepts"],
        encode=unit["encode"],
        score=unit["score base"],
        other=first["check"],
    )


def handful(config: Config, results: Path, size: int) -> Config:
    """One case of the benchmark with `size` seeds, 10 * `size` captions, and `STEPS` steps per stage of each method."""

    def fitting(case: str) -> int:
        return sum(not unsupported(config, row, case) for row in config.methods)

    case = max(config.cases, key=fitting)
    methods = {settings.method: settings.shortened(STEPS) for settings in reversed(config.methods.values())}
    return config.alone(
        results=results,
        models=config.models.model_copy(update={"probe": None}),
        sources={source: _first_file(config.sources[source]) for source in config.cases[case].bind},
        cases={case: config.cases[case]},
        seeds=list(range(size)),
        learning_seeds=config.learning_seeds[:1],
        concepts=config.concepts.model_copy(update={"captions": 10 * size, "frame_captions": 1}),
        sampling=config.sampling.model_copy(update={"steps": min(config.sampling.steps, STEPS)}),
        methods={"base": PlainPrompt()} | {name: methods[name] for name in method_names() if name in methods},
    )


def _first_file(entry: Source) -> Source:
    """A source with the first of several photographs alone, so that captions are as many as the config says."""
    return entry.model_copy(update={"files": (entry.files or [])[:1] or None, "masks": (entry.masks or [])[:1] or None})


def timed(run: Config, rows: Iterable[str]) -> dict[str, Taken]:
    """Runs the commands up to the scores of "base", and the trainings of these rows. Returns "command row" -> times."""
    path = run.paths.config
    write_text(path, run.to_yaml())

    def taken(*command: str) -> Taken:
        wall, cpu = time.monotonic(), cpu_of_children()
        done = subprocess.run(
            [sys.executable, "-m", "bico.cli", command[0], "--config", str(path), *command[1:]],
            env=os.environ | {"OMP_NUM_THREADS": "1"},  # as Snakemake runs them
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode:
            raise InputError(f"bico {' '.join(command)}: {done.stdout.strip().splitlines()[-1]}")
        return Taken(time.monotonic() - wall, cpu_of_children() - cpu)

    for source in (name for name, entry in run.sources.items() if entry.scene):
        taken("render", source)
    commands = [["check"], ["concepts"], ["encode"]]
    commands += [["appearance"]] * any(run.methods[row].APPEARANCE for row in rows)
    commands += [["learn", row, "0"] for row in rows if learned_items(run, row)]
    commands += [["generate", "base"], ["score", "base"]]
    return {" ".join(command[:2]): taken(*command) for command in commands}


def cpu_of_children() -> float:
    """CPU seconds of all commands that this process has run."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def speeds(run: Config, shares: Mapping[str, float]) -> tuple[dict[str, Speed], dict[str, float]]:
    """Row -> speed of its training, from the metrics of a run; and row -> seconds of all its steps, as if the first two
    of a stage, which compile, were as fast as the others.

    Args:
        shares: row -> share of its seconds that counts.
    """
    sizes, found, alone = ModelSizes(run), {}, dict.fromkeys(shares, 0.0)
    for row, share in shares.items():
        settings = cast(LearnedSettings, run.methods[row])
        taken: dict[bool, list[float]] = {False: [], True: []}  # clip? -> seconds of its steps
        for item, seed in trainings(run, row):
            path = run.paths.metrics(row, item, seed)
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            for name, stage in groupby(lines, key=lambda line: line["stage"]):
                _, _, *rest = (share * line["seconds"] for line in stage)
                alone[row] += statistics.mean(rest) * (2 + len(rest))
                if settings.LEARNS_PER == "case":  # stills and clips in turns, clips take longer
                    rest.sort()
                    taken[False] += rest[: len(rest) // 2]
                    taken[True] += rest[len(rest) // 2 :]
                else:
                    kind = run.sources[item].kind
                    taken[kind == "video" and not name.startswith("frames")] += rest
        tflop = {clip: sizes.tflop(run.media, run.media.num_frames if clip else 1)[1] for clip in taken}
        speed = {
            clip: settings.batch_size * tflop[clip] / statistics.median(values)
            for clip, values in taken.items()
            if values
        }
        still, clip = (speed.get(kind) or speed[not kind] for kind in taken)
        found[row] = Speed(still=still, clip=clip)
    return found, alone
