"""DreamVideo and DualReal for tests: settings for a tiny backbone, untrained and trained adapters.

Both are addressed by what they learn: DreamVideo's adapters of an image by "still", those of a video by "clip", and
DualReal's of a case by "dualreal".
"""

from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import tiny
import torch
from learned import CASE
from torch import nn

from bico.methods.dreamvideo import compose as dreamvideo_compose
from bico.methods.dreamvideo import learn as dreamvideo_learn
from bico.methods.dreamvideo.adapters import adapted
from bico.methods.dreamvideo.settings import Settings as DreamVideoSettings
from bico.methods.dualreal import compose as dualreal_compose
from bico.methods.dualreal import learn as dualreal_learn
from bico.methods.dualreal.adapters import JointAdapters
from bico.methods.dualreal.settings import Settings as DualRealSettings
from bico.methods.shared.prompts import project
from bico.models.wan.backbone import Backbone
from bico.plan.clips import Job
from bico.sources.encoding import EncodedSource
from bico.training.artifacts import save_artifact

DREAMVIDEO = DreamVideoSettings(
    inversion_steps=3, identity_steps=4, motion_steps=5, inversion_rate=1e-2, learning_rate=1e-2, batch_size=2,
    checkpoint_every=1,
)  # fmt: skip
DUALREAL = DualRealSettings(
    steps=8, warm_up=2, learning_rate=1e-2, weight_decay=0.1, batch_size=2, bottleneck=8, controller_width=32,
    decision_width=16, groups=3,
    checkpoint_every=1,
)  # fmt: skip


def untrained(backbone: Backbone, sources: dict[str, EncodedSource], name: str) -> nn.Module:
    """The adapters as training starts from them."""
    if name == "dualreal":
        return dualreal_learn.initial(backbone, tiny.APPEARANCE, DUALREAL, seed=0)
    return dreamvideo_learn.initial(backbone, sources[name], seed=0)


def active(adapters: nn.Module, backbone: Backbone) -> AbstractContextManager[None]:
    """The adapters beside the layers of the backbone."""
    transformer = backbone.transformer
    if isinstance(adapters, JointAdapters):
        return adapters.beside(transformer)
    return adapted(transformer, [adapters])


@torch.no_grad()
def velocity(backbone: Backbone) -> torch.Tensor:
    """The velocity [2, 4, 2, 4, 4] of inputs that never change."""
    noise = torch.Generator().manual_seed(0)
    latents, timesteps = torch.randn(2, 4, 2, 4, 4, generator=noise), torch.tensor([900.0, 100.0])
    return backbone.velocity(latents, timesteps, project(backbone, CASE.prompt).expand(2, -1, -1))


def shake(adapters: nn.Module) -> nn.Module:
    """The same adapters, with noise added to every parameter as if they had been trained."""
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=noise))
    return adapters


def learn(name: str, backbone: Backbone, sources: dict[str, EncodedSource], workdir: Path) -> dict[str, torch.Tensor]:
    """What training gives, by name."""
    if name == "dualreal":
        return dualreal_learn.learn(backbone, sources, DUALREAL, shift=3.0, seed=0, workdir=workdir)
    return dreamvideo_learn.learn(backbone, sources[name], DREAMVIDEO, shift=3.0, seed=0, workdir=workdir)


@cache
def artifacts() -> dict[str, dict[str, Path]]:
    """Method -> what it learned, by source or case, once a test run."""
    folder, backbone, paths = Path(mkdtemp(prefix="adapters-")), tiny.backbone(), {}
    for name in ("still", "clip", "dualreal"):
        paths[name] = folder / f"{name}.safetensors"
        save_artifact(paths[name], learn(name, backbone, tiny.sources(), folder / name), {})
    return {
        "dreamvideo": {name: paths[name] for name in ("still", "clip")},
        "dualreal": {"case": paths["dualreal"]},
    }


METHODS = {"dreamvideo": (dreamvideo_compose, DREAMVIDEO), "dualreal": (dualreal_compose, DUALREAL)}


def composed(
    backbone: Backbone, artifacts: dict[str, dict[str, Path]], name: str, **changes: object
) -> list[np.ndarray]:
    """Clips [T, H, W, 3] of two seeds, with settings that are changed."""
    module, settings = METHODS[name]
    jobs = [Job("case", CASE, seed, artifacts[name]) for seed in (0, 1)]
    made = module.compose(backbone, jobs, settings.model_copy(update=changes), tiny.SAMPLING, tiny.MEDIA)
    return [clip for _, clip in made]
