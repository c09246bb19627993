"""The configuration of a benchmark: typed, complete and checked before anything runs.

`load` reads a YAML file (or the dict Snakemake made of it) and returns a frozen `Config`. The defaults are those of the
paper at full size; the values for the Toybox stand in `config/toybox.yaml`, where every key is explained. Unknown keys,
wrong types and names that do not fit together become an `InputError` of one line.
"""

import difflib
import inspect
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from bico.core.errors import InputError
from bico.prompts.slots import spans


def _problem(message: str, **values: Any) -> PydanticCustomError:
    return PydanticCustomError("benchmark", message, values)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"expected one of {', '.join(known)}"


def _path_part(name: str) -> str:
    """Names become parts of paths; without hyphens none collides with the "case-..." of methods that learn per case."""
    if not re.fullmatch(r"[A-Za-z0-9]\w*", name, re.ASCII):
        raise _problem("expected a name of letters, digits and underscores, got '{name}'", name=name)
    return name


Name = Annotated[str, AfterValidator(_path_part)]
Words = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Kind = Literal["image", "video"]
Role = Literal["subject", "motion", "scene", "style", "light"]

METHODS = Path(__file__).parents[1] / "methods"

WAN_NEGATIVE_PROMPT = (
    "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, overall "
    "gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn hands, "
    "poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy background, three "
    "legs, many people in the background, walking backwards"
)


class Section(BaseModel):
    """A part of the configuration: frozen, and an unknown key is an error that names the nearest known one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, values: Any) -> Any:
        for key in values if isinstance(values, Mapping) else ():
            if key not in cls.model_fields:
                raise _problem("unknown key '{key}': {hint}", key=key, hint=_nearest(str(key), cls.model_fields))
        return values


SectionT = TypeVar("SectionT", bound=Section)


class Models(Section):
    """Folders of the models, each in its own library's format."""

    wan: Path = Field(description="diffusers WanPipeline folder: the backbone that every method shares")
    vlm: Path = Field(description="transformers Qwen2.5-VL folder: concepts and captions of the sources")
    clip: Path = Field(
        description="open_clip folder (open_clip_config.json and weights): CLIP-T, and what two methods learn from"
    )
    dino: Path = Field(description="timm ViT folder (config.json and weights): DINO-I")
    probe: Path | None = Field(
        None, description="probe folder that reads truth from Toybox clips; null = no truth scores"
    )


class Media(Section):
    """The one size and length in which sources are read and clips are generated."""

    height: Positive = Field(480, description="pixels")
    width: Positive = Field(832, description="pixels")
    num_frames: Positive = Field(81, description="frames of a clip, 4k + 1: Wan's VAE packs four into one")
    fps: float = Field(15, gt=0, description="frames a second of generated clips")
    read: Literal["time", "first"] = Field(
        "time",
        description="video sources: time = as many frames a second, however many they have; first = their first frames",
    )

    @field_validator("num_frames")
    @classmethod
    def _whole_latents(cls, num_frames: int) -> int:
        if num_frames % 4 != 1:
            raise _problem("expected 4k + 1 frames (Wan's VAE packs four into one), got {n}", n=num_frames)
        return num_frames


class ConceptSettings(Section):
    """How the VLM names concepts and writes captions (the paper's Diversify-and-Absorb Mechanism)."""

    captions: Positive = Field(60, description="diversified captions of a source")
    frame_captions: Positive | None = Field(
        None, description="captions of single frames of a video; null = one a frame"
    )
    attempts: Positive = Field(3, description="times a caption is asked for until it holds every key word verbatim")
    temperature: float = Field(0.7, gt=0, description="sampling of captions; key concepts are read greedily")
    top_k: Positive = 50
    top_p: float = Field(0.95, gt=0, le=1)
    max_new_tokens: Positive = 512
    seed: Count = Field(0, description="each caption has a seed of its own, drawn from this one")


class Sampling(Section):
    """How clips are generated, the same for every method."""

    steps: Positive = Field(50, description="denoising steps (flow-match Euler)")
    guidance_scale: float = Field(5.0, ge=1, description="classifier-free guidance; 1 = off")
    shift: float = Field(5.0, gt=0, description="timestep shift of the schedule, in training and in sampling")
    negative_prompt: str = Field(WAN_NEGATIVE_PROMPT, description="prompt of the unconditional pass")


