"""Sources, and the cases that compose them."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from bico.config.section import Count, FilePath, Files, Name, Section, Words, nearest, problem
from bico.core.errors import InputError
from bico.prompts.text import has_word, whole
from bico.prompts.words import spans, swapped

Kind = Literal["image", "video"]
Role = Literal["subject", "motion", "scene", "style", "light"]


class ToyScene(Section):
    """A source that the Toybox renders: words, and a seed for everything that the words do not determine."""

    seed: Count = Field(
        description="Seed of what the words do not determine: hues, pattern, proportions, layout, speed and so on."
    )
    subject: Words = Field(description="Object: cat, fish, car, rocket, robot or mushroom.")
    scene: Words = Field(description="Background: beach, forest, desert, city or space.")
    motion: Words | None = Field(
        default=None,
        description="Motion of a video: sliding, bouncing, spinning, circling, rising or growing. Null for an image.",
    )
    style: Words | None = Field(default=None, description="Style: sketch, sepia or poster; null = none.")
    light: Words | None = Field(default=None, description="Light: night, sunset or fog; null = none.")
    clutter: bool = Field(default=False, description="Whether to add objects that no prompt names.")
    occluded: bool = Field(
        default=False,
        description="Whether a post, which no prompt names, hides a part of the subject at its resting place.",
    )


class KeyWords(Section):
    """Key concepts of a source, given by hand instead of extracted by the VLM."""

    spatial: list[Words] | None = Field(
        default=None,
        min_length=1,
        description="Words for objects, colours, style and lighting; null = the VLM names them.",
    )
    temporal: list[Words] | None = Field(
        default=None,
        description=(
            "Words for motion, speed and change of view; only for a video. Null = the VLM names them, an empty list = "
            "there are none."
        ),
    )

    @model_validator(mode="after")
    def _some(self) -> "KeyWords":
        if not (self.spatial or self.temporal):
            raise problem("expected words under 'spatial', 'temporal' or both; without 'concepts' the VLM names them")
        return self


class Source(Section):
    """An image or a clip from which concepts are taken: the user's own files, or a scene of the Toybox."""

    kind: Kind = Field(description="image or video.")
    file: FilePath | None = Field(
        default=None,
        description=(
            "File of your own: an image (JPEG, PNG, WebP, ...) or a video (MP4, MOV, WebM, GIF, ...) of any size, "
            "rotation, frame rate and length. It is resized to cover the frame and cropped at its centre. The path is "
            "relative to the folder where the command runs. A source has one of `file`, `files` and `scene`."
        ),
    )
    files: Files | None = Field(
        default=None,
        description=(
            "Several photographs of one subject in place of `file`: a list, or a folder, whose files are taken in "
            "natural order (2 before 10). `concepts.captions` is divided among them; each gets at least one caption. "
            "Key words are those that the VLM finds in more than half of them; if there are none, those of the first. "
            "Each sample of a training batch is one photograph. DINO-I is the mean over all photographs. Figures and "
            "the row `copy` show the first."
        ),
    )
    mask: FilePath | None = Field(
        default=None,
        description=(
            "Mask of an image's `file`, of the same size: white = learn, black = do not learn, grey = learn less. It "
            "weights the training loss; the transformer still sees the whole image. Null = all pixels weigh the same."
        ),
    )
    masks: list[FilePath] | None = Field(
        default=None, description="Masks of the `files`, one for each, in the same order; see `mask`."
    )
    start: float = Field(
        default=0,
        ge=0,
        allow_inf_nan=False,
        description="Position in a video's file from which it is read, in seconds.",
    )
    scene: ToyScene | None = Field(
        default=None, description="Toybox scene to render. A source has one of `file`, `files` and `scene`."
    )
    concepts: KeyWords | None = Field(default=None, description="Key words of the source; null = the VLM names them.")
    binder: FilePath | None = Field(
        default=None,
        description=(
            "Binder that the rows of BiCo use instead of training one: from another run "
            "(results/learned/bico/<source>/<seed>.safetensors) or from the authors' code (see `bico import`). Null = "
            "they train one."
        ),
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Source":
        if sum(each is not None for each in (self.file, self.files, self.scene)) != 1:
            raise problem("expected one of 'file', 'files' (own media) and 'scene' (Toybox), not several or none")
        if self.files and self.kind == "video":
            raise problem("'files' belongs to images: expected 'file' for a video")
        if self.files and len({path.resolve() for path in self.files}) < len(self.files):
            raise problem("'files' names a file twice: expected each photograph once")
        if self.mask and (self.kind == "video" or not self.file):
            raise problem("'mask' belongs to an image's 'file': expected 'masks' for 'files', and none for a video")
        if self.masks is not None and len(self.masks) != len(self.files or ()):
            raise problem(
                "'masks' belongs to 'files', one for each: expected {n} of them, got {k}",
                n=len(self.files or ()), k=len(self.masks),
            )  # fmt: skip
        if self.scene and (self.scene.motion is not None) != (self.kind == "video"):
            raise problem("'scene.motion' belongs to videos: expected a word for a video, null for an image")
        if self.start and (self.kind == "image" or self.scene):
            raise problem("'start' belongs to a video's 'file': expected 0 for an image and for a Toybox scene")
        if self.concepts and self.concepts.temporal and self.kind == "image":
            raise problem("'concepts.temporal' belongs to videos: expected an empty list for an image")
        return self

    @property
    def own_files(self) -> list[Path]:
        """The user's own media: one file, or several photographs; none of a Toybox scene."""
        return [self.file] if self.file else self.files or []

    @property
    def own_masks(self) -> list[Path]:
        """One for each of the files, or none at all."""
        return [self.mask] if self.mask else self.masks or []


class Case(Section):
    """One composition: a prompt, and which of its words come from which source."""

    prompt: Words = Field(description="Prompt of the clip.")
    bind: dict[Name, Annotated[list[Words], Field(min_length=1)]] = Field(
        min_length=1,
        description=(
            "For each source, the words or phrases of the prompt that take their look or motion from it, verbatim. A "
            "word that is listed twice means its first occurrence in the prompt, then its second."
        ),
    )
    truth: dict[Role, Name | None] | None = Field(
        default=None,
        description=(
            "What an exact rendering shows, for the truth scores: for each role (subject, motion, scene, style, light) "
            "the bound source that gives it, which is a Toybox scene. A role that is null or left out comes from the "
            "words of the prompt. Null = the case has no truth scores."
        ),
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Case":
        try:
            spans(self.prompt, self.bind)
        except InputError as error:
            raise problem("{why}", why=str(error)) from None
        for role, source in (self.truth or {}).items():
            if source is not None and source not in self.bind:
                raise problem("truth.{role} names '{source}', which is not bound", role=role, source=source)
        return self


class Application(Section):
    """A clip made with the binder of one source only: decomposition (`keep`), or editing (`swap`)."""

    source: Name = Field(description="Name of the source, which has a Toybox scene.")
    prompt: Words = Field(description="With `keep`, what the clip shows; with `swap`, what the source shows.")
    keep: list[Words] | None = Field(
        default=None,
        min_length=1,
        description=(
            "Decomposition: only these words of the prompt are bound to the source. An application has either `keep` "
            "or `swap`."
        ),
    )
    swap: dict[Words, Words] | None = Field(
        default=None,
        min_length=1,
        description=(
            "Editing: words of the prompt, each with its replacement. All other words of the prompt stay bound to the "
            "source. An application has either `keep` or `swap`."
        ),
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Application":
        if (self.keep is None) == (self.swap is None):
            raise problem("expected either 'keep' (decomposition) or 'swap' (editing), not both or none")
        for word in self.swap or ():
            if not re.search(whole(word), self.prompt):
                raise problem("'{w}' is not in the prompt '{p}': expected words of it", w=word, p=self.prompt)
        if self.swap and not swapped(self.prompt, self.swap)[1]:
            raise problem("'swap' leaves no word of '{p}' to the source: expected one at least", p=self.prompt)
        if self.keep:
            Case(prompt=self.prompt, bind={self.source: self.keep})
        return self


class Benchmark(Section):
    """Sources, and the cases that compose them."""

    sources: dict[Name, Source] = Field(
        min_length=1, description="Images and videos from which concepts are taken, by name."
    )
    cases: dict[Name, Case] = Field(
        min_length=1,
        description="Compositions, by name: a prompt, and which of its words come from which source.",
    )

    @model_validator(mode="after")
    def _names_fit(self) -> "Benchmark":
        for case_id, case in self.cases.items():
            for source in case.bind:
                if source not in self.sources:
                    hint = nearest(source, self.sources)
                    raise problem(
                        "cases.{case}.bind: no source '{source}': {hint}", case=case_id, source=source, hint=hint
                    )
                for phrase in case.bind[source]:
                    if not has_word(phrase):
                        raise problem(
                            "cases.{case}.bind.{source}: '{phrase}' has no word: expected words of the prompt",
                            case=case_id, source=source, phrase=phrase,
                        )  # fmt: skip
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
            raise problem(
                "cases.{case}.truth.{role}: source '{source}' has no {role} in a Toybox scene: expected one that has",
                case=case_id, role=role, source=source,
            )  # fmt: skip
