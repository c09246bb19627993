"""A submission for a bundle: clips, and a manifest that says who made them, how, and from what.

    submission.json    `Submission`
    <case>/<seed>.mp4  the clips, or whatever the manifest calls them

It is checked on both sides: against the bundle when it is packed, and against the config when it is scored.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from bico.config.schema import Config
from bico.config.section import Section, Words, checked, nearest, problem
from bico.core.archives import contents, copy_into, filling, unpacked
from bico.core.errors import InputError
from bico.core.files import write_json
from bico.core.fingerprints import file_digest
from bico.media.inspecting import inspect_video
from bico.plan.bundle import (
    Bundle,
    BundledClip,
    BundledSource,
    ClipFormat,
    Digest,
    check_clips_once,
    described,
    read_bundle,
    read_values,
    source_files,
)

MANIFEST = "submission.json"
RATE = 0.01  # relative tolerance of a frame rate: containers round the durations of frames
LISTED = 3  # names in a notice

log = logging.getLogger("bico")


class SubmittedClip(BundledClip):
    """A submitted clip that its bundle asked for."""

    sha256: Digest = Field(description="SHA-256 of the file.")


class Submission(Section):
    """The manifest of clips that were made elsewhere: who made them, and from what."""

    format: Literal["bico-submission-1"] = Field(description="Name and version of this format.")
    who: Words = Field(description="Who made the clips.")
    method: Words = Field(description="Name of the method.")
    link: str = Field(default="", description="Address of code or a paper; empty = none.")
    made_with: Words = Field(description="Model, code and machine that made the clips.")
    trained_on: Words = Field(description="What the method was trained on before it saw these sources.")
    track: Literal["one-shot", "per-case", "feed-forward"] = Field(
        description=(
            "What was trained for these clips: one-shot = on each source alone; per-case = on the sources of a case; "
            "feed-forward = nothing."
        )
    )
    bundle: Bundle = Field(description="The manifest of the bundle from which the clips were made, whole.")
    clips: list[SubmittedClip] = Field(min_length=1, description="The clips, each as in the bundle's manifest.")

    @model_validator(mode="after")
    def _clips_fit(self) -> Submission:
        check_clips_once(self.clips)
        asked = {clip.key: clip for clip in self.bundle.clips}
        for number, clip in enumerate(self.clips):
            if clip.case not in self.bundle.cases:
                hint = nearest(clip.case, self.bundle.cases)
                raise problem("clips.{n}: no case '{case}' in its bundle: {hint}", n=number, case=clip.case, hint=hint)
            if clip.key not in asked:
                raise problem("clips.{n}: its bundle asks for no clip of {clip}", n=number, clip=clip.label)
            wanted = asked[clip.key].learning_seed
            if clip.learning_seed is not None and clip.learning_seed != wanted:
                raise problem(
                    "clips.{n} ({clip}): learning_seed {found}: its bundle asks for {wanted}",
                    n=number, clip=clip.label, found=clip.learning_seed, wanted=str(wanted),
                )  # fmt: skip
        return self

    def clip(self, case: str, seed: int) -> SubmittedClip | None:
        """The clip of a case and a seed, if there is one."""
        return next((clip for clip in self.clips if clip.key == (case, seed)), None)

    @property
    def trainings(self) -> int:
        """Number of trainings of each source or case."""
        seeds = {clip.learning_seed for clip in self.clips} - {None}
        return max(1, len(seeds)) if self.track != "feed-forward" else 0

    @property
    def credit(self) -> str:
        """The origin of the clips, in one line."""
        link = f" ({self.link})" if self.link else ""
        text = (
            f"{self.method}{link} by {self.who}, {self.track}; made with {self.made_with}; trained on {self.trained_on}"
        )
        return " ".join(text.split())


def read_submission(path: Path) -> Submission:
    """The manifest of a submission, which is a folder or a zip file. Its clips are not opened.

    Raises InputError, one line, if there is none, or something in it does not fit.
    """
    file = path / MANIFEST if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file}: no such file: expected a folder with {MANIFEST} in it, or a zip file")
    stat = file.stat()
    return _read(path, stat.st_size, stat.st_mtime_ns)


@cache  # every clip of a row asks for it
def _read(path: Path, size: int, time: int) -> Submission:
    return checked(Submission, read_values(path, MANIFEST), name=f"{path}/{MANIFEST}")


# --- whoever scores it ------------------------------------------------------------------------------------------------


def check_row(row: str, path: Path, config: Config, *, resample: bool) -> None:
    """Checks that the clips of a row are whole, and were made for the cases of this config. Missing ones give a notice.

    Raises InputError, one line, for the first thing that does not fit.
    """
    where = f"methods.{row}.clips"
    with source_files(config) as files:
        wanted = described(config, files)
    try:
        submission = read_submission(path)
        clips = _asked_for(path, submission, wanted)
        with unpacked(path) as folder:
            _check_files(path, folder, clips, None if resample else wanted.clip)
            _notice(where, folder, submission, wanted.clips)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _asked_for(path: Path, submission: Submission, wanted: Bundle) -> list[SubmittedClip]:
    """The clips of a submission that a benchmark asks for. Raises InputError if they were made from other inputs."""
    asked = {clip.key: clip.learning_seed for clip in wanted.clips}
    clips = [clip for clip in submission.clips if clip.key in asked]
    if not clips:
        raise InputError(f"{path}: no clip of a case and a seed of this config: expected clips made for it")
    for clip in clips:
        if clip.learning_seed not in (None, asked[clip.key]):
            of_config = f"expected {asked[clip.key]}, as in this config"
            raise InputError(f"{path}: {clip.label}: made with the learning seed {clip.learning_seed}: {of_config}")
    for case in dict.fromkeys(clip.case for clip in clips):
        if difference := _difference(submission.bundle, wanted, case):
            advice = "expected clips made from a bundle of this config, see `bico bundle`"
            raise InputError(f"{path}: case {case}: {difference}: {advice}")
    return clips


def _difference(theirs: Bundle, ours: Bundle, case: str) -> str | None:
    """How the inputs of a case differ from this benchmark's; None if they are the same."""
    before, now = theirs.cases[case], ours.cases[case]
    if before.prompt != now.prompt:
        return f"made from the prompt '{before.prompt}', not '{now.prompt}'"
    if before.bind != now.bind:
        return "made with other words bound"
    for source in now.bind:
        # Files that are not downloaded yet are compared later.
        if source in ours.sources and _content(theirs.sources.get(source)) != _content(ours.sources[source]):
            return f"made from other sources: {source} is not the same"
    return None


