"""Settings of a row of the tables: the base class of every method's settings, and how those are found by name.

A method's own settings are in its folder below `bico/methods`.
"""

import ast
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self, cast

from pydantic import Field

from bico.config.benchmark import Kind
from bico.config.section import Positive, Rate, Section, Words, problem
from bico.config.settings import Sampling

if TYPE_CHECKING:
    from bico.config.schema import Config

METHODS = Path(__file__).parents[1] / "methods"
Part = Literal["settings", "learn", "compose"]


class Steps(NamedTuple):
    """Training steps of one artifact: on images or single frames, and on clips."""

    still: float
    clip: float


class BackboneShape(NamedTuple):
    """Sizes of a backbone on which the size of an artifact depends: the widths of a token, of the feed-forward layers
    and of a CLIP image embedding, and the number of blocks."""

    width: int
    ffn_width: int
    appearance_width: int
    num_blocks: int


@dataclass(frozen=True)
class Kept:
    """What a training step keeps: numbers of two bytes for each patch token and channel.

    Attributes:
        still: in each block, of stills, which pass without gradient checkpointing.
        clip: in all, of clips with it, besides the input and the attention of each block.
        encodes: whether the method opens the text encoder.
        inverts: kinds of sources for which a step needs the text encoder, too.
        copies: whether clips are made by a copy of the transformer, beside the original.
        captures: whether steps on stills are captured graphs, which hold their memory between steps, too.
        whole: whether a batch passes at once, whatever its size; elsewhere long clips pass one by one.
    """

    still: float = 25
    clip: float = 45
    encodes: bool = False
    inverts: frozenset[Kind] = frozenset()
    copies: bool = False
    captures: bool = False
    whole: bool = False


