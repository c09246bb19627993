"""What a run will take, before it starts: jobs, hours and disk, rule by rule.

    bico estimate --config config/toybox.yaml
    bico estimate --config config/paper.yaml --machine h100
    bico estimate --config my.yaml --measure

Snakemake's dry run knows the jobs, so what is already there costs nothing; the config knows how much work is in each;
`machines.yaml` knows what a unit of work takes. The unit of all that passes through the transformer is the TFLOP that
its matrix products need: one speed serves clips of any size, best those near the ones that it was measured on.

Jobs count in full, although a job that runs again keeps what is up to date (see `bico.core.records`). Rules that `Work`
does not name (tables, figures, applications, ...) count as one short command each, without disk; so do downloads, but
with theirs. While it runs, a training also keeps a checkpoint of three times the size of what it learns.
"""

from __future__ import annotations

import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pandas as pd
import torch
import yaml
from pydantic import Field

from bico.analysis.binding import CONTEXTS, words_of
from bico.config.schema import (
    METHOD_SETTINGS,
    BaseSettings,
    BicoSettings,
    Config,
    DbLoraSettings,
    DreamVideoSettings,
    DualRealSettings,
    Media,
    MethodSettings,
    Section,
    Tables,
    TextualInversionSettings,
    checked,
)
from bico.core.errors import InputError
from bico.core.files import write_text
from bico.methods import bico, dreamvideo, dualreal, shortened
from bico.methods.training import METRICS
from bico.models.binder import HierarchicalBinder
from bico.profiling.flops import forward_flops, training_flops
from bico.sources.encoding import CAPTION_TOKENS
from bico.sources.weights import read_lock
from bico.toybox.scenes import scene_of

MACHINES = Path(__file__).with_name("machines.yaml")
COMPRESSED = 0.3
"""Bytes of a clip's file for each byte of its pixels: the Toybox's, nearly lossless; larger frames take less."""


class Speed(Section):
    """TFLOP/s of a method's training."""

    still: float = Field(gt=0, description="in steps on images and single frames")
    clip: float = Field(gt=0, description="in steps on clips")


class Costs(Section):
    """What a unit of work takes on one machine, in seconds but for the speeds."""

    origin: str = Field(description="where the figures come from")
    gpu: bool = Field(description="jobs with models run on a GPU")
    start: float = Field(ge=0, description="of a job with models before its work: process, imports, opening")
    compile: float = Field(0, ge=0, description="of a job that trains, besides its steps: it compiles blocks")
    training: dict[str, Speed] = Field(description="method -> its speed; of one that is not listed, that of bico")
    sampling: float = Field(gt=0, description="TFLOP/s of denoising")
    decode: float = Field(0, ge=0, description="a frame of a generated clip, if not part of `sampling`")
    caption: float = Field(ge=0, description="a caption of the VLM")
    encode: float = Field(ge=0, description="a caption, and what it describes, for training")
    score: float = Field(ge=0, description="a frame of a scored clip")
    other: float = Field(ge=0, description="a job without models")


def costs_of(machine: str) -> Costs:
    """Of a machine in `machines.yaml`; InputError if it has none of this name."""
    machines = yaml.safe_load(MACHINES.read_text(encoding="utf-8"))
    if machine not in machines:
        raise InputError(f"--machine {machine}: expected one of {', '.join(machines)}; --measure measures this one")
    return checked(Costs, machines[machine], name=f"{MACHINES.name}: {machine}")


def estimate(config: Config, costs: Costs, targets: Sequence[str]) -> str:
    """The table: a line for each rule that would run for these targets, and their sum.

    Raises InputError if Snakemake cannot plan the run.
    """
    jobs, work = planned(config, targets), Work(config.chosen(), costs)
    if not jobs:
        return "nothing to be done"
    rows = pd.DataFrame([{"rule": job.rule, "jobs": 1} | work.of(job) for job in jobs])
    table = rows.groupby("rule", sort=False).sum()
    table.loc["total"] = table.sum()
    table["jobs"] = table["jobs"].astype(int)
    hours = ["gpu_hours", "cpu_hours"]
    if table.loc["total", hours].sum() < 1:
        table[hours] *= 60
        table = table.rename(columns=dict(zip(hours, ["gpu_minutes", "cpu_minutes"], strict=True)))
    shared = "Time is that of one GPU or core: jobs side by side on several take so many times less, at best."
    return f"{table.to_string(float_format='{:.2f}'.format)}\n\n{shared}\n{costs.origin}"


