"""Commands that look closely at what was learned: binding, applications, absorption, parts of the concept score."""

from __future__ import annotations

from bico.cli.arguments import ConfigFile, Row, known, open_with_probe


def unbound(*, config: ConfigFile) -> None:
    """Measure what the base shows of every source's words, for `binding` to compare with."""
    opened = open_with_probe(config, "unbound")
    from bico.analysis.binding import unbound
    from bico.pipeline.opening import open_backbone

    unbound(opened, open_backbone(opened))


def binding(method: Row, /, *, config: ConfigFile) -> None:
    """Measure on its own what a method has learned of each source: reconstruction, and the leak test."""
    opened = open_with_probe(config, "binding")
    known("method", method, opened.methods)
    from bico.analysis.binding import binding
    from bico.pipeline.opening import open_backbone

    binding(opened, method, open_backbone(opened))


def binding_table(*, config: ConfigFile) -> None:
    """Write the table of all methods' binding."""
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
    """Show where bound words and the absorption token look, with it and without."""
    opened = open_with_probe(config, "absorption")
    from bico.analysis.absorption import absorption
    from bico.pipeline.opening import open_backbone

    absorption(opened, open_backbone(opened))


def concept_parts(*, config: ConfigFile) -> None:
    """Take the concept score apart: which looks each row of table 1 holds, and which it loses."""
    opened = open_with_probe(config, "concept-parts")
    from bico.analysis.concept_parts import measure_parts

    measure_parts(opened, list(opened.table("table1")))
