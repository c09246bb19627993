"""The time of each kind of work on a machine: the typed contents of `machines.yaml`."""

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
    """The cost of each kind of work on one machine, in seconds, except for the speeds."""

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
    peak: float | None = Field(default=None, gt=0, description="TFLOP/s of bfloat16 matrix products, as published")


class Card(Section):
    """A GPU that was not measured. Its speeds are those of another one, scaled by the ratio of published peaks."""

    name: str = Field(description="what people call it")
    like: str = Field(description="machine that was measured")
    peak: float = Field(gt=0, description="TFLOP/s of bfloat16 matrix products without sparsity, as published")


def costs_of(machine: str) -> Costs:
    """The costs of a machine in `machines.yaml`. Raises InputError if there is none of this name."""
    machines = yaml.safe_load(MACHINES.read_text(encoding="utf-8"))
    if machine not in machines:
        raise InputError(f"--machine {machine}: expected one of {', '.join(machines)}; --measure measures this one")
    entry, name = machines[machine], f"{MACHINES.name}: {machine}"
    return _reckoned(checked(Card, entry, name=name)) if "like" in entry else checked(Costs, entry, name=name)


def _reckoned(card: Card) -> Costs:
    """The costs of a card, from those of the machine that it is compared with."""
    measured = costs_of(card.like)
    assert measured.peak is not None
    ratio = card.peak / measured.peak
    training = {
        method: Speed(still=speed.still * ratio, clip=speed.clip * ratio) for method, speed in measured.training.items()
    }
    seconds = {key: getattr(measured, key) / ratio for key in ("decode", "caption", "encode", "score")}
    origin = (
        f"{card.name}: not measured. Estimated from the figures of {card.like} and the published peaks in bfloat16, "
        f"{card.peak:g} and {measured.peak:g} TFLOP/s. Those figures: {measured.origin}"
    )
    changes = {"origin": origin, "training": training, "sampling": measured.sampling * ratio, "peak": card.peak}
    return measured.model_copy(update=changes | seconds)
