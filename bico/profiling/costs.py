"""What a unit of work takes on a machine: `machines.yaml`, typed."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import Field

from bico.config.section import Section, checked
from bico.core.errors import InputError

MACHINES = Path(__file__).with_name("machines.yaml")


class Speed(Section):
    """TFLOP/s of a method's training."""

    still: float = Field(gt=0, description="in steps on images and single frames")
    clip: float = Field(gt=0, description="in steps on clips")


class Costs(Section):
    """What a unit of work takes on one machine, in seconds but for the speeds."""

    origin: str = Field(description="where the figures come from")
    gpu: bool = Field(description="jobs with models run on a GPU")
    start: float = Field(ge=0, description="of a job with models before its work: process, imports, opening")
    compile: float = Field(default=0, ge=0, description="of a job that trains, besides its steps: it compiles blocks")
    training: dict[str, Speed] = Field(description="method -> its speed; of one that is not listed, that of bico")
    sampling: float = Field(gt=0, description="TFLOP/s of denoising")
    decode: float = Field(default=0, ge=0, description="a frame of a generated clip, if not part of `sampling`")
    caption: float = Field(ge=0, description="a caption of the VLM")
    encode: float = Field(ge=0, description="a caption, and what it describes, for training")
    score: float = Field(ge=0, description="a frame of a scored clip")
    other: float = Field(ge=0, description="a job without models")


def costs_of(machine: str) -> Costs:
    """Of a machine in `machines.yaml`; InputError if it has none of this name."""
    machines = yaml.safe_load(MACHINES.read_text(encoding="utf-8"))
    if machine not in machines:
        raise InputError(f"--machine {machine}: expected one of {', '.join(machines)}; --measure measures this one")
    return checked(Costs, machines[machine], name=f"{MACHINES.name}: {machine}")
