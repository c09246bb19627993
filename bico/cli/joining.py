"""Commands for clips made elsewhere and for comparing runs: bundle, submit, compare, board."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bico.cli.arguments import ConfigFile, open_config

Folder = Annotated[Path, Parameter(help="A folder of results, or of their score CSVs.")]


def bundle(*, config: ConfigFile, out: Annotated[Path, Parameter(help="A new folder, or a .zip file.")]) -> None:
    """Write a bundle, from which any other code can make clips: media, prompts, bound words and seeds of all cases."""
    from bico.pipeline.preflight import check_sources
    from bico.plan.bundle import write_bundle

    opened = open_config(config).chosen()
    check_sources(opened)
    written = write_bundle(opened, out)
    print(f"{out}: {len(written.sources)} sources, {len(written.cases)} cases, {len(written.clips)} clips to be made")


def submit(
    clips: Annotated[Path, Parameter(help="A folder or a .zip file with clips and submission.json.")],
    /,
    *,
    bundle: Annotated[Path, Parameter(help="The bundle from which they were made.")],
    out: Annotated[Path, Parameter(help="A new .zip file, or a new folder.")],
) -> None:
    """Check clips against the bundle from which they were made, and pack them into a submission."""
    from bico.methods.external.submission import submit

    found, asked = submit(clips, bundle, out)
    print(f"{out}: {found} of the {asked} clips that the bundle asks for")


def compare(first: Folder, second: Folder, /) -> int:
    """List the scores that differ between two runs, and by how much. The exit code is 1 if there are any."""
    from bico.report.comparison import compare

    lines, same = compare(first, second)
    print("\n".join(lines))
    return 0 if same else 1


def board(
    entries: Annotated[Path, Parameter(help="A folder with entries. Each is the folder entry/ of a run.")],
    /,
    *,
    out: Annotated[Path, Parameter(help="A new folder for a web server.")],
) -> None:
    """Make a static page from any number of entries. It can be sorted and filtered, and shows which are comparable."""
    from bico.report.board import write_board

    groups = write_board(entries, out)
    print(f"{out}/index.html: {'; '.join(groups)}")
    if len(groups) > 1:
        print("notice: these groups have different sets or scoring models, so their rows cannot be compared")
