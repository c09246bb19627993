"""The step that embeds the frames of every source with CLIP, for the methods that learn from these embeddings."""

from __future__ import annotations

from safetensors.torch import save_file

from bico.config.schema import Config
from bico.core.device import free_device
from bico.core.files import replacing
from bico.core.records import make_all
from bico.media.reading import read_source
from bico.models.clip import Clip
from bico.plan import dependencies


def appearance(config: Config) -> None:
    """Embeds every source that is not embedded, or that has changed."""
    depends = dependencies.appearance(config)
    clip = Clip(getattr(config.models, dependencies.appearance_model(config)), device=free_device(config.device))

    def make(source: str) -> None:
        frames = read_source(config.media_paths(source), config.media, config.sources[source].start)
        with replacing(config.paths.appearance(source)) as unfinished:
            save_file({"appearance": clip.image_embeddings(frames).cpu()}, unfinished)

    things = {name: (config.paths.appearance(name), depends.record(config, name)) for name in depends.items}
    make_all("appearance", things, make, config.paths.all_appearance)
