"""A benchmark's cases for other code: a folder, or a zip file, that can be read without this project.

manifest.json           every requested clip, with everything from which it should be made: `Bundle`
manifest.schema.json    its JSON schema
media/<source>/         the files of each source; masks of photographs beside them
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from bico.config.benchmark import Kind
from bico.config.schema import Config
from bico.config.section import Count, Name, Positive, Section, Words, checked, nearest, problem
from bico.core.archives import copy_into, filling, read_member, unpacked
from bico.core.errors import InputError
from bico.core.files import write_json
from bico.core.fingerprints import file_digest
from bico.plan.trainings import learning_seed
from bico.prompts.text import clean
from bico.prompts.words import spans
from bico.toybox.scenes import write_source

MANIFEST, SCHEMA = "manifest.json", "manifest.schema.json"


def _inside(name: str) -> str:
    """Checks that the name of a file is a path inside the folder."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise problem("expected a path inside the folder with '/' between its parts, got '{name}'", name=name[:60])
    return name


FileName = Annotated[str, AfterValidator(_inside)]
Digest = Annotated[str, Field(min_length=64, max_length=64)]


class ClipFormat(Section):
    """Size, length and rate of every clip."""

    width: Positive = Field(description="Pixels.")
    height: Positive = Field(description="Pixels.")
    num_frames: Positive = Field(description="Frames of a clip.")
    fps: float = Field(gt=0, description="Frames a second.")


class BundledFile(Section):
    """A file of the bundle."""

    path: FileName = Field(description="Path inside the bundle.")
    sha256: Digest = Field(description="SHA-256 of the file.")


class BundledSource(Section):
    """An image or a video from which concepts are taken."""

    kind: Kind = Field(description="image or video.")
    files: list[BundledFile] = Field(
        min_length=1, description="Its file, or the files of several photographs of one subject."
    )
    masks: list[BundledFile] = Field(default=[], description="A mask of each photograph, white = learn; or none.")
    start: float = Field(default=0, ge=0, description="Position at which a video is read, in seconds.")


class BoundWords(Section):
    """A piece of a prompt that takes its look or motion from a source."""

    words: Words = Field(description="The piece of the prompt.")
    characters: tuple[Count, Count] = Field(
        description="Its first character in the prompt, and the one after its last."
    )


class BundledCase(Section):
    """A composition of which clips are requested."""

    prompt: Words = Field(description="Description of the clip.")
    bind: dict[Name, Annotated[list[BoundWords], Field(min_length=1)]] = Field(
        min_length=1, description="For each source, the pieces of the prompt that are bound to it."
    )


class BundledClip(Section):
    """A requested clip."""

    case: Name = Field(description="Name of its case.")
    seed: Count = Field(description="Seed of its noise.")
    learning_seed: Count | None = Field(
        default=None, description="Seed of the training that makes it; null = nothing is trained."
    )
    file: FileName = Field(description="Path of the clip in a submission.")

    @property
    def key(self) -> tuple[str, int]:
        return self.case, self.seed

    @property
    def label(self) -> str:
        return f"case {self.case}, seed {self.seed}"


class Bundle(Section):
    """All clips that a benchmark asks for, and everything from which they should be made."""

    format: Literal["bico-bundle-1"] = Field(description="Name and version of this format.")
    name: Name = Field(description="Name of the benchmark.")
    clip: ClipFormat = Field(description="Format in which every clip is asked for.")
    sources: dict[Name, BundledSource] = Field(description="Sources by name.")
    cases: dict[Name, BundledCase] = Field(min_length=1, description="Cases by name.")
    clips: list[BundledClip] = Field(min_length=1, description="Every clip that is asked for, each once.")

    @model_validator(mode="after")
    def _names_fit(self) -> Bundle:
        check_clips_once(self.clips)
        for number, clip in enumerate(self.clips):
            if clip.case not in self.cases:
                hint = nearest(clip.case, self.cases)
                raise problem("clips.{n}: no case '{case}': {hint}", n=number, case=clip.case, hint=hint)
        return self


def check_clips_once(clips: Sequence[BundledClip]) -> None:
    """Raises pydantic's error if a list has a case and seed, or a file, twice."""
    for what, names in (("it", [clip.label for clip in clips]), ("its file", [clip.file for clip in clips])):
        places: dict[str, int] = {}
        for number, name in enumerate(names):
            if (first := places.setdefault(name, number)) != number:
                raise problem(
                    "clips.{n} ({clip}): {what} stands there twice, first in clips.{first}: expected each clip once",
                    n=number, clip=clips[number].label, what=what, first=first,
                )  # fmt: skip


