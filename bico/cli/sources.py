"""Commands of sources, from files and weights to what training reads."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from bico.cli.arguments import ConfigFile, known, open_config
from bico.core.errors import InputError

Source = Annotated[str, Parameter(help="One of `sources` in the config.")]
Repository = Annotated[str, Parameter(help="Name of the model in config/weights.lock.")]


def weights(repository: Repository, /, *, config: ConfigFile) -> None:
    """Download a full-size model in the version that config/weights.lock pins, and check that the config fits it."""
    from bico.pipeline.preflight import preflight
    from bico.sources.weights import fetch, repositories

    opened = open_config(config)
    fetch(opened.weights_store, known("repository", repository, repositories(opened).values()))
    preflight(opened)


def authors(*, config: ConfigFile) -> None:
    """Download the authors' project page: the media of the sources, and the clips that they published."""
    from bico.sources.authors_page import fetch

    fetch(open_config(config).authors_page)


def render(source: Source, /, *, config: ConfigFile) -> None:
    """Render a Toybox source."""
    from bico.toybox.scenes import write_source

    opened = open_config(config)
    if opened.sources[known("source", source, opened.sources)].scene is None:
        raise InputError(f"sources.{source}: a file of your own: expected a source with 'scene'")
    write_source(opened, source)


def truth(*, config: ConfigFile) -> None:
    """Make the exact rendering of every Toybox case."""
    from bico.toybox.scenes import write_truth

    opened = open_config(config)
    for case in opened.truths:
        write_truth(opened, case)


def concepts(*, config: ConfigFile) -> None:
    """Ask the VLM for every source's key words, and for captions that contain them."""
    from bico.pipeline.concepts import concepts
    from bico.profiling.memory import check_gpu
    from bico.sources.coverage import log_coverage, notice_coverage

    opened = open_config(config)
    check_gpu(opened, "concepts")
    concepts(opened)
    log_coverage(opened)
    notice_coverage(opened)


def coverage(*, config: ConfigFile) -> None:
    """Write, for every bound phrase, the share of its words that captions name, and print a notice if it is low."""
    from bico.sources.coverage import notice_coverage, write_coverage

    opened = open_config(config)
    write_coverage(opened)
    notice_coverage(opened)


def encode(*, config: ConfigFile) -> None:
    """Turn sources and their captions into the latents and prompt embeddings that training reads."""
    from bico.pipeline.encode import encode
    from bico.profiling.memory import check_gpu

    opened = open_config(config)
    check_gpu(opened, "encode")
    encode(opened)


def appearance(*, config: ConfigFile) -> None:
    """Embed every source's frames with CLIP, for the methods that learn from it."""
    from bico.pipeline.appearance import appearance

    appearance(open_config(config))