class MethodSettings(Section):
    """Settings of one row of the tables, and the facts about its method that the benchmark needs before it runs.

    Attributes:
        LEARNS_PER: what one artifact is learned from: "source", "case", or "nothing" if the method has no training.
        COMPOSE_KEYS: settings that change how clips are made, not what is learned.
        BOOKKEEPING: settings that change neither clips nor what is learned.
        APPEARANCE: whether the method also learns from CLIP embeddings of its sources' frames.
        BINDS_WORDS: whether it binds the words of each source separately. Then a source may bring a binder that was
            trained elsewhere (`binder:`), and the method's rows can decompose and edit.
        OPENS_BACKBONE: whether `compose` gets the backbone. Without it clips depend on no model.
        PAPER_ROW: number of the method's row in the paper's Table 1.
        DISPLAY_NAME: name of the method in tables and figures; "" = its name in the config, with spaces.
        CONTROL: what its clips are, if the method is a control. A control shows the range of a score and is not
            ranked.
    """

    LEARNS_PER: ClassVar[Literal["nothing", "source", "case"]] = "nothing"
    COMPOSE_KEYS: ClassVar[frozenset[str]] = frozenset()
    BOOKKEEPING: ClassVar[frozenset[str]] = frozenset(
        {"label", "checkpoint_every", "eval_every", "preview_every", "preview_prompt"}
    )
    APPEARANCE: ClassVar[bool] = False
    BINDS_WORDS: ClassVar[bool] = False
    OPENS_BACKBONE: ClassVar[bool] = True
    PAPER_ROW: ClassVar[int | None] = None
    DISPLAY_NAME: ClassVar[str] = ""
    CONTROL: ClassVar[str] = ""

    method: str = Field(description="Method of the row. It may be left out where the row has the method's name.")
    label: Words | None = Field(
        default=None,
        description=(
            "Name of the row in tables, figures and the gallery; null = the method's name, followed by what the row's "
            'name adds to it: row bico_isolated is "BiCo, isolated". CSV files keep the row\'s name.'
        ),
    )

    def label_of(self, row: str) -> str:
        """The name of a row with these settings in tables and figures."""
        name = self.DISPLAY_NAME or self.method.replace("_", " ")
        if self.label or row == self.method:
            return self.label or name
        added = row.removeprefix(f"{self.method}_")
        return (row if added == row else f"{name}, {added}").replace("_", " ")

    @property
    def absorbs(self) -> bool:
        """Whether training has tokens that take up what the words of a caption do not name."""
        return False

    @property
    def trains_key_words_alone(self) -> bool:
        """Whether training changes only the key words of a caption, and no other word of it."""
        return False

    def unsupported(self, kinds: Sequence[Kind]) -> str | None:
        """Why the method cannot take a case that binds sources of these kinds; None if it can."""
        return None

    def misfit(self, num_blocks: int) -> str | None:
        """What does not fit a backbone with this number of blocks, as "setting: what is wrong, what was expected"."""
        return None

    def check(self, row: str, config: "Config") -> None:
        """Raises InputError, one line, if files that the row names do not fit the benchmark.

        It is called before anything runs, and again before the clips of the row are made.
        """

    def files(self, case_id: str, seed: int) -> dict[str, Path]:
        """The user's own files from which the row makes this clip, besides sources and what is learned, by what they
        are to it."""
        return {}

    def missing(self, case_id: str, seed: int) -> str | None:
        """Why there is no such clip, though the method supports the case; None if there is to be one."""
        return None

    def origin(self) -> str:
        """Who made the clips, and how, if this benchmark did not; else ""."""
        return ""

    def track(self) -> Literal["one-shot", "per-case", "feed-forward"]:
        """What is trained for clips: each source alone, the sources of a case, or nothing."""
        tracks: dict[str, Literal["one-shot", "per-case", "feed-forward"]]
        tracks = {"source": "one-shot", "case": "per-case", "nothing": "feed-forward"}
        return tracks[self.LEARNS_PER]

    def trainings(self, learning_seeds: Sequence[int]) -> int:
        """How many trainings there are of each thing that the row learns."""
        return len(learning_seeds) if self.LEARNS_PER != "nothing" else 0

    def effective(self) -> dict[str, Any]:
        """The settings on which a clip depends, as JSON values."""
        return self.model_dump(mode="json", exclude=set(self.BOOKKEEPING))

    def learning(self) -> dict[str, Any]:
        """The settings on which a learned artifact depends, as JSON values."""
        return self.model_dump(mode="json", exclude=set(self.COMPOSE_KEYS | self.BOOKKEEPING))

    def steps_of(self, kind: Kind) -> Steps:
        """Training steps of one artifact.

        Args:
            kind: of the source; where a method learns per case, of one of its sources.
        """
        return Steps(0, 0)

    def forward_passes(self) -> float:
        """Mean number of forward passes of a training step without gradients, besides the one with gradients."""
        return 0.0

    def parameters(self, kind: Kind, backbone: BackboneShape) -> int:
        """Number of parameters in one artifact. A few single vectors are not counted."""
        return 0

    def denoising_passes(self, sampling: Sampling) -> int:
        """Passes of the transformer for one clip."""
        guidance = getattr(self, "guidance_scale", None) or sampling.guidance_scale
        return sampling.steps * (2 if guidance > 1 else 1)

    def shortened(self, steps: int) -> Self:
        """The same method with few steps in each of its stages, all of them plain steps. It is used for test runs."""
        return self

    def measured(self, steps: int, kind: Kind, num_blocks: int) -> Self:
        """The same method, with `steps` steps in its last stage, to measure their speed."""
        return self.shortened(steps)


class LearnedSettings(MethodSettings):
    """Settings that all methods with training have in common.

    Attributes:
        KEPT: what a step keeps in the memory of a GPU. A method that does not say counts as one that keeps as much as
            any method here, in every respect. Then a GPU that is too small for that is a notice, and no error.
    """

    LEARNS_PER = "source"
    KEPT: ClassVar[Kept] = Kept(
        still=52,
        clip=113,
        encodes=True,
        inverts=frozenset({"image", "video"}),
        copies=True,
        captures=True,
        whole=True,
    )

    learning_rate: Rate = Field(default=1e-4, description="Learning rate of AdamW.")
    weight_decay: float = Field(default=0.01, ge=0, description="Weight decay of AdamW.")
    batch_size: Positive = Field(
        default=1, description="Batch size. Each item has a caption or prompt, a noise level and a noise of its own."
    )
    checkpoint_every: Positive | None = Field(
        default=None,
        description=(
            "Steps between checkpoints, from which an interrupted training continues; null = about ten minutes."
        ),
    )
    eval_every: Positive = Field(
        default=200,
        description="Steps between evaluations of the loss on fixed captions and noise, for the training curves.",
    )
    preview_every: Positive | None = Field(
        default=None,
        description=(
            "Steps between previews. A preview is a clip of a source's own caption, generated with what the row has "
            "learned so far, always from the same noise. For a row that learns per case it is a clip of the case's "
            "prompt. Previews are in <seed>.previews beside the training curve, and in the training plot. They do not "
            "change what is learned. Each takes as long as a clip, and holds the backbone in memory a second time "
            "meanwhile. Null = none."
        ),
    )
    preview_prompt: Words | None = Field(
        default=None, description="Prompt of the previews; null = the first caption of a source."
    )

    @property
    def still_batch_size(self) -> int:
        """Batch size of the steps on images and single frames."""
        return self.batch_size