# Jobs


@dataclass(frozen=True)
class Job:
    rule: str
    wildcards: Mapping[str, str]


def planned(config: Config, targets: Sequence[str]) -> list[Job]:
    """The jobs that Snakemake would run, from its dry run in this folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        write_text(path, config.to_yaml())
        command = [sys.executable, "-m", "snakemake", "--dry-run", "--configfile", str(path), "--", *targets]
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise InputError(f"snakemake cannot plan this run: {done.stdout.strip().splitlines()[-1]}")
    return list(jobs_in(done.stdout))


def jobs_in(output: str) -> Iterator[Job]:
    """The jobs in the output of a dry run; `all` and the like, which only name targets, are none."""
    for rule, body in re.findall(r"^(?:local)?rule (\w+):\n((?: {4}.*\n)+)", output, re.MULTILINE):
        fields = dict(line.strip().split(": ", 1) for line in body.splitlines() if ": " in line)
        if "output" in fields:
            pairs = fields["wildcards"].split(", ") if "wildcards" in fields else []
            yield Job(rule, dict(pair.split("=", 1) for pair in pairs))


# Work


class Sizes:
    """Of the models, by their JSON files; of those not fetched yet, those of Wan2.1-T2V-1.3B and CLIP ViT-B/32.

    Attributes:
        appearance: width of a CLIP image embedding.
    """

    def __init__(self, config: Config) -> None:
        self.slots = config.text_slots
        clip = config.models.clip / "open_clip_config.json"
        self.appearance = json.loads(clip.read_text())["model_cfg"]["embed_dim"] if clip.is_file() else 512
        folder = config.models.wan
        path = folder / "transformer" / "config.json"
        if path.is_file():
            self.transformer = json.loads(path.read_text(encoding="utf-8"))
            vae = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))
        else:
            from bico.profiling.bench import PRESETS

            self.transformer, vae = dict(PRESETS["full"].transformer), {}
        # Wan2.1's own file leaves these two out.
        self.space, self.time = vae.get("scale_factor_spatial", 8), vae.get("scale_factor_temporal", 4)

    @property
    def width(self) -> int:
        return self.transformer["num_attention_heads"] * self.transformer["attention_head_dim"]

    def tflop(self, media: Media, frames: int) -> tuple[float, float]:
        """TFLOP of a forward pass over a clip of so many frames, and of a training step's both passes over it."""
        cells = ((frames - 1) // self.time + 1) * (media.height // self.space) * (media.width // self.space)
        counts = forward_flops, training_flops
        forward, step = (count(self.transformer, cells, self.slots) / 1e12 for count in counts)
        return forward, step


class Work:
    """From a job to its hours and its disk."""

    def __init__(self, config: Config, costs: Costs) -> None:
        self.config, self.costs, self.sizes = config, costs, Sizes(config)

    def of(self, job: Job) -> dict[str, float]:
        """{"gpu_hours", "cpu_hours", "gb"} of one job."""
        work: dict[str, Callable[..., tuple[float, float]]] = {
            "concepts": self._concepts,
            "encode": self._encode,
            "appearance": self._appearance,
            "learn": self._learn,
            "generate": self._generate,
            "unbound": self._unbound,
            "binding": self._binding,
            "score": self._score,
        }
        if job.rule not in work:
            gigabytes = read_lock()[job.wildcards["repository"]].gigabytes if job.rule == "weights" else 0.0
            return {"gpu_hours": 0.0, "cpu_hours": self.costs.other / 3600, "gb": gigabytes}
        seconds, size = work[job.rule](**job.wildcards)
        hours = (self.costs.start + seconds) / 3600
        gpu = self.costs.gpu
        return {"gpu_hours": hours * gpu, "cpu_hours": hours * (not gpu), "gb": size / 1e9}

    # Each of these returns seconds without the start, and bytes.

    def _concepts(self) -> tuple[float, float]:
        return self.costs.caption * captions(self.config), 0

    def _encode(self) -> tuple[float, float]:
        per_number = 4 if self.config.dtype == "float32" else 2
        size = min(CAPTION_TOKENS, self.config.text_slots) * self.sizes.transformer["text_dim"] * per_number
        return self.costs.encode * captions(self.config), captions(self.config) * size

    def _appearance(self) -> tuple[float, float]:
        return self.costs.score * sum(self._frames(source) for source in self.config.sources), 0

    def _learn(self, method: str, part: str) -> tuple[float, float]:
        settings, learned = self.config.methods[method], self.config.learned(method)
        items = [learned[item] for item, _ in self.config.trainings(method)[int(part) :: self.config.parts]]
        seconds = self.costs.compile if self.config.compile else 0.0
        size = 0.0
        for sources in items:
            kinds = [self.config.sources[source].kind for source in sources]
            seconds += self._training(settings, kinds[0])
            size += 4 * parameters(settings, kinds[0], self.sizes)
        return seconds, size

    def _training(self, settings: MethodSettings, kind: str) -> float:
        speed = self.costs.training.get(settings.method, self.costs.training["bico"])
        still_steps, clip_steps = steps(settings, kind, self.config.sampling.shift)
        extra = settings.isolation.share if isinstance(settings, BicoSettings) else 0.0  # one more forward pass each
        media, seconds = self.config.media, 0.0
        for count, frames, tflop_per_s in ((still_steps, 1, speed.still), (clip_steps, media.num_frames, speed.clip)):
            forward, step = self.sizes.tflop(media, frames)
            seconds += count * settings.batch_size * (step + extra * forward) / tflop_per_s
        return seconds

    def _generate(self, method: str) -> tuple[float, float]:
        cases = sum(not self.config.unsupported(method, case) for case in self.config.cases)
        return self._clips(self.config.methods[method], cases)

    def _unbound(self) -> tuple[float, float]:
        return self._clips(BaseSettings(), self._trials(self.config.sources))[0], 0

    def _binding(self, method: str) -> tuple[float, float]:
        return self._clips(self.config.methods[method], self._trials(self.config.learned(method)))[0], 0

    def _trials(self, sources: Iterable[str]) -> int:
        """The reconstruction of each, and every role in each context."""
        scenes = [scene_of(self.config.sources[source]) for source in sources if self.config.sources[source].scene]
        return sum(1 + CONTEXTS * len(words_of(scene)) for scene in scenes)

    def _score(self, method: str) -> tuple[float, float]:
        cases = sum(not self.config.unsupported(method, case) for case in self.config.cases)
        return self.costs.score * cases * len(self.config.seeds) * self.config.media.num_frames, 0

    def _clips(self, settings: MethodSettings, cases: int) -> tuple[float, float]:
        media, sampling = self.config.media, self.config.sampling
        clips = cases * len(self.config.seeds)
        guidance = getattr(settings, "guidance_scale", None) or sampling.guidance_scale
        passes = 0 if settings.method == "copy" else sampling.steps * (2 if guidance > 1 else 1)
        forward, _ = self.sizes.tflop(media, media.num_frames)
        seconds = passes * forward / self.costs.sampling + self.costs.decode * media.num_frames
        pixels = media.height * media.width * media.num_frames
        return clips * seconds, clips * 3 * pixels * COMPRESSED

    def _frames(self, source: str) -> int:
        return self.config.media.num_frames if self.config.sources[source].kind == "video" else 1


def captions(config: Config) -> int:
    """Captions of all sources, those of single frames included."""
    of_frames = min(config.concepts.frame_captions or config.media.num_frames, config.media.num_frames)
    videos = sum(source.kind == "video" for source in config.sources.values())
    return len(config.sources) * config.concepts.captions + videos * of_frames


def steps(settings: MethodSettings, kind: str, shift: float) -> tuple[float, float]:
    """Training steps on images or single frames, and on clips, for one artifact; (0, 0) for a method added by others.

    Args:
        kind: of the source; of one of them where a method learns per case.
        shift: timestep shift of the schedule.
    """
    if isinstance(settings, BicoSettings):
        phases = bico.phases(settings, kind, shift)
        clips = sum(phase.steps for phase in phases if kind == "video" and not phase.frames)
        return sum(phase.steps for phase in phases) - clips, clips
    if isinstance(settings, DualRealSettings):
        motion = dualreal.MOTION_SHARE * settings.steps
        return settings.steps - motion, motion
    if isinstance(settings, DreamVideoSettings):
        image, video = settings.inversion_steps + settings.identity_steps, settings.motion_steps
    elif isinstance(settings, DbLoraSettings | TextualInversionSettings):
        image = video = settings.steps
    else:
        image = video = 0
    return (image, 0) if kind == "image" else (0, video)


def parameters(settings: MethodSettings, kind: str, sizes: Sizes) -> int:
    """Numbers in one artifact. Vectors of a textual inversion are too few to count."""
    width, blocks, hidden = sizes.width, sizes.transformer["num_layers"], sizes.transformer["ffn_dim"]
    if isinstance(settings, DbLoraSettings):
        rank = settings.rank if kind == "image" else settings.video_rank
        return blocks * rank * (8 * 2 * width + 2 * (width + hidden))  # see db_lora.LAYERS
    with torch.device("meta"):
        if isinstance(settings, BicoSettings):
            two_branch = kind == "video" and settings.temporal_decoupling
            learned = HierarchicalBinder(width, blocks, two_branch=two_branch, hierarchical=settings.hierarchical)
        elif isinstance(settings, DreamVideoSettings):
            learned = dreamvideo.Adapters(kind, width, blocks, sizes.appearance)
        elif isinstance(settings, DualRealSettings):
            learned = dualreal.JointAdapters(width, blocks, sizes.appearance, settings)
        else:
            return 0
    return sum(parameter.numel() for parameter in learned.parameters())


# Measuring

STEPS = 10
"""Of each stage of a training; the first two do not count."""
FEW, MORE = 1, 5


@dataclass(frozen=True)
class Taken:
    """Seconds of a command: by the clock, and of CPU."""

    wall: float
    cpu: float


def measure(config: Config) -> Costs:
    """This machine's costs, by the commands themselves on a handful of work, at the config's sizes and with its models.

    Each runs twice, once with more to do: the difference is the work, the rest is its start. Without a GPU the seconds
    are those of CPU, which what else runs on the machine changes little.

    Raises InputError if a command fails, or takes no longer for more work.
    """
    gpu = config.device != "cpu" and torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as folder:
        few, more = (handful(config.chosen(), Path(folder) / str(size), size) for size in (FEW, MORE))
        once, again = timed(few, few.methods), timed(more, ["base"])
        shares = {
            row: 1.0 if gpu else once[f"learn {row}"].cpu / once[f"learn {row}"].wall
            for row in few.methods
            if few.learned(row)
        }
        training, steps_alone = speeds(few, shares)
    forward, _ = Sizes(few).tflop(few.media, few.media.num_frames)
    clips = (MORE - FEW) * len(few.cases)
    units = {
        "concepts": captions(more) - captions(few),
        "encode": captions(more) - captions(few),
        "generate base": clips * few.sampling.steps * (2 if few.sampling.guidance_scale > 1 else 1) * forward,
        "score base": clips * few.media.num_frames,
    }
    first, second = ({name: each.wall if gpu else each.cpu for name, each in taken.items()} for taken in (once, again))
    for command in units:
        if second[command] <= first[command]:
            raise InputError(f"bico {command} took no longer for {MORE} times the work: measure on a machine at rest")
    unit = {command: (second[command] - first[command]) / count for command, count in units.items()}
    start = statistics.mean(first[name] - (second[name] - first[name]) * FEW / (MORE - FEW) for name in units)
    besides = [first[f"learn {row}"] - start - seconds for row, seconds in steps_alone.items()]
    return Costs(
        origin=f"measured on this machine, {time.strftime('%Y-%m-%d')}",
        gpu=gpu,
        start=max(start, 0.0),
        compile=max(statistics.mean(besides), 0.0) if besides else 0.0,
        training=training,
        sampling=1 / unit["generate base"],
        caption=unit["concepts"],
        encode=unit["encode"],
        score=unit["score base"],
        other=first["check"],
    )


def handful(config: Config, results: Path, size: int) -> Config:
    """One case of the benchmark, `size` seeds, 10 * `size` captions, and every method with `STEPS` steps a stage."""

    def fitting(case: str) -> int:
        return sum(not config.unsupported(row, case) for row in config.methods)

    case = max(config.cases, key=fitting)
    methods = {settings.method: shortened(settings, STEPS) for settings in reversed(config.methods.values())}
    return config.model_copy(
        update={
            "results": results,
            "models": config.models.model_copy(update={"probe": None}),
            "sources": {source: config.sources[source] for source in config.cases[case].bind},
            "cases": {case: config.cases[case]},
            "seeds": list(range(size)),
            "learning_seeds": config.learning_seeds[:1],
            "concepts": config.concepts.model_copy(update={"captions": 10 * size, "frame_captions": 1}),
            "sampling": config.sampling.model_copy(update={"steps": min(config.sampling.steps, STEPS)}),
            "methods": {"base": BaseSettings()} | {row: methods[row] for row in METHOD_SETTINGS if row in methods},
            "parts": 1,
            "tables": Tables(),
            "curves": {},
            "applications": {},
            "tuning": None,
        }
    )


def timed(run: Config, rows: Iterable[str]) -> dict[str, Taken]:
    """Runs the commands up to the scores of "base", and the trainings of these rows: "command row" -> its seconds."""
    path = run.results / "config.yaml"
    write_text(path, run.to_yaml())

    def taken(*command: str) -> Taken:
        wall, cpu = time.monotonic(), _cpu_of_children()
        done = subprocess.run(
            [sys.executable, "-m", "bico.cli", command[0], "--config", str(path), *command[1:]],
            env=os.environ | {"OMP_NUM_THREADS": "1"},  # as Snakemake runs them
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode:
            raise InputError(f"bico {' '.join(command)}: {done.stdout.strip().splitlines()[-1]}")
        return Taken(time.monotonic() - wall, _cpu_of_children() - cpu)

    for source in (name for name, entry in run.sources.items() if entry.scene):
        taken("render", source)
    commands = [["check"], ["concepts"], ["encode"]]
    commands += [["appearance"]] * any(run.methods[row].APPEARANCE for row in rows)
    commands += [["learn", row, "0"] for row in rows if run.learned(row)]
    commands += [["generate", "base"], ["score", "base"]]
    return {" ".join(command[:2]): taken(*command) for command in commands}


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def speeds(run: Config, shares: Mapping[str, float]) -> tuple[dict[str, Speed], dict[str, float]]:
    """Row -> speed of its training, from the metrics of a run; and row -> seconds of all its steps, if the first two of
    a stage, which compile, were as fast as the others.

    Args:
        shares: row -> part of its seconds that counts.
    """
    sizes, found, alone = Sizes(run), {}, dict.fromkeys(shares, 0.0)
    for row, share in shares.items():
        settings = run.methods[row]
        taken: dict[bool, list[float]] = {False: [], True: []}  # clip? -> seconds of its steps
        for path in sorted((run.results / "learned" / row).glob(f"*/*.{METRICS}")):
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            for name, stage in groupby(lines, key=lambda line: line["stage"]):
                _, _, *rest = (share * line["seconds"] for line in stage)
                alone[row] += statistics.mean(rest) * (2 + len(rest))
                if settings.LEARNS_PER == "case":  # stills and clips in turns, clips take longer
                    rest.sort()
                    taken[False] += rest[: len(rest) // 2]
                    taken[True] += rest[len(rest) // 2 :]
                else:
                    kind = run.sources[path.parent.name].kind
                    taken[kind == "video" and not name.startswith("frames")] += rest
        tflop = {clip: sizes.tflop(run.media, run.media.num_frames if clip else 1)[1] for clip in taken}
        speed = {
            clip: settings.batch_size * tflop[clip] / statistics.median(values)
            for clip, values in taken.items()
            if values
        }
        found[row] = Speed(still=speed.get(False, speed.get(True)), clip=speed.get(True, speed.get(False)))
    return found, alone
