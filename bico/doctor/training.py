"""Test of a training: seconds of a step and, on a GPU, its utilisation."""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

import torch

from bico.config.methods import LearnedSettings
from bico.config.schema import Config
from bico.doctor.finding import Finding
from bico.methods.shared.protocol import learn_of
from bico.models.wan.acceleration import compiles_on
from bico.models.wan.backbone import Backbone
from bico.profiling.costs import costs_of
from bico.profiling.throughput import matrix_peak
from bico.profiling.work import ModelSizes
from bico.sources.encoding import EncodedSource
from bico.training.metrics import METRICS

STEPS = 6
"""Steps of each stage. The first two of the last stage do not count, because they compile."""
SHARE = 0.2
"""Smallest speed relative to the GPU's own matrix products. An H100 reaches about 0.6 on clips of full size, 0.3 on
images."""
MEMORY = 0.95
"""Largest share of the GPU's memory."""


def examine_training(backbone: Backbone, config: Config, source: EncodedSource, settings: LearnedSettings) -> Finding:
    """Measures the last stage of a row's training on one source.

    Args:
        settings: of the row.
    """
    on_gpu = backbone.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(backbone.device)
    few = settings.measured(STEPS, source.kind, backbone.num_blocks)
    with tempfile.TemporaryDirectory() as folder:
        learn_of(few.method)(backbone, source, few, shift=config.learning_shift, seed=0, workdir=Path(folder))
        lines = [json.loads(line) for line in (Path(folder) / METRICS).read_text().splitlines()]
    seconds = statistics.median(line["seconds"] for line in lines[2 - STEPS :])
    clip = source.kind == "video"
    frames = config.media.num_frames if clip else 1
    measured = f"{seconds:.3f} s a step of {few.method} on {f'{frames} frames' if clip else 'an image'}"
    part, look = "training, a step", "the log of `bico bench`, which measures the same on random weights"
    if not on_gpu:
        return Finding(part, measured, "no limit on a CPU", True, look)
    tflop = few.batch_size * ModelSizes(config).tflop(config.media, frames)[1]
    share = tflop / seconds / matrix_peak(backbone.device, backbone.dtype)
    peak = torch.cuda.max_memory_allocated(backbone.device) / 2**30
    room = torch.cuda.get_device_properties(backbone.device).total_memory / 2**30
    speed = costs_of("h100").training["bico"]
    compiled = not backbone.compiles or compiles_on(backbone.device)
    if not compiled:  # `learn` refuses such a GPU
        measured, look = f"{measured}, not compiled", "a C++ compiler and the headers of Python on this machine"
    return Finding(
        part,
        f"{measured}, {share:.0%} of the GPU's own matrix products, {peak:.1f} of {room:.0f} GiB",
        f"{SHARE:.0%} or more, below {MEMORY * room:.0f} GiB; an H100 takes "
        f"{tflop / (speed.clip if clip else speed.still):.3f} s",
        compiled and share >= SHARE and peak <= MEMORY * room,
        look,
    )
