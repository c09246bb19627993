"""The amount of work of each job: TFLOP of the transformer, captions, frames, and disk."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from bico.config.benchmark import Kind
from bico.config.methods import BackboneShape, LearnedSettings, MethodSettings
from bico.config.schema import Config
from bico.config.settings import Media
from bico.methods.base.settings import Settings as PlainPrompt
from bico.plan.absorption import compared_rows
from bico.plan.binding import CONTEXTS
from bico.plan.controls import clips_compared, measured_sources, trainings_compared
from bico.plan.dependencies import appearance_model
from bico.plan.kept import due_clips, due_trainings
from bico.plan.passes import MAP_CAPTIONS, NEW_SENTENCES, NOISES
from bico.plan.trainings import applying_rows, learned_items, toybox_items, trainings, unsupported
from bico.profiling.costs import Costs
from bico.profiling.flops import forward_flops, training_flops
from bico.profiling.presets import CAPTION_TOKENS, PRESETS
from bico.sources.weights import read_lock
from bico.toybox.faults import dosed_clips
from bico.toybox.scenes import scene_of


@dataclass(frozen=True)
class RuleJob:
    """A job of Snakemake: one run of a rule, with the values of its wildcards."""

    rule: str
    wildcards: Mapping[str, str]


COMPRESSED = 0.3
"""Bytes of a clip's file per byte of its pixels, for the nearly lossless Toybox clips; larger frames take less."""
MAP_LEVELS = 3
"""Noise levels at which attention maps are taken (`bico.models.wan.attention_maps`)."""
TESTED = 5
"""How many times as long scoring takes with the scores of `scoring.tested` as without them, on the Toybox."""
PUBLISHED = 41
"""Clips of the authors' page (`bico.sources.authors_page`), taken to be as long as the benchmark's."""


