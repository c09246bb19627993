"""Commands before a run: check, doctor, estimate, bench."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from bico.cli.arguments import ConfigFile, Count, Positive, open_config
from bico.core.errors import InputError

Rows = Annotated[
    Sequence[str], Parameter(consume_multiple=True, negative="", help="Methods whose trainings to measure.")
]
Lengths = Annotated[
    list[Positive] | None,
    Parameter(consume_multiple=True, negative="", help="Numbers of frames of the clips, 4k + 1 each; full: 1 49 81."),
]
Others = Annotated[
    Sequence[Literal["diffusers", "re-encoding"]],
    Parameter(consume_multiple=True, negative="", help="Trainings to compare with; none: `--beside` without values."),
]
DEFAULT = Path("config/toybox.yaml")
MACHINES = "cpu_amx (two cores with AMX), cpu_avx2 (two cores without), h100, h200, a100 or rtx4090."


def draw(
    *,
    cases: Annotated[Positive, Parameter(help="Cases of the benchmark; a sixth as many images, and videos.")],
    seed: Annotated[Count, Parameter(help="The same seed draws the same benchmark.")],
    name: Annotated[str, Parameter(help="Of the benchmark, such as toybox_120.")],
    out: Annotated[Path, Parameter(help="YAML file to be written; it must not be there.")],
    config: Annotated[
        Path, Parameter(name="--config", help="YAML file of a Toybox benchmark, whose settings are taken.")
    ] = DEFAULT,
) -> None:
    """Draw a Toybox benchmark of any size from a seed, and write its config."""
    import yaml

    from bico.config.reading import load, read_yaml
    from bico.core.files import write_text
    from bico.toybox.drawing import drawn_config

    if out.exists():
        raise InputError(f"--out {out}: is there: expected a new file; remove it, or give another name")
    if load(config).models.probe is None:
        raise InputError(f"--config {config}: models.probe is null: expected a Toybox benchmark")
    entries = drawn_config(read_yaml(config), cases, seed, name)
    command = f"uv run bico draw --cases {cases} --seed {seed} --name {name} --out {out}"
    if config != DEFAULT:
        command += f" --config {config}"
    lines = yaml.safe_dump(entries, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    write_text(out, f"# Drawn by `{command}`, with the settings of {config}.\n\n{lines}")


def check(*, config: ConfigFile) -> None:
    """Check a config, its files and its models for errors that would stop a run later."""
    from bico.pipeline.preflight import check

    check(open_config(config))


def doctor(*, config: ConfigFile) -> int:
    """Test each model on this machine with a few sources. The exit code is 1 if one does not work."""
    from bico.doctor.examination import doctor

    return 0 if doctor(open_config(config)) else 1


def estimate(
    *targets: Annotated[str, Parameter(help="Target files, as for Snakemake; by default those of `all`.")],
    config: ConfigFile,
    machine: Annotated[str, Parameter(help=MACHINES)] = "cpu_amx",
    measure: Annotated[bool, Parameter(negative="", help="Measure the speed of this machine first.")] = False,
) -> None:
    """Estimate jobs, hours and disk of a run, by rule and by row. Trainings and clips that exist are not counted."""
    from bico.profiling.estimate import estimated

    print(estimated(open_config(config), machine, measure=measure, targets=targets))


def bench(
    *,
    preset: Annotated[Literal["full", "small"], Parameter(help="full: Wan2.1-T2V-1.3B; small: for a CPU.")] = "full",
    frames: Lengths = None,
    height: Annotated[Positive | None, Parameter(help="Height in pixels, a multiple of 16; full: 480.")] = None,
    width: Annotated[Positive | None, Parameter(help="Width in pixels, a multiple of 16; full: 832.")] = None,
    blocks: Annotated[Positive | None, Parameter(help="Blocks of the transformer; full: 30.")] = None,
    steps: Annotated[Positive, Parameter(help="Measured steps of each training, after two for warm-up.")] = 5,
    sampling_steps: Annotated[Count | None, Parameter(help="Denoising steps, 0 = no generation; full: 50.")] = None,
    methods: Rows = ("bico",),
    beside: Others = ("diffusers", "re-encoding"),
    device: Literal["auto", "cpu", "cuda"] = "auto",
    out: Annotated[Path | None, Parameter(help="File for the results, .json or .csv.")] = None,
) -> None:
    """Measure training and generation of the full-size model on random weights, and two other ways to train it."""
    from bico.core.device import free_device
    from bico.profiling.bench import bench

    bench(preset, frames, height, width, blocks, steps, sampling_steps, methods, beside, free_device(device), out)
