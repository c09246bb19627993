"""GPU memory of jobs, estimated from the sizes of models and clips; and whether this GPU has it.

At the paper's size the figures for training steps on clips were measured on an H100. The others were computed without a
GPU (`benchmarks/peak_memory.py`).
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import cast

from bico.config.benchmark import Kind
from bico.config.methods import Kept, LearnedSettings, MethodSettings
from bico.config.schema import Config
from bico.core.device import free_device
from bico.core.errors import InputError
from bico.models.wan.token_limits import at_once, needs_checkpointing
from bico.plan.dependencies import scoring_models
from bico.plan.trainings import learned_items, unsupported
from bico.profiling.presets import PRESETS
from bico.profiling.work import ModelSizes
from bico.sources.weights import read_lock, repositories

GIB = 2**30
CUDA = 0.5
"""Memory of CUDA itself, in GiB."""

VAE_BYTES = 20_400
"""Bytes of activations of Wan2.1's decoder per pixel of a frame, in float32. The number of frames has little effect."""
VAE_WIDTH = 96
"""Its `base_dim`."""

READING = 5.5e9
"""Keys, values and activations of Qwen2.5-VL-7B for all that it reads at a time (`READ_TOKENS`), in bytes."""
VLM_WIDTH = 3584
"""Its `hidden_size`."""

SMALLER = {"concepts": "a smaller models.vlm"} | dict.fromkeys(
    ("score", "published"), "not both of the scores vqa and dino_foreground"
)
"""What needs less memory, by rule; for any other one it is smaller clips."""

log = logging.getLogger("bico")


class Memory:
    """GiB at the peak of a job's GPU, for jobs that open large models.

    Args:
        roomy: the GPU is so large that the text encoder never leaves it (`ROOM_FOR_ALL`).
    """

    def __init__(self, config: Config, *, roomy: bool = False) -> None:
        self.config, self.roomy, self.sizes = config, roomy, ModelSizes(config)
        self.number = 4 if config.dtype == "float32" else 2  # bytes of a weight

    def of(self, rule: str, row: str | None = None) -> float:
        """GiB of a job, previews included; 0 of one that needs little.

        Args:
            row: of the rules `learn` and `generate`.
        """
        if rule == "concepts":
            return self._vlm(self.config.models.vlm)
        if rule in ("score", "published"):
            return self._scores()
        if rule == "encode":
            return self._text_encoder() + self._vae()
        if rule == "learn" and row is not None:
            return max(self.training(row), self.previews(row))
        if rule == "generate" and row is not None:
            return self._clips(row)
        return 0.0

    def training(self, row: str) -> float:
        """GiB of a row's trainings but for previews."""
        settings = cast(LearnedSettings, self.config.methods[row])
        return max(self._training(settings, kind) for kind in self._kinds(row))

    def previews(self, row: str) -> float:
        """GiB while a row's trainings make a preview; 0 without previews."""
        settings = cast(LearnedSettings, self.config.methods[row])
        return max(self._preview(settings, kind) for kind in self._kinds(row)) if settings.preview_every else 0.0

    def _kinds(self, row: str) -> list[Kind]:
        return [
            self.config.sources[source].kind for item in learned_items(self.config, row).values() for source in item
        ]

    def _preview(self, settings: LearnedSettings, kind: Kind) -> float:
        """A second backbone makes a clip beside the one that trains, and beside all that training holds then."""
        kept, has_stills = settings.KEPT, settings.steps_of(kind).still
        encoder_stays = kind in kept.inverts and (self.roomy or has_stills)
        graphs = self._activations(kept, 1, settings.still_batch_size) if kept.captures and has_stills else 0.0
        held = self._transformer() + self._learned(settings, kind) + graphs
        artifact = 4 * settings.parameters(kind, self.sizes.backbone) / GIB
        return held + (self._text_encoder() if encoder_stays else 0.0) + self._sampling(settings, artifact)

    def _learned(self, settings: LearnedSettings, kind: Kind) -> float:
        """Weights, gradients and two moments in float32."""
        return 16 * settings.parameters(kind, self.sizes.backbone) / GIB

    def _training(self, settings: LearnedSettings, kind: Kind) -> float:
        kept, transformer, learned = settings.KEPT, self._transformer(), self._learned(settings, kind)
        encoder = self._text_encoder()
        opening = transformer + encoder if kept.encodes else transformer
        has_stills, has_clips = settings.steps_of(kind)
        peaks, beside = [opening], encoder if kind in kept.inverts else 0.0
        if has_stills:
            peaks.append(transformer + beside + self._activations(kept, 1, settings.still_batch_size))
        if has_clips:
            frames, there = self.config.media.num_frames, beside if self.roomy else 0.0
            peaks.append(transformer + there + self._activations(kept, frames, settings.batch_size))
        return learned + max(peaks)

    def _activations(self, kept: Kept, frames: int, batch_size: int) -> float:
        tokens, blocks = self.sizes.tokens(self.config.media, frames), self.sizes.transformer["num_layers"]
        checkpointed = needs_checkpointing(self.config.gradient_checkpointing, tokens)
        numbers = 2 * blocks + kept.clip if checkpointed else blocks * kept.still
        at_one_time = batch_size if kept.whole else min(batch_size, at_once(tokens))
        return at_one_time * tokens * self.sizes.backbone.width * self.number * numbers / GIB

    def _clips(self, row: str) -> float:
        settings, backbone = self.config.methods[row], self.sizes.backbone
        if not settings.denoising_passes(self.config.sampling):
            return 0.0
        cases = [case for name, case in self.config.cases.items() if not unsupported(self.config, row, name)]
        numbers = [sum(settings.parameters(self.config.sources[name].kind, backbone) for name in c.bind) for c in cases]
        return self._sampling(settings, 4 * max(numbers, default=0) / GIB)

    def _sampling(self, settings: MethodSettings, learned: float) -> float:
        """GiB of a clip and the models that make it, with this many GiB of learned parameters."""
        if isinstance(settings, LearnedSettings) and settings.KEPT.copies:
            learned = max(learned, self._transformer())
        return self._backbone() + learned

    def _backbone(self) -> float:
        """GiB of the whole backbone in use. On a small GPU text encoder and VAE take turns beside the transformer."""
        encoder, vae = self._text_encoder(), self._vae()
        return self._transformer() + (encoder + vae if self.roomy else max(encoder, vae))

    def _scores(self) -> float:
        """GiB of the large models of all scores, which are open at once."""
        opened, needed = scoring_models(self.config, self.config.scoring.scores), 0.0
        if (vlm := self.config.models.vqa_entry) in opened:
            needed += self._vlm(getattr(self.config.models, vlm))
        return needed + (self._backbone() if "wan" in opened else 0.0)

    def _transformer(self) -> float:
        width, blocks = self.sizes.backbone.width, self.sizes.transformer["num_layers"]
        each = 8 * width**2 + 2 * width * self.sizes.backbone.ffn_width
        return self.number * (blocks * each + width * (8 * width + self.sizes.transformer["text_dim"])) / GIB

    def _text_encoder(self) -> float:
        path = self.config.models.wan / "text_encoder" / "config.json"
        shape = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else PRESETS["full"].text_encoder
        width, heads = shape["d_model"], shape["num_heads"] * shape["d_kv"]
        layers = shape["num_layers"] * (4 * width * heads + 3 * width * shape["d_ff"])
        return self.number * (shape["vocab_size"] * width + layers) / GIB

    def _vae(self) -> float:
        media = self.config.media
        return media.height * media.width * VAE_BYTES * self.sizes.vae_width / VAE_WIDTH / GIB

    def _vlm(self, folder: Path) -> float:
        path, width = folder / "config.json", VLM_WIDTH
        if path.is_file():
            weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
            entry = json.loads(path.read_text(encoding="utf-8"))
            width = entry.get("text_config", entry)["hidden_size"]
        else:
            weights = 1e9 * read_lock()[repositories(self.config)["vlm"]].gigabytes
        return (weights + READING * width / VLM_WIDTH) / GIB


