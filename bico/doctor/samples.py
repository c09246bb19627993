"""The samples for the tests: a few sources of the config, and a caption of each."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, zip_longest
from typing import Any

import numpy as np

from bico.config.schema import Config
from bico.core.errors import InputError
from bico.core.records import load_json
from bico.media.reading import read_media
from bico.sources.instructions import template
from bico.toybox.scenes import source_frames

MOST, COMPARED = 6, 4
"""Largest number of sources, and smallest number that is compared. With fewer, random weights could pass by chance."""


def read_samples(config: Config) -> dict[str, np.ndarray]:
    """Frames uint8 [T, H, W, 3] of up to `MOST` bound sources by name, images (T = 1) and videos in turns.

    A Toybox source that is not rendered yet is rendered in memory.

    Raises:
        InputError: none of them is on the disk.
    """
    bound = [name for name in config.sources if name in config.bound()]
    there = [name for name in bound if config.sources[name].scene or config.media_path(name).is_file()]
    if not there:
        raise InputError(
            f"sources: 0 of the {len(bound)} that cases bind are on the disk: expected {COMPARED} at least, which are "
            "compared with each other; fetch those of the authors' page (`snakemake --cores all --configfile FILE -- "
            "downloads`)"
        )
    kinds = [[name for name in there if config.sources[name].kind == kind] for kind in ("image", "video")]
    chosen = [name for name in chain(*zip_longest(*kinds)) if name][:MOST]
    return {name: _frames(config, name) for name in chosen}


def _frames(config: Config, name: str) -> np.ndarray:
    source, path = config.sources[name], config.media_path(name)
    if path.is_file():
        return read_media(path, **dict(config.media), start=source.start)
    return source_frames(source, config.media)


def caption_each(config: Config, samples: Mapping[str, np.ndarray], answers: Mapping[str, Any]) -> dict[str, str]:
    """A caption of each sample: from its results; else from the VLM's answers; else made of words bound to it."""
    captions = {}
    for name in samples:
        path = config.paths.concepts(name)
        if found := load_json(path) if path.exists() else answers.get(name):
            captions[name] = found["captions"][0]
        else:
            words = [word for case in config.cases.values() for word in case.bind.get(name, ())]
            captions[name] = template(list(dict.fromkeys(words)), 0)
    return captions
