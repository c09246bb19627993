"""The step that trains a method on its sources, or cases."""

from __future__ import annotations

import shutil
from dataclasses import replace

import torch
from safetensors.torch import load_file

from bico.config.schema import Config
from bico.core.errors import InputError
from bico.core.files import replacing
from bico.core.records import checkpoints, make_all
from bico.methods.shared.protocol import learn_of
from bico.models.wan.acceleration import compiles_on
from bico.pipeline.opening import open_backbone
from bico.pipeline.previews import keep_previews, previewing
from bico.plan import dependencies
from bico.plan.trainings import learned_items, trainings_of_part
from bico.sources.encoding import EncodedSource
from bico.training.artifacts import provenance, save_artifact
from bico.training.metrics import METRICS


def learn(config: Config, row: str, part: int) -> None:
    """Makes the artifacts that are missing or stale in one part of a row's trainings."""
    if part not in range(config.parts):
        raise InputError(f"no part {part} of {config.parts} ('parts' in the config): expected one from 0 on")
    settings, backbone = config.methods[row], open_backbone(config)
    if config.compile and backbone.device.type == "cuda" and not compiles_on(backbone.device):
        raise InputError(
            "compile: nothing can be compiled on this machine, see the line above, and training would take at least "
            "twice as long: expected a C++ compiler and the headers of Python; or set compile: false"
        )
    sources, depends = learned_items(config, row), dependencies.learn(config, row, part, str(backbone.dtype))
    trainings = {f"{item} {seed}": (item, seed) for item, seed in trainings_of_part(config, row, part)}

    def make(name: str) -> None:
        item, seed = trainings[name]
        data = {source: encoded_source(config, row, source) for source in sources[item]}
        artifact, record = things[name]
        with checkpoints(artifact, record) as workdir:  # they survive a failure
            tensors = learn_of(settings.method)(
                backbone,
                data if settings.LEARNS_PER == "case" else data[item],
                settings,
                shift=config.learning_shift,
                seed=seed,
                workdir=workdir,
                progress=f"{row} {name}",
                preview=previewing(config, row, item, backbone, workdir),
            )
            with replacing(config.paths.metrics(row, item, seed)) as unfinished:
                shutil.copyfile(workdir / METRICS, unfinished)
            keep_previews(workdir, config.paths.previews(row, item, seed))
            stored = getattr(torch, config.learned_dtype)
            save_artifact(artifact, tensors, provenance(settings, item), matrices=stored)

    things = {
        name: (config.paths.artifact(row, *training), depends.record(config, name))
        for name, training in trainings.items()
    }
    make_all(f"learn {row}", things, make, config.paths.all_learned(row, part))


def encoded_source(config: Config, row: str, source: str) -> EncodedSource:
    """An encoded source, with only the parts that the row may use."""
    encoded = EncodedSource.load(config.paths.encoded(source))
    if not config.methods[row].APPEARANCE:
        return encoded
    return replace(encoded, **load_file(config.paths.appearance(source)))
