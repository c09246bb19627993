"""Commands of a benchmark that others join: bundle, submit, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bico.cli.arguments import ConfigFile, open_config

Folder = Annotated[Path, Parameter(help="A folder of results, or of their score CSVs.")]


def bundle(*, config: ConfigFile, out: Annotated[Path, Parameter(help="A new folder, or a .zip file.")]) -> None:
    """Write the cases of a config for anybody's code: media, prompts, bound words, and the clips asked for."""
    from bico.pipeline.preflight import check_sources
    from bico.plan.bundle import write_bundle

    opened = open_config(config).chosen()
    check_sources(opened)
    written = write_bundle(opened, out)
    print(f"{out}: {len(written.sources)} sources, {len(written.cases)} cases, {len(written.clips)} clips asked for")


def submit(
    clips: Annotated[Path, Parameter(help="A folder, or a .zip file, of clips and submission.json.")],
    /,
    *,
    bundle: Annotated[Path, Parameter(help="The bundle from which they were made.")],
    out: Annotated[Path, Parameter(help="A new .zip file, or a new folder.")],
) -> None:
    """Check clips against the bundle from which they were made, and pack them for whoever scores them."""
    from bico.methods.external.submission import submit

    found, asked = submit(clips, bundle, out)
    print(f"{out}: {found} of {asked} clips")


def compare(first: Folder, second: Folder, /) -> int:
    """Tell which scores of two results differ, and by how much; exit code 1 if any does."""
    from bico.report.comparison import compare

    lines, same = compare(first, second)
    print("\n".join(lines))
    return 0 if same else 1


def board(
    entries: Annotated[Path, Parameter(help="A folder of entries, each a folder that a run left as entry/.")],
    /,
    *,
    out: Annotated[Path, Parameter(help="A new folder for a web server.")],
) -> None:
    """Make a static page of any number of entries, sorted and filtered, which says what compares with what."""
    from bico.report.board import write_board

    groups = write_board(entries, out)
    print(f"{out}/index.html: {'; '.join(groups)}")
    if len(groups) > 1:
        print("notice: entries of different sets, or scored by other models, stand apart: their rows do not compare")
