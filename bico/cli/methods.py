"""Commands of methods: learn, generate."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from bico.cli.arguments import ConfigFile, Count, Row, open_with_row


def learn(
    row: Row,
    part: Annotated[Count, Parameter(help="Number of the part of the row's trainings, from 0: see `parts`.")],
    /,
    *,
    config: ConfigFile,
) -> None:
    """Train a method on its sources, or cases."""
    opened, row = open_with_row(config, row)
    from bico.pipeline.learn import learn
    from bico.profiling.memory import check_gpu

    check_gpu(opened, "learn", row)
    learn(opened, row, part)


def generate(row: Row, /, *, config: ConfigFile) -> None:
    """Generate the clips of a method for every case and seed."""
    opened, row = open_with_row(config, row)
    from bico.pipeline.generate import generate
    from bico.profiling.memory import check_gpu

    if opened.methods[row].OPENS_BACKBONE:
        check_gpu(opened, "generate", row)
    generate(opened, row)
