"""The step that generates the clips of a row. It keeps those that are up to date, and writes their manifest."""

import re
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bico.config.schema import Config
from bico.config.settings import Media
from bico.core.errors import DamagedFile, InputError
from bico.core.files import clear_unfinished, write_json
from bico.core.progress import progress
from bico.core.records import Record, alone, digest_of, forget, is_current, remember
from bico.media.writing import check_frames, write_clip
from bico.methods.shared.protocol import compose_of
from bico.models.wan.backbone import Backbone
from bico.pipeline.opening import open_backbone
from bico.plan import dependencies
from bico.plan.clips import Job, jobs
from bico.plan.trainings import unsupported

OK = {"status": "ok", "error": None}
DEVICE_ERROR = re.compile(r"(CUDA|cuDNN|cuBLAS)\b.*\berror\b", re.IGNORECASE)
"""How messages of a GPU's libraries begin: "CUDA error", "CUDA driver error", "cuDNN Frontend error"."""


def generate(config: Config, row: str) -> None:
    """Makes the clips `results/clips/<row>/<case>/<seed>.mp4` and, last, their manifest `results/clips/<row>.json`.

    A clip is kept if nothing that it depends on has changed (see `bico.core.records`). A clip that fails is in the
    manifest with the reason.

    Raises:
        InputError: every clip that the method supports fails, or the device fails; or files of the row do not fit, or
            one from which a clip is made is damaged.
        OSError: a file cannot be read. As nothing is wrong with the clip then, the step can be run again.
    """
    config.methods[row].check(row, config)
    with alone(config.paths.all_clips(row)):
        _generate(config, row, open_backbone(config) if config.methods[row].OPENS_BACKBONE else None)


def _generate(config: Config, row: str, backbone: Backbone | None) -> None:
    depends = dependencies.generate(config, row, str(backbone.dtype) if backbone else config.dtype)
    planned = {}
    for job in jobs(config, row):
        for path in (job.artifacts or job.media).values():
            if not path.exists():
                remedy = "`--forcerun learn` makes what is missing" if job.artifacts else "make it with Snakemake first"
                raise InputError(f"{path}: no such file: {remedy}")
        name, path = f"{job.case_id} {job.seed}", config.paths.clip(row, job.case_id, job.seed)
        planned[name] = (job, path, depends.record(config, name))
    stale = [name for name, (_, path, record) in planned.items() if not is_current(path, record)]
    made = _make(config, row, backbone, [planned[name] for name in stale])
    outcomes = dict(zip(progress(row, stale), made, strict=True))
    manifest = [
        {"case": job.case_id, "seed": job.seed, "clip": str(path)} | outcomes.get(name, OK) | {"sha256": _digest(path)}
        for name, (job, path, _) in planned.items()
    ]
    failed = [entry for entry in manifest if entry["status"] == "failed"]
    if failed and not any(entry["status"] == "ok" for entry in manifest):
        raise InputError(f"{row}: not one of {len(manifest)} clips could be made: {failed[0]['error']}")
    write_json(config.paths.all_clips(row), manifest)


def _digest(path: Path) -> str | None:
    """Digest of a clip in the manifest. Snakemake compares only the manifest to find stale results of the clips."""
    return digest_of(path) if path.exists() else None


def _make(
    config: Config, row: str, backbone: Backbone | None, stale: Sequence[tuple[Job, Path, Record]]
) -> Iterator[dict[str, Any]]:
    """Makes these clips one after the other, and yields the manifest entry of each.

    The method gets all of them at once, because it makes what the seeds of a composition share once. After a failed
    clip it gets the rest again. An old clip stays until the new one is written or has failed.
    """
    settings, clips = config.methods[row], None
    for number, (job, path, record) in enumerate(stale):
        clear_unfinished(path)
        if absence := _absence(config, row, job):
            forget(path)
            yield absence
            continue
        try:
            if clips is None:
                rest = [later for later, *_ in stale[number:] if not _absence(config, row, later)]
                clips = iter(compose_of(settings.method)(backbone, rest, settings, config.sampling, config.media))
            clip = _clip_of(job, next(clips, None), config.media)
        except (DamagedFile, OSError, MemoryError):  # of files and the machine: the same job may succeed later
            raise
        except Exception as error:  # any other error: this clip counts as failed, the others are still made
            if _of_the_device(error):  # except an error of the device, which is not the method's fault
                reason = str(error).splitlines()[0]
                raise InputError(
                    f"{row}: {job.case_id} {job.seed}: the device failed ({reason}): expected one with memory to "
                    "itself; finished clips are kept, run again"
                ) from error
            traceback.print_exc()
            clips = None
            forget(path)
            yield {"status": "failed", "error": f"{type(error).__name__}: {error}"}
            continue
        write_clip(path, clip, config.media.fps)
        remember(path, record, config.paths.all_clips(row))
        yield OK


def _clip_of(job: Job, made: tuple[Job, np.ndarray] | None, media: Media) -> np.ndarray:
    """The clip of a job, checked, because a method of a user's own may give anything.

    Raises InputError or ValueError if it is no clip of this size, or that of another job.
    """
    if made is None:
        raise ValueError("'compose' ended before this clip: expected a pair of a job and its clip for every job")
    if made[0] is not job:
        other = f"{made[0].case_id} {made[0].seed}"
        raise ValueError(f"'compose' gave the clip of {other} in its place: expected clips in the order of the jobs")
    check_frames("a clip of", made[1], (media.num_frames, media.height, media.width))
    return made[1]


def _absence(config: Config, row: str, job: Job) -> dict[str, Any] | None:
    """What the manifest says of a clip that is not to be made; None of one that is."""
    if reason := unsupported(config, row, job.case_id):
        return {"status": "not supported", "error": reason}
    if reason := config.methods[row].missing(job.case_id, job.seed):
        return {"status": "missing", "error": reason}
    return None


def _of_the_device(error: Exception) -> bool:
    """Whether a GPU failed. Its libraries raise no class of their own for that."""
    known = isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError)
    return known or (isinstance(error, RuntimeError) and DEVICE_ERROR.match(str(error)) is not None)