def _content(source: BundledSource | None) -> object:
    """The properties that identify a source, without the names of its files."""
    if source is None:
        return None
    return source.kind, source.start, [[file.sha256 for file in files] for files in (source.files, source.masks)]


def _check_files(path: Path, folder: Path, clips: Iterable[SubmittedClip], form: ClipFormat | None) -> None:
    """Checks that the files of clips exist, are whole and match the manifest, and have this form unless it is None.

    Args:
        path: the user's name for their folder.
    """
    for clip in clips:
        try:
            _check_file(folder / clip.file, clip, form)
        except InputError as error:
            raise InputError(str(error).replace(str(folder), str(path))) from None


def _check_file(file: Path, clip: SubmittedClip, form: ClipFormat | None) -> None:
    if not file.is_file():
        raise InputError(f"{file}: no such file: expected the clip of {clip.label}, or no entry of it in {MANIFEST}")
    video = inspect_video(file)
    if file_digest(file) != clip.sha256:
        raise InputError(
            f"{file}: its SHA-256 is not that of {MANIFEST}: expected the clip of {clip.label} that was sent"
        )
    if form is None:
        return
    rate, (width, height) = len(video.times) / video.seconds, video.size
    same = (width, height, len(video.times)) == (form.width, form.height, form.num_frames)
    if not same or abs(rate - form.fps) > RATE * form.fps:
        raise InputError(
            f"{file}: {len(video.times)} frames of {width} x {height} at {rate:.4g} fps: expected {form.num_frames} of "
            f"{form.width} x {form.height} at {form.fps:g} fps, with square pixels; a row that scores them may "
            "also have `resample: true`"
        )


def _notice(where: str, folder: Path, submission: Submission, wanted: Collection[BundledClip]) -> None:
    """Logs notices of missing clips, and of clips and files that nothing asks for."""
    asked, there = ({clip.key for clip in clips} for clips in (wanted, submission.clips))
    missing = [clip.label for clip in wanted if clip.key not in there]
    more = [clip.label for clip in submission.clips if clip.key not in asked]
    named = {MANIFEST, *(clip.file for clip in submission.clips)}
    other = [name for name in contents(folder) if name not in named]
    for names, what in (
        (missing, f"of {len(wanted)} clips missing, counted as missing"),
        (more, "not asked for, not scored"),
        (other, f"not named in {MANIFEST}, not read"),
    ):
        if names:
            listed = "; ".join([*names[:LISTED], *(["..."] if len(names) > LISTED else [])])
            log.warning("notice: %s: %d %s: %s", where, len(names), what, listed)


# --- whoever makes it -------------------------------------------------------------------------------------------------


def submit(path: Path, bundle: Path, out: Path) -> tuple[int, int]:
    """Checks clips against the bundle from which they were made, and packs them with their manifest.

    Args:
        path: a folder, or a zip file, of clips and submission.json. If its `bundle` is missing, it is this bundle; if
            its `clips` are missing, they are the files at the paths in the bundle's manifest.
        bundle: a folder or a zip file.
        out: a zip file if its name ends in .zip, otherwise a folder.

    Returns:
        The number of clips, and the number that the bundle asks for.

    Raises:
        InputError: one line for the first thing that does not fit.
    """
    asked, values = read_bundle(bundle), read_values(path, MANIFEST)
    with unpacked(path) as folder:
        if isinstance(values, dict):
            values.setdefault("bundle", asked.model_dump(mode="json"))
            values.setdefault("clips", _found(folder, asked))
        submission = checked(Submission, values, name=f"{path}/{MANIFEST}")
        if submission.bundle != asked:
            raise InputError(f"{path}/{MANIFEST}: made from another bundle than {bundle}: expected the same one")
        _check_files(path, folder, submission.clips, asked.clip)
        _notice(str(path), folder, submission, asked.clips)
        with filling(out) as filled:
            for clip in submission.clips:
                copy_into(filled, clip.file, folder / clip.file)
            write_json(filled / MANIFEST, submission.model_dump(mode="json"))
    return len(submission.clips), len(asked.clips)


def _found(folder: Path, bundle: Bundle) -> list[dict[str, Any]]:
    """The clips whose files exist at the paths in the bundle's manifest."""
    there = [clip for clip in bundle.clips if (folder / clip.file).is_file()]
    return [clip.model_dump() | {"sha256": file_digest(folder / clip.file)} for clip in there]