def method_names() -> list[str]:
    """Names of the methods: folders of `bico.methods` that have settings, and single files."""
    folders = {path.parent.name for path in METHODS.glob("*/settings.py")}
    return sorted(folders | {path.stem for path in METHODS.glob("[!_]*.py")})


def module_of(method: str, part: Part) -> str:
    """The module that holds a part of a method: one of its folder, or the one file that holds all three."""
    folder = METHODS / method
    return f"bico.methods.{method}.{part}" if folder.is_dir() else f"bico.methods.{method}"


def settings_class(method: str) -> type[MethodSettings] | None:
    """The `Settings` of a method, or None if there is no such method."""
    if not method.isidentifier() or method not in method_names():
        return None
    return settings_of(method)


def settings_of(method: str) -> type[MethodSettings]:
    """The `Settings` of a method that exists. Raises a validation error, one line, if they do not fit."""
    settings = cast("type[MethodSettings]", getattr(import_module(module_of(method, "settings")), "Settings", None))
    if reason := _misfit(settings) or _uncallable(method, settings):
        raise problem("bico/methods/{method}: {reason}: see docs/extending.md", method=method, reason=reason)
    return settings


def _misfit(settings: object) -> str | None:
    """Why this is not a class of settings; None if it is."""
    if not (isinstance(settings, type) and issubclass(settings, MethodSettings)):
        return "no 'Settings' in it that derives from LearnedSettings or MethodSettings"
    if settings.LEARNS_PER not in ("nothing", "source", "case"):
        return f"LEARNS_PER is '{settings.LEARNS_PER}', expected nothing, source or case"
    if unknown := settings.COMPOSE_KEYS - settings.model_fields.keys():
        return f"COMPOSE_KEYS names '{min(unknown)}', which is no setting"
    return None


def _uncallable(method: str, settings: type[MethodSettings]) -> str | None:
    """Which function of the method does not have the signature of `bico.methods.shared.protocol`; None if all have.

    The functions are parsed, not imported, because an import would load torch.
    """
    calls: dict[Part, tuple[tuple[str, ...], tuple[str, ...]]]
    calls = {"compose": (("backbone", "jobs", "settings", "sampling", "media"), ())}
    if settings.LEARNS_PER != "nothing":
        calls["learn"] = (("backbone", "encoded", "settings"), ("shift", "seed", "workdir", "progress", "preview"))
    for name, (in_order, by_name) in calls.items():
        path = METHODS.parents[1] / f"{module_of(method, name).replace('.', '/')}.py"
        signature = _signature_in(path, name)
        if signature is None:
            return f"no '{name}' in it"
        try:
            signature.bind(*in_order, **dict.fromkeys(by_name))
        except TypeError as error:
            return f"{name}: {error}; it is called as {name}({', '.join([*in_order, *(f'{key}=' for key in by_name)])})"
    return None


@cache  # most rows of a table have the same method
def _signature_in(path: Path, name: str) -> inspect.Signature | None:
    """The signature of a function in the file of a module; None if there is no such file or function."""
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
    found = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    return next((_signature(node.args) for node in found), None)


def _signature(arguments: ast.arguments) -> inspect.Signature:
    """The signature of a function with these arguments, without types."""
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    empty, kind = inspect.Parameter.empty, inspect.Parameter
    parameters = [
        kind(each.arg, kind.POSITIONAL_OR_KEYWORD, default=empty if place < required else None)
        for place, each in enumerate(positional)
    ]
    if arguments.vararg:
        parameters.append(kind(arguments.vararg.arg, kind.VAR_POSITIONAL))
    parameters += [
        kind(each.arg, kind.KEYWORD_ONLY, default=empty if default is None else None)
        for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    if arguments.kwarg:
        parameters.append(kind(arguments.kwarg.arg, kind.VAR_KEYWORD))
    return inspect.Signature(parameters)
