"""The step that asks the VLM for every source's key concepts and for captions that hold them."""

from __future__ import annotations

from functools import cache

from bico.config.schema import Config
from bico.core.device import free_device
from bico.core.errors import InputError
from bico.core.files import write_json
from bico.core.records import make_all
from bico.media.reading import read_media
from bico.models.vlm import Vlm
from bico.plan import dependencies
from bico.sources.concepts import extract


def concepts(config: Config) -> None:
    """Writes the concepts and captions of every source that has none, or old ones."""

    @cache
    def vlm() -> Vlm:
        return Vlm(config.models.vlm, device=free_device(config.device))

    def make(source: str) -> None:
        entry, fps = config.sources[source], config.media.fps
        frames = read_media(config.media_path(source), **dict(config.media))
        try:
            found = extract(frames, entry.kind, config.concepts, vlm(), fps=fps, key_words=entry.concepts)
        except InputError as error:
            raise InputError(f"sources.{source}: {error}") from None
        write_json(config.paths.concepts(source), found)

    depends = dependencies.concepts(config)
    things = {name: (config.paths.concepts(name), depends.record(config, name)) for name in depends.items}
    make_all("concepts", things, make, config.paths.all_concepts)
