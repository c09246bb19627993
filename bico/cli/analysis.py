"""Commands that measure what was learned: binding, applications, absorption, parts of the concept, controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bico.cli.arguments import ConfigFile, Row, known, open_config, open_with_probe
from bico.core.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from bico.config.schema import Config


def unbound(*, config: ConfigFile) -> None:
    """Measure clips of the plain prompt on the words of every source. `binding` compares with it."""
    opened = open_with_probe(config, "unbound")
    from bico.analysis.binding import unbound
    from bico.pipeline.opening import open_backbone

    unbound(opened, open_backbone(opened))


def binding(row: Row, /, *, config: ConfigFile) -> None:
    """Measure what a method has learned from each source alone: reconstruction, and the leak test."""
    opened = open_with_probe(config, "binding")
    known("row", row, opened.methods)
    from bico.analysis.binding import binding
    from bico.pipeline.opening import open_backbone

    binding(opened, row, open_backbone(opened))


def binding_table(*, config: ConfigFile) -> None:
    """Write the table of the binding of all methods."""
    opened = open_with_probe(config, "binding-table")
    from bico.analysis.binding import collect

    collect(opened)


def applications(*, config: ConfigFile) -> None:
    """Decompose and edit sources: make the clips, measure and draw them."""
    opened = open_with_probe(config, "applications")
    from bico.analysis.applications import applications
    from bico.pipeline.opening import open_backbone

    applications(opened, open_backbone(opened))


def absorption(*, config: ConfigFile) -> None:
    """Show the attention maps of bound words and of the absorption token, with the token and without."""
    opened = open_with_probe(config, "absorption")
    from bico.analysis.absorption import absorption
    from bico.pipeline.opening import open_backbone

    absorption(opened, open_backbone(opened))


def concept_parts(*, config: ConfigFile) -> None:
    """Split the concept score into its parts: which parts of a look each row of table 1 keeps."""
    opened = open_with_probe(config, "concept-parts")
    from bico.analysis.concept_parts import measure_parts

    measure_parts(opened, list(opened.table("table1")))


def doses(*, config: ConfigFile) -> None:
    """Score exact renderings with one fault, in doses."""
    opened = open_with_probe(config, "doses")
    from bico.analysis.doses import measure_doses
    from bico.core.device import free_device

    measure_doses(opened, device=free_device(opened.device))


def scorers(*, config: ConfigFile) -> None:
    """Write what each score measures, tested on faults in doses and on the clips of the rows of table 1."""
    from bico.report.scorers import scorers

    scorers(open_config(config))


def control_diversification(*, config: ConfigFile) -> None:
    """Measure how much rows lower the loss for the caption that they were trained on, and for new sentences."""
    opened = _open_with_control(config, "diversification")
    from bico.analysis.control_diversification import gains
    from bico.pipeline.opening import open_backbone

    gains(opened, open_backbone(opened))


def control_counterparts(*, config: ConfigFile) -> None:
    """Train on the counterpart of every Toybox source: with clutter if the source has none, without if it has some."""
    opened = _open_with_control(config, "absorption")
    from bico.pipeline.counterparts import learn_counterparts

    learn_counterparts(opened)


def control_absorption(*, config: ConfigFile) -> None:
    """Measure whether the clutter of a source appears in clips that bind its subject or its scene."""
    opened = _open_with_control(config, "absorption")
    from bico.analysis.control_absorption import clutter_in_clips
    from bico.pipeline.opening import open_backbone

    clutter_in_clips(opened, open_backbone(opened))


def controls(*, config: ConfigFile) -> None:
    """Write the table of controls: is the effect of each ingredient of BiCo visible where it must have one?"""
    opened = open_config(config)
    if not opened.controls.rows():
        raise InputError("controls: the config has none: expected rows to compare, see config/reference.yaml")
    from bico.analysis.controls import controls

    controls(opened)


def _open_with_control(path: Path, ingredient: str) -> Config:
    opened = open_config(path)
    known("control", ingredient, opened.controls.rows())
    return opened
