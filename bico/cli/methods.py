"""Commands of methods: learn, generate."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from bico.cli.arguments import ConfigFile, Count, Row, open_with_row


def learn(
    method: Row,
    part: Annotated[Count, Parameter(help="Of the row's trainings, from 0 on: see `parts`.")],
    /,
    *,
    config: ConfigFile,
) -> None:
    """Learn what a method keeps of its sources, or cases."""
    opened, row = open_with_row(config, method)
    from bico.pipeline.learn import learn
    from bico.profiling.memory import check_gpu

    check_gpu(opened, "learn", row)
    learn(opened, row, part)


def generate(method: Row, /, *, config: ConfigFile) -> None:
    """Make a method's clip of every case and seed."""
    opened, row = open_with_row(config, method)
    from bico.pipeline.generate import generate
    from bico.profiling.memory import check_gpu

    if opened.methods[row].OPENS_BACKBONE:
        check_gpu(opened, "generate", row)
    generate(opened, row)
