"""The step that encodes sources and their captions as latents and prompt embeddings, which training reads."""

from __future__ import annotations

from bico.config.schema import Config
from bico.core.records import load_json, make_all
from bico.media.reading import read_mask, read_source
from bico.pipeline.opening import open_backbone
from bico.plan import dependencies
from bico.sources.encoding import encode_source


def encode(config: Config) -> None:
    """Encodes every source that is not encoded yet, or that has changed."""
    backbone = open_backbone(config)

    def make(source: str) -> None:
        found = load_json(config.paths.concepts(source))
        entry = config.sources[source]
        frames = read_source(config.media_paths(source), config.media, entry.start)
        masks = [read_mask(mask, config.media) for mask in entry.own_masks]
        encode_source(backbone, frames, found, masks).save(config.paths.encoded(source))

    depends = dependencies.encode(config, str(backbone.dtype))
    things = {name: (config.paths.encoded(name), depends.record(config, name)) for name in depends.items}
    make_all("encode", things, make, config.paths.all_encoded)