class Scoring(Section):
    """How clips become numbers."""

    pooling: Literal["mean", "renormalised"] = Field(
        "mean",
        description="mean: average of the unit frame features, as is; renormalised: brought back to unit length",
    )
    dino_crop: float | None = Field(
        0.875,
        gt=0,
        le=1,
        description="share of a frame's shorter side that DINO sees; null = as the model's own config has it",
    )
    bootstrap: Positive = Field(2000, description="resamples of the cases for the 95 % intervals")
    seed: Count = Field(0, description="of the bootstrap")


class Rating(Section):
    """The human study: how many people are asked, and what each is shown."""

    raters: Positive = Field(28, description="people, each with a page of their own")
    groups: Positive = Field(10, description="cases on a page")
    seed: Count = Field(0, description="draws who sees which case and seed, and the order of all")


class ToyScene(Section):
    """A source that the Toybox renders: words, and a seed for all that the words leave open."""

    seed: Count = Field(description="draws the instance: hues, pattern, proportions, layout, speed, ...")
    subject: Words = Field(description="cat, fish, car, rocket, robot or mushroom")
    scene: Words = Field(description="beach, forest, desert, city or space")
    motion: Words | None = Field(None, description="videos: sliding, bouncing, spinning, circling, rising or growing")
    style: Words | None = Field(None, description="sketch, sepia or poster")
    light: Words | None = Field(None, description="night, sunset or fog")
    clutter: bool = Field(False, description="add things that no prompt names")


class KeyWords(Section):
    """Key concepts of a source, given by hand instead of asked from the VLM."""

    spatial: list[Words] = Field(min_length=1, description="objects, colours, style, lighting")
    temporal: list[Words] = Field(default=[], description="motion, speed, change of view; videos only")