# --- writing ----------------------------------------------------------------------------------------------------------


def write_bundle(config: Config, out: Path) -> Bundle:
    """Writes the cases of a config to `out`, a zip file if its name ends in .zip, otherwise a folder.

    Returns the manifest. Raises InputError if `out` exists already, or a file of a source is missing.
    """
    with source_files(config) as files, filling(out) as folder:
        for source in config.bound():
            if source not in files:
                absent = next(path for path in config.sources[source].own_files if not path.exists())
                raise InputError(f"{absent}: sources.{source}: not there yet: `bico authors` fetches the authors' page")
        bundle = described(config, files)
        for source, entry in bundle.sources.items():
            originals = [*files[source], *config.sources[source].own_masks]
            for each, original in zip([*entry.files, *entry.masks], originals, strict=True):
                copy_into(folder, each.path, original)
        write_json(folder / MANIFEST, bundle.model_dump(mode="json"))
        write_json(folder / SCHEMA, Bundle.model_json_schema())
    return bundle


@contextmanager
def source_files(config: Config) -> Iterator[dict[str, list[Path]]]:
    """The existing files of the bound sources, by source.

    Scenes are rendered for this context, because the results may hold those of an earlier config.
    """
    with tempfile.TemporaryDirectory() as folder:
        apart = config.model_copy(update={"results": Path(folder)})
        for source in config.bound():
            if config.sources[source].scene:
                write_source(apart, source)
        found = {source: apart.media_paths(source) for source in config.bound()}
        yield {source: paths for source, paths in found.items() if all(path.exists() for path in paths)}


def described(config: Config, files: Mapping[str, Sequence[Path]]) -> Bundle:
    """The bundle of a config, with the sources whose `files` are given."""
    sources = {
        source: {
            "kind": config.sources[source].kind,
            "files": _described(source, "", paths),
            "masks": _described(source, "mask", config.sources[source].own_masks),
            "start": config.sources[source].start,
        }
        for source, paths in files.items()
    }
    cases = {}
    for name, case in config.cases.items():
        prompt = clean(case.prompt)
        bind = {
            source: [{"words": prompt[start:end], "characters": (start, end)} for start, end in found]
            for source, found in spans(case.prompt, case.bind).items()
        }
        cases[name] = {"prompt": prompt, "bind": bind}
    clips = [
        {"case": case, "seed": seed, "learning_seed": learning_seed(config, seed), "file": f"{case}/{seed}.mp4"}
        for case in config.cases
        for seed in config.seeds
    ]
    media = config.media.model_dump(include=set(ClipFormat.model_fields))
    values = {"name": config.name, "clip": media, "sources": sources, "cases": cases, "clips": clips}
    return Bundle.model_validate({"format": "bico-bundle-1", **values})


def _described(source: str, prefix: str, paths: Sequence[Path]) -> list[dict[str, str]]:
    return [
        {"path": f"media/{source}/{prefix}{number}{path.suffix.lower()}", "sha256": file_digest(path)}
        for number, path in enumerate(paths, start=1)
    ]


# --- reading ----------------------------------------------------------------------------------------------------------


def read_bundle(path: Path) -> Bundle:
    """The manifest of a bundle, which is a folder or a zip file.

    Raises InputError, one line, if it is not a bundle, or if one of its files is missing or has changed.
    """
    bundle = checked(Bundle, read_values(path, MANIFEST), name=f"{path}/{MANIFEST}")
    for name, case in bundle.cases.items():
        for source in case.bind:
            if source not in bundle.sources:
                raise InputError(
                    f"{path}/{MANIFEST}: cases.{name}: no source '{source}': {nearest(source, bundle.sources)}"
                )
    with unpacked(path) as folder:
        for source in bundle.sources.values():
            for file in (*source.files, *source.masks):
                if not (folder / file.path).is_file():
                    raise InputError(f"{path}: no {file.path} in it, which its manifest names: copy the bundle again")
                if file_digest(folder / file.path) != file.sha256:
                    raise InputError(f"{path}: {file.path} is not what was written (SHA-256): copy the bundle again")
    return bundle


def read_values(path: Path, name: str) -> Any:
    """The values of a JSON file in a folder or a zip file.

    Raises InputError if it is missing or incomplete, or has a key twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise InputError(f"{path}/{name}: '{twice}' stands there twice: expected it once")
        return values

    try:
        return json.loads(read_member(path, name).decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}/{name}: no whole JSON file ({error}): expected one, copy it again") from None
