"""Commands that prepare sources and weights for training."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from bico.cli.arguments import ConfigFile, known, open_config
from bico.core.errors import InputError

Source = Annotated[str, Parameter(help="One of `sources` in the config.")]
Repository = Annotated[str, Parameter(help="A repository in config/weights.lock.")]


def weights(repository: Repository, /, *, config: ConfigFile) -> None:
    """Download a model of full size, as pinned in config/weights.lock, and check that the benchmark fits it."""
    from bico.pipeline.preflight import preflight
    from bico.sources.weights import fetch, repositories

    opened = open_config(config)
    fetch(opened.weights_store, known("repository", repository, repositories(opened).values()))
    preflight(opened)


def authors(*, config: ConfigFile) -> None:
    """Download the authors' project page: media for sources, and published clips."""
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
    """Render the exact rendering of every Toybox case."""
    from bico.toybox.scenes import write_truth

    opened = open_config(config)
    for case in opened.truths:
        write_truth(opened, case)


def concepts(*, config: ConfigFile) -> None:
    """Ask the VLM for the key concepts of every source, and for captions that contain them."""
    from bico.pipeline.concepts import concepts
    from bico.profiling.memory import check_gpu
    from bico.sources.coverage import log_coverage, notice_coverage

    opened = open_config(config)
    check_gpu(opened, "concepts")
    concepts(opened)
    log_coverage(opened)
    notice_coverage(opened)


def coverage(*, config: ConfigFile) -> None:
    """Write a table of how many words of each bound phrase the captions contain, with notices where they are few."""
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
    """Embed the frames of every source with CLIP, for the methods that learn from these embeddings."""
    from bico.pipeline.appearance import appearance

    appearance(open_config(config))
