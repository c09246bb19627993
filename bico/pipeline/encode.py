"""The step that turns sources and their captions into the latents and prompt embeddings that training reads."""

from __future__ import annotations

from bico.config.schema import Config
from bico.core.records import load_json, make_all
from bico.media.reading import read_media
from bico.pipeline.opening import open_backbone
from bico.plan import dependencies
from bico.sources.encoding import encode_source


def encode(config: Config) -> None:
    """Encodes every source that is not, or that has changed."""
    backbone = open_backbone(config)

    def make(source: str) -> None:
        found = load_json(config.paths.concepts(source))
        frames = read_media(config.media_path(source), **dict(config.media), start=config.sources[source].start)
        encode_source(backbone, frames, found).save(config.paths.encoded(source))

    depends = dependencies.encode(config, str(backbone.dtype))
    things = {name: (config.paths.encoded(name), depends.record(config, name)) for name in depends.items}
    make_all("encode", things, make, config.paths.all_encoded)
