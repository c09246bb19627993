"""The step that asks the VLM for the key concepts of every source, and for captions that contain them."""

from __future__ import annotations

from functools import cache

import numpy as np

from bico.config.schema import Config
from bico.core.device import free_device
from bico.core.errors import InputError
from bico.core.files import write_json
from bico.core.records import make_all
from bico.media.reading import read_media, read_original
from bico.models.vlm import Vlm
from bico.plan import dependencies
from bico.sources.concepts import extract


def concepts(config: Config) -> None:
    """Writes the concepts and captions of every source whose file is missing or stale."""

    @cache
    def vlm() -> Vlm:
        return Vlm(config.models.vlm, device=free_device(config.device))

    def make(source: str) -> None:
        entry, ((frames, *others), fps) = config.sources[source], shown(config, source)
        given = {"key_words": entry.concepts, "others": others}
        try:
            found = extract(frames, entry.kind, config.concepts, vlm(), fps=fps, **given)
        except InputError as error:
            raise InputError(f"sources.{source}: {error}") from None
        write_json(config.paths.concepts(source), found)

    depends = dependencies.concepts(config)
    things = {name: (config.paths.concepts(name), depends.record(config, name)) for name in depends.items}
    make_all("concepts", things, make, config.paths.all_concepts)


def shown(config: Config, source: str) -> tuple[list[np.ndarray], float]:
    """The frames that the VLM sees, uint8 [T, H, W, 3] for each file of a source, and their frames per second."""
    paths, start = config.media_paths(source), config.sources[source].start
    if config.concepts.look == "original":
        looks, rates = zip(*(read_original(path, config.media, start) for path in paths), strict=True)
        return list(looks), rates[0]
    return [read_media(path, **dict(config.media), start=start) for path in paths], config.media.fps
