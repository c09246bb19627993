"""Training of the vectors of a source."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torch import Tensor

from bico.methods.textual_inversion.inversion import Inversion
from bico.methods.textual_inversion.settings import Settings
from bico.models.wan.acceleration import accelerated, clips_at_once, uses_checkpointing
from bico.models.wan.backbone import Backbone
from bico.models.wan.components import short_of_memory
from bico.sources.encoding import EncodedSource
from bico.training.loop import Group, Preview, Stage, fit
from bico.training.noise import NoiseLevels


def learn(
    backbone: Backbone,
    encoded: EncodedSource,
    settings: Settings,
    *,
    shift: float,
    seed: int,
    workdir: Path,
    progress: str = "",
    preview: Preview | None = None,
) -> dict[str, Tensor]:
    """Learns "<number> <word>": [vectors, text width], float32, for each key word of a source, its class word first."""
    inversion = Inversion(backbone, encoded, settings.vectors)
    # A GPU of 24 GB does not hold the text encoder beside the activations of a long clip.
    leaves = short_of_memory(backbone.device) and uses_checkpointing(backbone, encoded.latents.shape)
    loss = partial(inversion.loss, NoiseLevels(shift), encoder_leaves=leaves)
    with accelerated(backbone):
        fit(
            [Group(inversion.vectors, settings.learning_rate * inversion.scale)],
            [Stage("vectors", settings.steps, loss, clips_at_once(backbone, encoded.latents.shape))],
            settings,
            seed=seed,
            workdir=workdir,
            progress=progress,
            report=inversion.report,
            learned=inversion.learned,
            preview=preview,
        )
    return inversion.learned()
