"""Measures the speed of training and generation at full size, on random weights, so nothing is downloaded.

    bico bench --out bench.json                       # Wan2.1-T2V-1.3B at 480x832, on a GPU
    bico bench --preset small                         # the same in seconds, on any CPU
    bico bench --blocks 2 --frames 1 --sampling-steps 1 --beside diffusers   # full width, two of the blocks
    bico bench --methods textual_inversion db_lora dreamvideo dualreal       # steps of the other rows of table 1

For 1, 49 and 81 frames it measures a training step of BiCo as `bico learn` runs it, beside two others:

    diffusers      diffusers' transformer, eager, with its own attention and gradient checkpointing in every block
    re-encoding    the same, with UMT5-XXL and VAE in every step, as the authors' trainer has it

and then the generation of clips of the last length, with and without binders. Other `--methods` use the settings of
their papers and have no comparison. TFLOP count useful work: what the shapes of a step need, without recomputed
activations (see `bico.profiling.flops`). Their share is relative to the device's own matrix products. Measurements run
one after the other, so the machine must do nothing else.

Each result is printed on stderr as soon as it is known, and the file is written anew after each length, so a failure or
an interruption loses no earlier result.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch

from bico.config.methods import LearnedSettings, method_names, settings_of
from bico.core.errors import InputError
from bico.core.files import write_json, write_text
from bico.models.wan.components import best_dtype
from bico.profiling.flops import forward_flops, training_flops
from bico.profiling.presets import PRESETS, Sizes
from bico.profiling.throughput import WARM_UP, Timing, attempt, generation, matrix_peak, plain_step, training_step

COLUMNS = {
    "stage": "{}",
    "frames": "{}",
    "variant": "{}",
    "seconds": "{:.4g}",
    "tflop": "{:.4g}",
    "tflop_per_s": "{:.4g}",
    "share_of_peak": "{:.0%}",
    "peak_gib": "{:.2f}",
    "times_ours": "{:.2f}",
}


def bench(
    preset: str,
    frames: Sequence[int] | None,
    height: int | None,
    width: int | None,
    blocks: int | None,
    steps: int,
    sampling_steps: int | None,
    methods: Sequence[str],
    beside: Sequence[str],
    device: str,
    out: Path | None,
) -> None:
    """Measures, prints the table and writes it to `out`, with the device, the versions and the date.

    Args:
        preset: name of the sizes that are used where the next four arguments and `sampling_steps` are None.
        frames: numbers of frames of the clips, 4k + 1 each.
        height, width: pixels, multiples of 16.
        blocks: number of blocks of the transformer.
        steps: measured steps of each training.
        sampling_steps: denoising steps; 0 leaves out the generation.
        methods: methods whose trainings to measure.
        beside: other trainings to compare with BiCo's, from "diffusers" and "re-encoding".

    Raises:
        InputError: sizes that VAE and transformer cannot take, or `out` is neither .csv nor .json.
    """
    sizes = PRESETS[preset]
    sizes = replace(
        sizes,
        transformer={**sizes.transformer, "num_layers": blocks or sizes.transformer["num_layers"]},
        height=height or sizes.height,
        width=width or sizes.width,
        frames=sizes.frames if frames is None else tuple(frames),
        sampling_steps=sizes.sampling_steps if sampling_steps is None else sampling_steps,
    )
    _check(sizes, methods, out)
    on, dtype = torch.device(device), best_dtype(device)
    peak = matrix_peak(on, dtype)
    described = {
        "device": _name(on),
        "dtype": str(dtype).removeprefix("torch."),
        "matrix_peak_tflop_per_s": round(peak, 3),
        "model": f"{preset}, {sizes.transformer['num_layers']} blocks, {sizes.height}x{sizes.width}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")},
    }
    for name, value in described.items():
        print(f"{name}: {value}", flush=True)
    rows: list[dict[str, object]] = []
    table = pd.DataFrame(columns=list(COLUMNS))
    for stage, count, useful, variants in _stages(sizes, steps, methods, beside, on, dtype):
        measured = {name: attempt(f"{stage}, {count} frames, {name}", work, on) for name, work in variants.items()}
        rows += _rows(stage, count, measured, useful, peak)
        table = pd.DataFrame(rows, columns=list(COLUMNS))
        if out is not None:
            _write(out, described, table)
    print(_text(table))


def _stages(
    sizes: Sizes,
    steps: int,
    methods: Sequence[str],
    beside: Sequence[str],
    device: torch.device,
    dtype: torch.dtype,
) -> Iterator[tuple[str, int, float, dict[str, Callable[[], Timing]]]]:
    """Stage, frames, useful TFLOP, and the function that measures each variant."""
    for count in sizes.frames:
        useful = sizes.flops(training_flops, count) / 1e12
        for name in methods:
            kind, blocks = "image" if count == 1 else "video", sizes.transformer["num_layers"]
            defaults = cast("Callable[[], LearnedSettings]", settings_of(name))
            settings = defaults().measured(WARM_UP + steps, kind, blocks)
            variants = {"ours": partial(training_step, sizes, count, steps, settings, device, dtype)}
            for other in beside if settings.BINDS_WORDS else ():  # they repeat the step of binders
                encodes = other == "re-encoding"
                variants[other] = partial(plain_step, sizes, count, steps, device, dtype, encodes=encodes)
            stage = "training step" if settings.BINDS_WORDS else f"training step of {name}"
            batch_size = settings.still_batch_size if count == 1 else settings.batch_size
            yield stage, count, batch_size * useful, variants
    if sizes.sampling_steps:
        count = sizes.frames[-1]
        useful = 2 * sizes.sampling_steps * sizes.flops(forward_flops, count) / 1e12
        ways = {"ours": True, "no binders": False}
        variants = {name: partial(generation, sizes, count, device, dtype, binds=binds) for name, binds in ways.items()}
        yield f"generation, {sizes.sampling_steps} steps", count, useful, variants


def _check(sizes: Sizes, methods: Sequence[str], out: Path | None) -> None:
    learning = [name for name in method_names() if settings_of(name).LEARNS_PER != "nothing"]
    if not sizes.frames:
        raise InputError("--frames: expected one length at least, such as 81")
    if not methods:
        raise InputError(f"--methods: expected one at least of {', '.join(learning)}")
    for name in methods:
        if name not in learning:
            raise InputError(f"--methods {name}: no method that learns: expected one of {', '.join(learning)}")
    for name in ("height", "width"):
        if getattr(sizes, name) % 16:
            raise InputError(f"--{name} {getattr(sizes, name)}: expected a multiple of 16 (VAE 8, patches of 2)")
    for count in sizes.frames:
        if count < 1 or count % 4 != 1:
            raise InputError(f"--frames {count}: expected 4k + 1 (the VAE packs four frames into one)")
    if out is not None and out.suffix not in (".csv", ".json"):
        raise InputError(f"--out {out}: expected a name that ends in .csv or .json")


def _rows(
    stage: str, frames: int, measured: Mapping[str, Timing], useful: float, peak: float
) -> list[dict[str, object]]:
    return [
        {
            "stage": stage,
            "frames": frames,
            "variant": variant,
            "seconds": each.seconds,
            "tflop": useful,
            "tflop_per_s": useful / each.seconds,
            "share_of_peak": useful / each.seconds / peak,
            "peak_gib": each.peak_gib,
            "times_ours": each.seconds / measured["ours"].seconds,
        }
        for variant, each in measured.items()
    ]


def _text(table: pd.DataFrame) -> str:
    return table.to_string(index=False, na_rep="-", formatters={name: form.format for name, form in COLUMNS.items()})


def _write(out: Path, described: dict[str, Any], table: pd.DataFrame) -> None:
    if out.suffix == ".json":
        write_json(out, described | {"rows": json.loads(table.to_json(orient="records"))})
    else:
        versions = " ".join(f"{name} {number}" for name, number in described["versions"].items())
        write_text(out, table.assign(**described | {"versions": versions}).to_csv(index=False))


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}), {torch.get_num_threads()} threads"
