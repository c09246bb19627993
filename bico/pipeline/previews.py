"""Previews of a training: clips of a prompt, made with what has been learned so far.

The row's own `compose` makes a preview, on a backbone that is opened only for it. So the backbone in training, with all
adapters in its layers, is not touched.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bico.config.benchmark import Case
from bico.config.methods import LearnedSettings
from bico.config.schema import Config
from bico.core.errors import InputError
from bico.core.files import write_text
from bico.core.records import load_json
from bico.media.frames import spread
from bico.media.writing import write_image
from bico.methods.shared.protocol import compose_of
from bico.models.wan.backbone import Backbone
from bico.plan.clips import Job
from bico.prompts.words import spans
from bico.training.artifacts import save_artifact
from bico.training.loop import Preview
from bico.training.randomness import seeded

PREVIEWS = "previews"
SEED = 0
FRAMES = 5
"""Frames of a clip that a preview shows, side by side."""

log = logging.getLogger("bico")


def previewing(config: Config, row: str, item: str, backbone: Backbone, workdir: Path) -> Preview | None:
    """A function that writes `workdir / "previews/<steps>.png"`: a still for an image, frames side by side for a clip.

    If a preview fails, the log gets one line and training goes on. None if the row asks for no previews.

    Args:
        item: what is learned, see `bico.plan.trainings.learned_items`.
        backbone: the one that trains.
    """
    settings = config.methods[row]
    if not isinstance(settings, LearnedSettings) or settings.preview_every is None:
        return None
    case, media = _case(config, settings, item), config.media
    _only_of(case.prompt, workdir)
    source = config.sources.get(item)
    if source is not None and source.kind == "image":
        media = media.model_copy(update={"num_frames": 1})

    def make(tensors: Mapping[str, Tensor]) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            artifact = Path(folder) / "learned.safetensors"
            save_artifact(artifact, tensors, {})
            job = Job(item, case, SEED, {item if source is not None else "case": artifact})
            opened = Backbone.open(
                backbone.folder, text_slots=backbone.text_slots, device=backbone.device, dtype=backbone.dtype
            )
            [(_, clip)] = compose_of(settings.method)(opened, [job], settings, config.sampling, media)
        return clip

    def preview(step: int, tensors: Mapping[str, Tensor]) -> None:
        try:
            with seeded(SEED):
                clip = make(tensors)
        except (InputError, torch.OutOfMemoryError) as error:
            log.warning("%s %s: no preview after step %d: %s", row, item, step, str(error).splitlines()[0])
            return
        write_image(workdir / PREVIEWS / f"{step:06}.png", np.concatenate(clip[spread(len(clip), FRAMES)], axis=1))

    return preview


def keep_previews(workdir: Path, folder: Path) -> None:
    """Moves the previews of a finished training to their final folder, in place of those of an earlier training."""
    shutil.rmtree(folder, ignore_errors=True)
    if (workdir / PREVIEWS).exists():
        shutil.copytree(workdir / PREVIEWS, folder)


def _only_of(prompt: str, workdir: Path) -> None:
    """Removes previews that an interrupted training made of another prompt."""
    file = workdir / "preview_prompt.txt"
    if not file.is_file() or file.read_text(encoding="utf-8") != prompt:
        shutil.rmtree(workdir / PREVIEWS, ignore_errors=True)
        write_text(file, prompt)


def _case(config: Config, settings: LearnedSettings, item: str) -> Case:
    """The case of an item's previews: the case that is learned, or one that binds the key words of the source."""
    if item not in config.sources:
        return config.cases[item.removeprefix("case-")]
    found = load_json(config.paths.concepts(item))
    prompt = settings.preview_prompt or found["captions"][0]
    return Case(prompt=prompt, bind={item: _bound(prompt, [*found["spatial"], *found["temporal"]])})


def _bound(prompt: str, words: Sequence[str]) -> list[str]:
    """The words that are in a prompt, none of them within another; if there are none, the whole prompt."""
    kept: list[str] = []
    for word in sorted(words, key=len, reverse=True):
        try:
            spans(prompt, {"": [*kept, word]})
        except InputError:
            continue
        kept.append(word)
    return kept or [prompt]