def on_this_gpu(config: Config) -> tuple[Memory, str, float]:
    """What jobs need on the GPU of this process, its name, and its GiB."""
    import torch

    from bico.models.wan.components import ROOM_FOR_ALL

    found = torch.cuda.get_device_properties(0)
    memory = Memory(config, roomy=found.total_memory >= ROOM_FOR_ALL)
    return memory, found.name, found.total_memory / GIB


def check_gpu(config: Config, rule: str, row: str | None = None) -> None:
    """Raises InputError if the job runs on a GPU, and that is too small for it.

    It is a notice where only previews do not fit, because a training goes on without them, and where the method does
    not say what it keeps, because the size is a guess then.
    """
    if free_device(config.device) == "cpu":
        return
    memory, name, there = on_this_gpu(config)
    trained = row if rule == "learn" else None
    needed = (memory.of(rule, row) if trained is None else memory.training(trained)) + CUDA
    if there < needed:
        job, smaller = f"{rule} {row}" if row else rule, SMALLER.get(rule, "a smaller 'media'")
        sizes = f"{needed:.1f} GiB of GPU memory, and {name} has {there:.1f} GiB"
        if row is None or getattr(config.methods[row], "KEPT", None) is not LearnedSettings.KEPT:
            raise InputError(f"{job}: it needs about {sizes}: expected a larger GPU, or {smaller} in the config")
        log.warning("notice: %s: it may need up to %s; its method does not say how much (KEPT)", job, sizes)
    if trained is not None and there < (previewing := memory.previews(trained) + CUDA):
        log.warning(
            "notice: learn %s: with previews it needs about %.1f GiB of GPU memory, and %s has %.1f GiB: training "
            "goes on without those that do not fit; preview_every: null asks for none",
            trained, previewing, name, there,
        )  # fmt: skip