class Source(Section):
    """An image or a clip from which concepts are taken: the user's own file, or a scene of the Toybox."""

    kind: Kind
    file: Path | None = Field(None, description="own media, relative to the folder where the command runs")
    scene: ToyScene | None = Field(None, description="or a Toybox scene to render")
    concepts: KeyWords | None = Field(None, description="key words; null = ask the VLM")
    binder: Path | None = Field(
        None, description="what BiCo learned of it elsewhere (`bico import`): its rows take that; null = they learn it"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Source":
        if (self.file is None) == (self.scene is None):
            raise _problem("expected either 'file' (own media) or 'scene' (Toybox), not both or none")
        if self.scene and (self.scene.motion is not None) != (self.kind == "video"):
            raise _problem("'scene.motion' belongs to videos: expected a word for a video, null for an image")
        if self.concepts and self.concepts.temporal and self.kind == "image":
            raise _problem("'concepts.temporal' belongs to videos: expected an empty list for an image")
        return self


class Case(Section):
    """One composition: a prompt, and which of its words come from which source."""

    prompt: Words
    bind: dict[Name, Annotated[list[Words], Field(min_length=1)]] = Field(
        min_length=1, description="source -> words or phrases that stand in the prompt verbatim"
    )
    truth: dict[Role, Name | None] | None = Field(
        None,
        description="Toybox: role -> the source it comes from; roles left out or null come from the prompt's words",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Case":
        try:
            spans(self.prompt, self.bind)
        except InputError as error:
            raise _problem("{why}", why=str(error)) from None
        for role, source in (self.truth or {}).items():
            if source is not None and source not in self.bind:
                raise _problem("truth.{role} names '{source}', which is not bound", role=role, source=source)
        return self


class Application(Section):
    """What the binder of one source does alone: decomposition (`keep`), or editing (`swap`)."""

    source: Name
    prompt: Words = Field(description="keep: what the clip shows; swap: what the source shows")
    keep: list[Words] | None = Field(None, min_length=1, description="words of the prompt that the source gives")
    swap: dict[Words, Words] | None = Field(
        None, min_length=1, description="word of the prompt -> its replacement; all other words stay the source's"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Application":
        if (self.keep is None) == (self.swap is None):
            raise _problem("expected either 'keep' (decomposition) or 'swap' (editing), not both or none")
        for word in self.swap or ():
            if not re.search(rf"\b{re.escape(word)}\b", self.prompt):
                raise _problem("'{w}' is not in the prompt '{p}': expected words of it", w=word, p=self.prompt)
        self.case()
        return self

    def case(self) -> Case:
        """As a composition of one source: the kept words are bound, or all but the replacements."""
        if self.keep:
            return Case(prompt=self.prompt, bind={self.source: self.keep})
        pieces = re.split(rf"\b({'|'.join(map(re.escape, self.swap))})\b", self.prompt)
        unchanged = [piece.strip() for piece in pieces[::2] if piece.strip()]
        if not unchanged:
            raise _problem("'swap' leaves no word of '{p}' to the source: expected one at least", p=self.prompt)
        return Case(prompt="".join(self.swap.get(piece, piece) for piece in pieces), bind={self.source: unchanged})


class MethodSettings(Section):
    """Settings of one row of the tables.

    `COMPOSE_KEYS` change how clips are made, not what is learned; `BOOKKEEPING` changes neither. With `APPEARANCE` a
    method also learns from CLIP embeddings of its sources' frames.
    """

    LEARNS_PER: ClassVar[Literal["nothing", "source", "case"]] = "nothing"
    COMPOSE_KEYS: ClassVar[frozenset[str]] = frozenset()
    BOOKKEEPING: ClassVar[frozenset[str]] = frozenset({"checkpoint_every", "probe_every"})
    APPEARANCE: ClassVar[bool] = False

    method: str

    def unsupported(self, kinds: Sequence[Kind]) -> str | None:
        """Why the method cannot take a case that binds sources of these kinds; None if it can."""
        return None

    def effective(self) -> dict[str, Any]:
        """The settings on which a clip depends, as JSON values."""
        return self.model_dump(mode="json", exclude=set(self.BOOKKEEPING))

    def learning(self) -> dict[str, Any]:
        """The settings on which a learned artifact depends, as JSON values."""
        return self.model_dump(mode="json", exclude=set(self.COMPOSE_KEYS | self.BOOKKEEPING))


class BaseSettings(MethodSettings):
    """Control: the plain prompt on the frozen backbone."""

    method: Literal["base"] = "base"


class CopySettings(MethodSettings):
    """Control: a source's own frames, which shows what a metric rewards for copying."""

    method: Literal["copy"] = "copy"


class LearnedSettings(MethodSettings):
    """What every method that learns from its sources has in common (AdamW)."""

    LEARNS_PER = "source"

    learning_rate: Rate = 1e-4
    weight_decay: float = Field(0.01, ge=0)
    batch_size: Positive = Field(1, description="captions, noise levels and noises a step")
    checkpoint_every: Positive = Field(500, description="steps between checkpoints from which a broken run goes on")
    probe_every: Positive = Field(200, description="steps between losses on noise that never changes, for the curves")


class TextualInversionSettings(LearnedSettings):
    """New vectors at the text encoder's input embedding, everything else frozen."""

    method: Literal["textual_inversion"] = "textual_inversion"
    steps: Positive = 3000
    vectors: Positive = Field(1, description="vectors a key word")
    weight_decay: float = Field(0.0, ge=0)


class DbLoraSettings(LearnedSettings):
    """DreamBooth-LoRA: rare-token prompts, the LoRAs of a case merged at inference."""

    COMPOSE_KEYS = frozenset({"merge_weight"})

    method: Literal["db_lora"] = "db_lora"
    steps: Positive = 1000
    rank: Positive = Field(32, description="rank of an image's LoRA; alpha = rank")
    video_rank: Positive = Field(64, description="rank of a video's LoRA")
    rare_token: str = Field("sks", description="goes before the class word; empty = the class word alone")
    merge_weight: float = Field(1.0, ge=0, description="weight of each LoRA of a case")


class DreamVideoSettings(LearnedSettings):
    """Vectors and an identity adapter for an image, a motion adapter for a video, all active together."""

    COMPOSE_KEYS = frozenset({"guidance_scale"})
    APPEARANCE = True

    method: Literal["dreamvideo"] = "dreamvideo"
    inversion_steps: Positive = Field(3000, description="of an image's textual inversion, before its adapter")
    inversion_rate: Rate = Field(1e-4, description="learning rate of the textual inversion")
    vectors: Positive = Field(1, description="vectors a key word")
    identity_steps: Positive = Field(1000, description="of an image's adapter")
    motion_steps: Positive = Field(1000, description="of a video's adapter")
    learning_rate: Rate = 1e-5
    weight_decay: float = Field(0.0, ge=0)
    batch_size: Positive = Field(4, description="prompts, noise levels and noises a step")
    text_dropout: Share = Field(0.5, description="share of a video's captions that are left empty")
    guidance_scale: float | None = Field(9.0, ge=1, description="of this method alone; null = that of `sampling`")

    def unsupported(self, kinds: Sequence[Kind]) -> str | None:
        missing = [kind for kind in ("image", "video") if kind not in kinds]
        return f"takes an image and a video: no {missing[0]} is bound" if missing else None


class DualRealSettings(LearnedSettings):
    """Identity and motion adapters of one image and one video, trained together and weighted by a controller."""

    LEARNS_PER = "case"
    COMPOSE_KEYS = frozenset({"guidance_scale"})
    APPEARANCE = True

    method: Literal["dualreal"] = "dualreal"
    steps: Positive = 1000
    warm_up: Count = Field(200, description="steps in which the learning rate rises; then it falls as a cosine")
    learning_rate: Rate = 1e-3
    weight_decay: float = Field(1e-4, ge=0)
    clip_norm: float = Field(1.0, gt=0, description="largest norm of a step's gradient")
    bottleneck: Positive = Field(64, description="hidden width of the adapters")
    controller_width: Positive = Field(512, description="hidden width of the controller")
    groups: Positive = Field(5, description="groups of blocks that share a weight; divides the number of blocks")
    guidance_scale: float | None = Field(6.0, ge=1, description="of this method alone; null = that of `sampling`")

    def unsupported(self, kinds: Sequence[Kind]) -> str | None:
        images, videos = kinds.count("image"), kinds.count("video")
        return None if images == videos == 1 else f"takes one image and one video, not {images} and {videos}"


class Noise(Section):
    """Noise levels of BiCo's stage "global" (two-stage inverted training): P(position >= alpha) = beta."""

    inversion: Literal["position", "sigma", "released", "none"] = Field(
        "position",
        description=(
            "what alpha measures: position in the schedule, or sigma; released: the authors' code, 0.8 of the draws at "
            "sigma <= 0.417 in stage global and at the noisy end in stage all; none: uniform"
        ),
    )
    alpha: Share = 0.875
    beta: Share = 0.875


class Absorption(Section):
    """Learnable tokens that take up what the key words do not name; dropped at inference (Diversify-and-Absorb)."""

    tokens: Count = Field(1, description="0 = off")
    slot: Literal["append", "eos"] = Field("append", description="append: after the prompt (paper); eos: released code")
    learning_rate: Rate | None = Field(None, description="null = that of the binders")


class Isolation(Section):
    """Steps where one key word is bound alone and may change nothing where the backbone does not look at it (ours)."""

    share: float = Field(0.0, ge=0, lt=1, description="of the steps; 0 = off, as in the paper")
    weight: float = Field(1.0, gt=0, description="of their loss")


class Stages(Section):
    """Steps of the two-stage training: first the global binder alone, then global and per-block binders."""

    global_steps: Count = Field(2400, description="0 = one stage only")
    all_steps: Positive = 2400


class BicoSettings(LearnedSettings):
    """Binders after the text projection, trained in two stages, composed by token masks."""

    COMPOSE_KEYS = frozenset({"strength"})

    method: Literal["bico"] = "bico"
    stages: Stages = Field(default=Stages(), description="of an image, and of a video's single frames")
    clip_stages: Stages = Field(default=Stages(), description="of a video's clip, after its frames")
    noise: Noise = Noise()
    timestep_weighting: Literal["none", "diffsynth"] = Field("none", description="loss weight by noise level")
    absorption: Absorption = Absorption()
    binds: Literal["all", "key_words"] = Field(
        "all", description="words of a caption that pass through the binder in training: all (paper), or its key words"
    )
    isolation: Isolation = Isolation()
    hierarchical: bool = Field(True, description="per-block binders beside the global one")
    diversification: bool = Field(
        True, description="all captions of a source; false: the first alone (and the first alone of a video's frames)"
    )
    temporal_decoupling: bool = Field(
        True,
        description="videos: frames first, then the clip with a gated temporal branch (TDS); false: the clip alone",
    )
    gate: Literal["learned", "released"] = Field(
        "learned",
        description=(
            "of the temporal branch: learned: a number for each token, zero at the start; released: the authors' code, "
            "a softmax over one logit, which is constant, so that the branch never trains"
        ),
    )
    gate_learning_rate: Rate | None = Field(
        None,
        description=(
            "of the learned gate; null = learning_rate, at which a gate, a sum over the whole width, may move `width` "
            "times as fast as gamma"
        ),
    )
    strength: float = Field(1.0, ge=0, description="factor on the binders' change of a token, at inference")


METHOD_SETTINGS: dict[str, type[MethodSettings]] = {
    "base": BaseSettings,
    "copy": CopySettings,
    "textual_inversion": TextualInversionSettings,
    "db_lora": DbLoraSettings,
    "dreamvideo": DreamVideoSettings,
    "dualreal": DualRealSettings,
    "bico": BicoSettings,
}
"""The methods that come with the benchmark. Any other is found by its name: see `settings_class`."""


def settings_class(method: str) -> type[MethodSettings] | None:
    """Settings of a method: one of ours, or the `Settings` of a module that was added to `bico.methods`, or None."""
    if method in METHOD_SETTINGS:
        return METHOD_SETTINGS[method]
    if not (method.isidentifier() and find_spec(f"bico.methods.{method}")):
        return None
    module = import_module(f"bico.methods.{method}")
    if reason := _misfit(module):
        raise _problem("{file}: {reason}: see docs/extending.md", file=module.__file__, reason=reason)
    return module.Settings


def _misfit(module: ModuleType) -> str | None:
    """Why a module is no method; None if it is."""
    settings = getattr(module, "Settings", None)
    if not (isinstance(settings, type) and issubclass(settings, MethodSettings)):
        return "no 'Settings' in it that derives from LearnedSettings or MethodSettings"
    if settings.LEARNS_PER not in ("nothing", "source", "case"):
        return f"LEARNS_PER is '{settings.LEARNS_PER}', expected nothing, source or case"
    if unknown := settings.COMPOSE_KEYS - settings.model_fields.keys():
        return f"COMPOSE_KEYS names '{min(unknown)}', which is no setting"
    calls = {"compose": (("backbone", "jobs", "settings", "sampling", "media"), ())}
    if settings.LEARNS_PER != "nothing":
        calls["learn"] = (("backbone", "encoded", "settings"), ("shift", "seed", "workdir", "progress"))
    for name, (in_order, by_name) in calls.items():
        if not hasattr(module, name):
            return f"no '{name}' in it"
        try:
            inspect.signature(getattr(module, name)).bind(*in_order, **dict.fromkeys(by_name))
        except TypeError as error:
            return f"{name}: {error}; it is called as {name}({', '.join([*in_order, *(f'{key}=' for key in by_name)])})"
    return None


class Benchmark(Section):
    """Sources, and the cases that compose them."""

    sources: dict[Name, Source] = Field(min_length=1)
    cases: dict[Name, Case] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_fit(self) -> "Benchmark":
        for case_id, case in self.cases.items():
            for source in case.bind:
                if source not in self.sources:
                    hint = _nearest(source, self.sources)
                    raise _problem(
                        "cases.{case}.bind: no source '{source}': {hint}", case=case_id, source=source, hint=hint
                    )
            for role, source in (case.truth or {}).items():
                if source is not None:
                    self._role_exists(case_id, role, source)
        return self

    def bound(self) -> list[str]:
        """Sources that some case binds, in the order of their names."""
        return sorted({source for case in self.cases.values() for source in case.bind})

    def _role_exists(self, case_id: str, role: Role, source: str) -> None:
        scene = self.sources[source].scene
        if scene is None or getattr(scene, role) is None:
            raise _problem(
                "cases.{case}.truth.{role}: source '{source}' has no {role} in a Toybox scene: expected one that has",
                case=case_id, role=role, source=source,
            )  # fmt: skip


PAPER_TABLE1 = {"textual_inversion": 1, "db_lora": 2, "dreamvideo": 3, "dualreal": 4, "bico": 5}
"""Rows of the paper's Table 1, by the names that its methods have here."""


class Tables(Section):
    """Rows of each table, in order: entries of `methods`, each with the number of the paper's row that it stands beside
    (null = none; a number stands once)."""

    table1: dict[Name, Annotated[int, Field(ge=1, le=5)] | None] | None = Field(
        None, min_length=1, description="methods; null = all rows, beside the paper's methods of the same names"
    )
    table2: dict[Name, Annotated[int, Field(ge=1, le=7)] | None] = Field(
        {}, description="parts of BiCo; empty = no table"
    )
    table3: dict[Name, Annotated[int, Field(ge=1, le=3)] | None] = Field({}, description="stages of BiCo's training")


class Curve(Section):
    """Rows that differ in one setting, drawn as a curve."""

    label: Words = Field(description="what the values are")
    rows: dict[Name, float] = Field(min_length=2, description="entries of `methods`, each with its value")


class Config(Benchmark):
    """A whole benchmark, as a YAML file describes it."""

    name: Name = Field(description="of the benchmark, in headings")
    results: Path = Field(Path("results"), description="folder into which everything is written")
    models: Models
    weights_store: Path = Field(
        Path("data/weights"),
        description="models in it are fetched, as config/weights.lock says; it may be shared by many runs",
    )
    authors_page: Path = Field(
        Path("data/authors"), description="the authors' project page: sources with files in it are fetched"
    )
    media: Media = Media()
    text_slots: Positive = Field(512, description="tokens of a prompt, padding included")
    concepts: ConceptSettings = ConceptSettings()
    sampling: Sampling = Sampling()
    scoring: Scoring = Scoring()
    rating: Rating = Rating()
    seeds: list[Count] = Field(default=[0, 1], min_length=1, description="clips of a case, one a seed")
    learning_seeds: list[Count] = Field(
        default=[0], min_length=1, description="all is learned once with each; the clips' seeds take them in turn"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto = the GPU if there is one")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of the frozen models; auto = bfloat16 where it is faster; what is learned is float32",
    )
    compile: bool = Field(True, description="compile the backbone's blocks for training")
    gradient_checkpointing: Literal["auto", "always", "never"] = Field(
        "auto",
        description=(
            "training keeps no activations of a block but its attention, and computes the others again; auto = for "
            "clips of 4096 tokens or more, which would not fit a GPU's memory otherwise; gradients are the same"
        ),
    )
    parts: Positive = Field(1, description="jobs among which what a row learns is divided; results do not depend on it")
    methods: dict[Name, SerializeAsAny[MethodSettings]] = Field(min_length=1, description="rows of the tables")
    tables: Tables = Tables()
    curves: dict[Name, Curve] = Field({}, description="settings as knobs: figures on demand")
    applications: dict[Name, Application] = Field({}, description="decompositions and edits by the rows of BiCo")
    tuning: Benchmark | None = Field(None, description="a separate set for the choice of settings")
    split: Literal["table", "tuning"] = Field("table", description="which of the two sets runs")

    @field_validator("methods", mode="before")
    @classmethod
    def _settings_of_methods(cls, methods: Any) -> Any:
        """Each entry by its own method's settings. `bico: {}` is short for `bico: {method: bico}`."""
        if not isinstance(methods, Mapping):
            return methods
        for row, entry in methods.items():
            if row == "truth":
                raise _problem("row 'truth': results call the rendered truth so: expected another name")
            if not isinstance(entry, Mapping | None):
                raise _problem(
                    "row '{row}': expected settings, or {} for the defaults, got {it}", row=row, it=str(entry)
                )
        return {row: cls._settings_of(row, {"method": row, **(entry or {})}) for row, entry in methods.items()}

    @staticmethod
    def _settings_of(row: str, entry: Mapping[str, Any]) -> MethodSettings:
        name = str(entry["method"])
        settings = settings_class(name)
        if settings is None:
            known = sorted(file.stem for file in METHODS.glob("[!_]*.py"))
            hint = f"{_nearest(name, known)} Or add bico/methods/{name}.py, see docs/extending.md"
            raise _problem("row '{row}': unknown method '{m}': {hint}", row=row, m=name, hint=hint)
        try:
            return settings.model_validate(entry)
        except ValidationError as error:
            mark = "." if error.errors()[0]["loc"] else ": "  # of a setting, or of the row as a whole
            raise PydanticCustomError("below", "{what}", {"what": f"{row}{mark}{_describe(error)}"}) from None

    @model_validator(mode="after")
    def _split_exists(self) -> "Config":
        if self.split == "tuning" and self.tuning is None:
            raise _problem("split: there is no tuning set: expected a 'tuning' section with sources and cases")
        return self

    @model_validator(mode="after")
    def _tables_fit(self) -> "Config":
        tables = {f"tables.{table}": self.table(table) for table in Tables.model_fields}
        for where, rows in (tables | {f"curves.{name}": curve.rows for name, curve in self.curves.items()}).items():
            for row in rows:
                if row not in self.methods:
                    hint = _nearest(row, self.methods)
                    raise _problem("{where}: no row '{row}': {hint}", where=where, row=row, hint=hint)
        for where, rows in tables.items():
            numbers = [number for number in rows.values() if number is not None]
            if len(set(numbers)) < len(numbers):
                raise _problem("{where}: expected each row of the paper once", where=where)
        return self

    @model_validator(mode="after")
    def _applications_fit(self) -> "Config":
        for name, entry in self.applications.items():
            if entry.source not in self.sources:
                hint = _nearest(entry.source, self.sources)
                raise _problem("applications.{name}: no source '{s}': {hint}", name=name, s=entry.source, hint=hint)
            if not (self.sources[entry.source].scene and self.models.probe):
                raise _problem(
                    "applications.{name}: measured against a Toybox scene by the probe: expected a source with "
                    "'scene'; for own media there are `bico decompose` and `bico edit`",
                    name=name,
                )  # fmt: skip
        return self

    @field_validator("seeds", "learning_seeds")
    @classmethod
    def _different(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise _problem("expected each seed once")
        return seeds

    @model_validator(mode="after")
    def _seeds_fit(self) -> "Config":
        if len(self.seeds) % len(self.learning_seeds):
            raise _problem(
                "learning_seeds: {k} of them for {n} clips a case, which take them in turn: expected a multiple of {k} "
                "'seeds'",
                n=len(self.seeds),
                k=len(self.learning_seeds),
            )
        return self

    def table(self, name: str) -> dict[str, int | None]:
        """Row -> number of the paper's row beside it, or None. Empty: the benchmark does not have this table."""
        rows = getattr(self.tables, name)
        return {row: PAPER_TABLE1.get(row) for row in self.methods} if rows is None else rows

    def unsupported(self, row: str, case_id: str) -> str | None:
        """Why a row of the tables cannot take a case; None if it can."""
        return self.methods[row].unsupported([self.sources[source].kind for source in self.cases[case_id].bind])

    def appliers(self) -> list[str]:
        """Rows that decompose and edit: those of BiCo in the main table."""
        return [row for row in self.table("table1") if self.methods[row].method == "bico"]

    def learner(self, row: str) -> str:
        """The row in whose name a row's artifacts are kept: the first that learns just the same. So rows that differ in
        how they compose learn once."""
        wanted = self.methods[row].learning()
        return next(name for name, settings in self.methods.items() if settings.learning() == wanted)

    def learned(self, row: str) -> dict[str, list[str]]:
        """What a row learns for the cases that it supports, and from which sources: "<source>", or "case-<case>" if it
        learns per case."""
        cases = {case: list(entry.bind) for case, entry in self.cases.items() if not self.unsupported(row, case)}
        alone = [entry.source for entry in self.applications.values()] if row in self.appliers() else []
        items = {
            "nothing": {},
            "source": {
                source: [source] for bind in [*cases.values(), alone] for source in bind if not self.binder(row, source)
            },
            "case": {f"case-{case}": bind for case, bind in cases.items()},
        }
        return dict(sorted(items[self.methods[row].LEARNS_PER].items()))

    def binder(self, row: str, source: str) -> Path | None:
        """What a row of BiCo takes of a source instead of learning it, if there is such a thing."""
        return self.sources[source].binder if self.methods[row].method == "bico" else None

    def trainings(self, row: str) -> list[tuple[str, int]]:
        """Every item of `learned` with every learning seed: what the jobs of a row divide among them."""
        return list(product(self.learned(row), self.learning_seeds))

    def learning_seed(self, seed: int) -> int:
        """That of the training which makes the clips of a seed."""
        return self.learning_seeds[self.seeds.index(seed) % len(self.learning_seeds)]

    def artifact_path(self, row: str, item: str, learning_seed: int) -> Path:
        """What a row has learned of an item of `learned`, or was given of a source."""
        if item in self.sources and (given := self.binder(row, item)):
            return given
        return self.results / "learned" / self.learner(row) / item / f"{learning_seed}.safetensors"

    def media_path(self, source: str) -> Path:
        """The file of a source: the user's own, or the one that is rendered for it."""
        entry = self.sources[source]
        suffix = ".png" if entry.kind == "image" else ".mp4"
        return entry.file or self.results / "media" / f"{source}{suffix}"

    def encoded_path(self, source: str) -> Path:
        """What training reads of a source."""
        return self.results / "encoded" / f"{source}.safetensors"

    def appearance_path(self, source: str) -> Path:
        """CLIP embeddings of a source's frames, for methods that learn from them."""
        return self.results / "appearance" / f"{source}.safetensors"

    def clip_path(self, row: str, case: str, seed: int) -> Path:
        return self.results / "clips" / row / case / f"{seed}.mp4"

    @property
    def truths(self) -> list[str]:
        """The cases whose exact rendering is known."""
        return [name for name, case in self.cases.items() if case.truth]

    def truth_path(self, case: str) -> Path:
        """The exact rendering of a case of the Toybox; its scene stands beside it as `.json`."""
        return self.results / "truth" / f"{case}.mp4"

    def chosen(self) -> "Config":
        """The benchmark of the chosen split: this one, or the same on its tuning set, below `results/tuning`."""
        if self.split == "table":
            return self
        return self.model_copy(
            update={
                "results": self.results / "tuning",
                "sources": self.tuning.sources,
                "cases": self.tuning.cases,
                "tuning": None,
                "applications": {},
                "split": "table",
            }
        )

    def to_yaml(self) -> str:
        """The whole configuration with every default filled in; `load` reads it back to an equal `Config`."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def load(source: Path | str | Mapping[str, Any], *, name: str = "config") -> Config:
    """Reads a benchmark from a YAML file, or from a dict that was read before (`name` then stands for the file).

    Raises InputError, one line, at the first thing that does not fit.
    """
    if isinstance(source, Path | str):
        name, source = str(source), read_yaml(Path(source))
    return checked(Config, source, name=name)


def checked(section: type[SectionT], values: Any, *, name: str) -> SectionT:
    """A section from plain values; `name` stands for where they come from in the InputError."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{name}: {_describe(error)}") from None


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that stands twice in a mapping is an error: the first would be lost without a word."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node, seen = super().compose_mapping_node(anchor), {}
        for key, _ in node.value:
            if key.value in seen and key.value != "<<":
                problem = f"the key '{key.value}' stands there twice, first in line {seen[key.value].line + 1}"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen[key.value] = key.start_mark
        return node


def read_yaml(path: Path) -> Any:
    """The values of a YAML file. Raises InputError, one line, if it cannot be read or a key stands there twice."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except OSError as error:
        raise InputError(f"{path}: cannot read this config ({error.strerror}): expected a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        raise InputError(f"{path}{line}: not valid YAML: {str(error).splitlines()[0]}") from None


def _describe(error: ValidationError) -> str:
    """The first problem as "field.path: what was expected, got ...", and how many more there are."""
    problems = error.errors(include_url=False)
    first = problems[0]
    message = re.sub(r"^(Input|String|List|Dictionary) should (be |have )?", "expected ", first["msg"])
    if first["type"] == "missing":
        message = "missing, and there is no default"
    elif first["type"] not in ("benchmark", "below"):
        message += f", got {json.dumps(first['input'], default=str, ensure_ascii=False)[:60]}"
    where = ".".join(map(str, first["loc"]))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if not where:
        return f"{message}{more}"
    return f"{where}{'.' if first['type'] == 'below' else ': '}{message}{more}"