class ModelSizes:
    """Sizes of a config's models, from their JSON files. For models that are not fetched yet they are those of
    Wan2.1-T2V-1.3B and of CLIP ViT-H/14, or of ViT-B/32 where `models.clip` embeds frames too.

    Attributes:
        slots: text slots of the cross-attention.
        appearance: width of a CLIP image embedding.
        transformer: the transformer's `config.json`.
        space: pixels for each latent cell along height and width.
        time: frames for each latent frame after the first.
        vae_width: `base_dim` of the VAE.
    """

    def __init__(self, config: Config) -> None:
        self.slots = config.text_slots
        entry = appearance_model(config)
        clip = getattr(config.models, entry) / "open_clip_config.json"
        unknown = 512 if entry == "clip" else 1024
        self.appearance = json.loads(clip.read_text())["model_cfg"]["embed_dim"] if clip.is_file() else unknown
        folder = config.models.wan
        path = folder / "transformer" / "config.json"
        if path.is_file():
            self.transformer = json.loads(path.read_text(encoding="utf-8"))
            vae = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))
        else:
            self.transformer, vae = dict(PRESETS["full"].transformer), {}
        # Wan2.1's own file leaves these two out.
        self.space, self.time = vae.get("scale_factor_spatial", 8), vae.get("scale_factor_temporal", 4)
        self.vae_width = vae.get("base_dim", 96)

    @property
    def backbone(self) -> BackboneShape:
        shape = self.transformer
        width = shape["num_attention_heads"] * shape["attention_head_dim"]
        return BackboneShape(width, shape["ffn_dim"], self.appearance, shape["num_layers"])

    def tflop(self, media: Media, frames: int) -> tuple[float, float]:
        """TFLOP of a forward pass over a clip of so many frames, and of a training step's both passes over it."""
        counts = forward_flops, training_flops
        forward, step = (count(self.transformer, self._cells(media, frames), self.slots) / 1e12 for count in counts)
        return forward, step

    def tokens(self, media: Media, frames: int) -> int:
        """Patch tokens of a clip of so many frames."""
        return self._cells(media, frames) // math.prod(self.transformer["patch_size"])

    def _cells(self, media: Media, frames: int) -> int:
        return ((frames - 1) // self.time + 1) * (media.height // self.space) * (media.width // self.space)


class Work:
    """Computes the hours and the disk space of a job."""

    def __init__(self, config: Config, costs: Costs) -> None:
        self.config, self.costs, self.sizes = config, costs, ModelSizes(config)

    def of(self, job: RuleJob) -> dict[str, float]:
        """{"gpu_hours", "cpu_hours", "gb"} of one job."""
        work: dict[str, Callable[..., tuple[float, float]]] = {
            "concepts": self._concepts,
            "encode": self._encode,
            "appearance": self._appearance,
            "learn": self._learn,
            "generate": self._generate,
            "unbound": self._unbound,
            "binding": self._binding,
            "applications": self._applications,
            "absorption": self._maps,
            "score": self._score,
            "published": self._published,
            "doses": self._doses,
            "control_diversification": self._sentences,
            "control_counterparts": self._counterparts,
            "control_absorption": self._clutter,
        }
        if job.rule not in work:
            gigabytes = read_lock()[job.wildcards["repository"]].gigabytes if job.rule == "weights" else 0.0
            return {"gpu_hours": 0.0, "cpu_hours": self.costs.other / 3600, "gb": gigabytes}
        # The wildcard of a row is called `method`.
        wildcards = {"row" if name == "method" else name: value for name, value in job.wildcards.items()}
        seconds, size = work[job.rule](**wildcards)
        hours = (self.costs.start + seconds) / 3600
        gpu = self.costs.gpu
        return {"gpu_hours": hours * gpu, "cpu_hours": hours * (not gpu), "gb": size / 1e9}

    def of_one(self, row: str) -> dict[str, float]:
        """Seconds of one piece of a row's work, without the start of a job: to learn from "a photo" and "a clip", or
        from "a case" where the method learns from cases, and to make "a composition"."""
        settings = self.config.methods[row]
        found = {"a composition": self._clip(settings, self.config.media.num_frames)}
        if isinstance(settings, LearnedSettings):
            per_case = settings.LEARNS_PER == "case"
            kinds: dict[str, Kind] = {"a case": "image"} if per_case else {"a photo": "image", "a clip": "video"}
            found |= {what: self._training(settings, kind) for what, kind in kinds.items()}
        return found

    # Each of these returns seconds without the start, and bytes.

    def _concepts(self) -> tuple[float, float]:
        # Each further photograph is also asked for its key words.
        return self.costs.caption * (captions(self.config) + further_photographs(self.config)), 0

    def _encode(self) -> tuple[float, float]:
        per_number = 4 if self.config.dtype == "float32" else 2
        size = min(CAPTION_TOKENS, self.config.text_slots) * self.sizes.transformer["text_dim"] * per_number
        count = captions(self.config)
        return self.costs.encode * (count + further_photographs(self.config)), count * size

    def _appearance(self) -> tuple[float, float]:
        frames = sum(self._frames(source) for source in self.config.sources) + further_photographs(self.config)
        return self.costs.score * frames, 0

    def _learn(self, row: str, part: str) -> tuple[float, float]:
        return self._trainings(row, due_trainings(self.config, row, int(part)))

    def _trainings(self, row: str, due: Iterable[tuple[str, int]]) -> tuple[float, float]:
        settings, learned = cast(LearnedSettings, self.config.methods[row]), learned_items(self.config, row)
        items = [learned[item] for item, _ in due]
        seconds = self.costs.compile if self.config.compile and items else 0.0
        size, per_number = 0.0, 4 if self.config.learned_dtype == "float32" else 2
        for sources in items:
            kinds: list[Kind] = [self.config.sources[source].kind for source in sources]
            seconds += self._training(settings, kinds[0])
            size += per_number * settings.parameters(kinds[0], self.sizes.backbone)
        return seconds, size

    def checkpoint(self, row: str) -> float:
        """GB of the largest checkpoint of a row: every parameter and both of its moments, in float32."""
        items = learned_items(self.config, row).values()
        kinds: set[Kind] = {self.config.sources[sources[0]].kind for sources in items}
        settings = cast(LearnedSettings, self.config.methods[row])
        return max(3 * 4 * settings.parameters(kind, self.sizes.backbone) for kind in kinds) / 1e9

    def _training(self, settings: LearnedSettings, kind: Kind) -> float:
        speed = self.costs.training.get(settings.method, self.costs.training["bico"])
        steps, media, seconds = settings.steps_of(kind), self.config.media, 0.0
        stills = steps.still * settings.still_batch_size, 1, speed.still
        clips = steps.clip * settings.batch_size, media.num_frames, speed.clip
        for count, frames, tflop_per_s in (stills, clips):
            forward, step = self.sizes.tflop(media, frames)
            seconds += count * (step + settings.forward_passes() * forward) / tflop_per_s
        if settings.preview_every:
            previews = int(steps.still + steps.clip) // settings.preview_every
            still = kind == "image" and settings.LEARNS_PER == "source"
            # Each opens the models for itself, as a job does.
            seconds += previews * (self.costs.start + self._clip(settings, 1 if still else media.num_frames))
        return seconds

    def _generate(self, row: str) -> tuple[float, float]:
        due = [job for job in due_clips(self.config, row) if not unsupported(self.config, row, job.case_id)]
        return self._clips(self.config.methods[row], len(due))

    def _unbound(self) -> tuple[float, float]:
        return self._clips(PlainPrompt(), self._takes(self._trials(self.config.sources)))[0], 0

    def _binding(self, row: str) -> tuple[float, float]:
        trials = self._takes(self._trials(learned_items(self.config, row)))
        return self._clips(self.config.methods[row], trials)[0], 0

    def _applications(self) -> tuple[float, float]:
        rows = [PlainPrompt(), *(self.config.methods[row] for row in applying_rows(self.config))]
        takes = self._takes(len(self.config.applications))
        seconds, size = zip(*(self._clips(row, takes) for row in rows), strict=True)
        return sum(seconds), sum(size)

    def _maps(self) -> tuple[float, float]:
        """Seconds and bytes for the frozen backbone and the two rows that are compared."""
        rows = compared_rows(self.config)
        sources = toybox_items(self.config, rows[0]) if rows else []
        each = 3 * min(MAP_CAPTIONS, self.config.concepts.captions) * MAP_LEVELS
        return each * sum(map(self._pass, sources)), 0

    def _sentences(self) -> tuple[float, float]:
        """Every sentence with the frozen backbone and with what each training learned."""
        compared = trainings_compared(self.config)
        looks = [*measured_sources(self.config), *(source for _, source, _ in compared)]
        return (1 + NEW_SENTENCES) * NOISES * sum(map(self._pass, looks)), 0

    def _pass(self, source: str) -> float:
        """Seconds of a forward pass over a source's own image or clip."""
        return self.sizes.tflop(self.config.media, self._frames(source))[0] / self.costs.sampling

    def _trials(self, sources: Iterable[str]) -> int:
        """The reconstruction of each, and every role in each context."""
        scenes = [scene_of(self.config.sources[source]) for source in sources if self.config.sources[source].scene]
        return sum(1 + CONTEXTS * len(scene.words()) for scene in scenes)

    def _counterparts(self, row: str) -> tuple[float, float]:
        return self._trainings(row, trainings(self.config, row))

    def _clutter(self) -> tuple[float, float]:
        (row,) = self.config.controls.rows()["absorption"]
        return self._clips(self.config.methods[row], len(clips_compared(self.config)))[0], 0

    def _score(self, row: str) -> tuple[float, float]:
        cases = sum(not unsupported(self.config, row, case) for case in self.config.cases)
        return self.costs.score * cases * len(self.config.seeds) * self.config.media.num_frames, 0

    def _published(self) -> tuple[float, float]:
        return self.costs.score * PUBLISHED * self.config.media.num_frames, 0

    def _doses(self) -> tuple[float, float]:
        longer = TESTED if self.config.scoring.tested else 1
        return longer * self.costs.score * len(dosed_clips(self.config)) * self.config.media.num_frames, 0

    def _takes(self, prompts: int) -> int:
        """Clips of so many prompts: one by each seed."""
        return prompts * len(self.config.seeds)

    def _clips(self, settings: MethodSettings, clips: int) -> tuple[float, float]:
        media = self.config.media
        pixels = media.height * media.width * media.num_frames
        return clips * self._clip(settings, media.num_frames), clips * 3 * pixels * COMPRESSED

    def _clip(self, settings: MethodSettings, frames: int) -> float:
        """Seconds of a clip of so many frames."""
        forward, _ = self.sizes.tflop(self.config.media, frames)
        passes = settings.denoising_passes(self.config.sampling)
        return passes * forward / self.costs.sampling + self.costs.decode * frames

    def _frames(self, source: str) -> int:
        return self.config.media.num_frames if self.config.sources[source].kind == "video" else 1


def captions(config: Config) -> int:
    """Captions of all sources, those of single frames included."""
    of_frames = min(config.concepts.frame_captions or config.media.num_frames, config.media.num_frames)
    videos = sum(source.kind == "video" for source in config.sources.values())
    of_sources = sum(max(config.concepts.captions, len(source.own_files)) for source in config.sources.values())
    return of_sources + videos * of_frames


def further_photographs(config: Config) -> int:
    """Photographs of all sources besides the first of each."""
    return sum(len(source.own_files[1:]) for source in config.sources.values())
