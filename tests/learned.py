"""Learned methods for tests: a case, each method's settings for a tiny backbone, and what it learns with them."""

import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace

import numpy as np
import tiny

from bico.config.benchmark import Case
from bico.methods.bico.settings import Settings as BicoSettings
from bico.methods.db_lora.settings import Settings as DbLoraSettings
from bico.methods.dreamvideo.settings import Settings as DreamVideoSettings
from bico.methods.shared.protocol import compose_of, learn_of
from bico.methods.textual_inversion.settings import Settings as TextualInversionSettings
from bico.models.wan.backbone import Backbone
from bico.plan.clips import Job
from bico.training.artifacts import save_artifact

CASE = Case(prompt="a cat bouncing at the beach", bind={"still": ["cat"], "clip": ["bouncing"]})
STEPS = {"global_steps": 4, "all_steps": 12}
SETTINGS = {
    "bico": BicoSettings(learning_rate=1e-2, batch_size=4, stages=STEPS, clip_stages=STEPS),
    "textual_inversion": TextualInversionSettings(learning_rate=1e-2, batch_size=2, steps=4, vectors=2),
    "db_lora": DbLoraSettings(learning_rate=1e-3, batch_size=2, steps=4, rank=4, video_rank=6),
    "dreamvideo": DreamVideoSettings(
        inversion_steps=2, identity_steps=4, motion_steps=4, inversion_rate=1e-2, learning_rate=1e-2, batch_size=2
    ),
}  # fmt: skip


@cache
def learned(name: str) -> SimpleNamespace:
    """A method's settings and what it learned of both sources with them, once a test run.

    `artifacts` are files by source, and `folder` also holds the metrics of each training, in `<source>.ckpt`.
    """
    folder, backbone = Path(mkdtemp(prefix=f"learned-{name}-")), tiny.backbone()
    settings, artifacts = SETTINGS[name], {}
    for source, encoded in tiny.sources().items():
        tensors = learn_of(name)(backbone, encoded, settings, shift=3.0, seed=0, workdir=folder / f"{source}.ckpt")
        artifacts[source] = folder / f"{source}.safetensors"
        save_artifact(artifacts[source], tensors, {"method": name, "source": source})
    return SimpleNamespace(settings=settings, artifacts=artifacts, folder=folder)


def clips(
    backbone: Backbone, name: str, settings, artifacts: dict[str, Path], seeds=(0,), case: Case = CASE
) -> list[np.ndarray]:
    """The clips [T, H, W, 3] of a case, one for each seed."""
    jobs = [Job("case", case, seed, artifacts) for seed in seeds]
    return [clip for _, clip in compose_of(name)(backbone, jobs, settings, tiny.SAMPLING, tiny.MEDIA)]


def metrics(workdir: Path) -> list[dict]:
    """The lines of a training's metrics."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
