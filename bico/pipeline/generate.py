"""The clips of one method: which there are to make, which are up to date, what failed, and the manifest of them all."""

import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bico.config.schema import BaseSettings, Case, Config, Media
from bico.core.errors import InputError
from bico.core.files import write_json
from bico.core.fingerprints import code_digest, file_digest, folder_digest
from bico.core.records import forget, is_current, progress, remember
from bico.media.files import write_clip
from bico.methods import method
from bico.methods.base import Job
from bico.models.wan.backbone import Backbone

OK = {"status": "ok", "error": None}


def make_clips(config: Config, row: str, backbone: Backbone) -> None:
    """Makes the clips `R/clips/<row>/<case>/<seed>.mp4` and, last of all, their manifest `R/clips/<row>.json`.

    A clip is kept if nothing that it depends on has changed (see `bico.core.records`). A clip that fails stays in the
    manifest, with its reason.

    Raises:
        InputError: every clip that the method supports fails, or the device does.
    """
    planned = {
        f"{job.case_id} {job.seed}": (job, config.clip_path(row, job.case_id, job.seed), record)
        for job, record in _records(config, row, backbone)
    }
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
    write_json(config.results / "clips" / f"{row}.json", manifest)


def jobs(config: Config, row: str) -> Iterator[Job]:
    """Every clip that the table asks of a method: all cases, all seeds."""
    for case_id, case in config.cases.items():
        learns_per = "nothing" if config.unsupported(row, case_id) else config.methods[row].LEARNS_PER
        items = {
            "nothing": {},
            "source": {source: source for source in case.bind},
            "case": {"case": f"case-{case_id}"},
        }[learns_per]
        media = {source: config.media_path(source) for source in case.bind}
        for seed in config.seeds:
            trained = config.learning_seed(seed)
            artifacts = {name: config.artifact_path(row, item, trained) for name, item in items.items()}
            yield Job(case_id, case, seed, artifacts, media)


def of_one_source(
    config: Config, row: str | None, backbone: Backbone, source: str, cases: Mapping[str, Case], media: Media
) -> Iterator[tuple[Job, np.ndarray]]:
    """Clips uint8 [T, H, W, 3] of cases that bind this source alone, all seeds; row None = nothing is bound."""
    settings = BaseSettings() if row is None else config.methods[row]
    files, planned = {source: config.media_path(source)}, []
    for name, case in cases.items():
        for seed in config.seeds:
            learned = {source: config.artifact_path(row, source, config.learning_seed(seed))} if row is not None else {}
            planned.append(Job(name, case, seed, learned, files))
    return method(settings.method).compose(backbone, planned, settings, config.sampling, media)


def _digest(path: Path) -> str | None:
    """Of a clip in the manifest: all that Snakemake compares, to tell whether what was made of the clips is stale."""
    return file_digest(path) if path.exists() else None


def _records(config: Config, row: str, backbone: Backbone) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Each job with what goes into the JSON beside its clip: all that the clip depends on."""
    settings = config.methods[row]
    shared = {
        "method": settings.effective(),
        "sampling": config.sampling.model_dump(mode="json"),
        "media": config.media.model_dump(mode="json"),
        "text_slots": config.text_slots,
        "dtype": str(backbone.dtype),
        "backbone": folder_digest(config.models.wan),
        "code": code_digest("bico.pipeline.generate", f"bico.methods.{settings.method}"),
    }
    for job in jobs(config, row):
        case = {"prompt": job.case.prompt, "bind": job.case.bind, "seed": job.seed}
        files = job.artifacts or job.media
        for path in files.values():
            if not path.exists():
                raise InputError(f"{path}: not there any more: expected it; `--forcerun learn` makes what is missing")
        yield job, case | {"inputs": {name: file_digest(path) for name, path in files.items()}} | shared


def _make(
    config: Config, row: str, backbone: Backbone, stale: Sequence[tuple[Job, Path, dict[str, Any]]]
) -> Iterator[dict[str, Any]]:
    """Makes these clips one after the other; yields how each ended, as the manifest says it.

    The method gets all of them at once, since what the seeds of a composition share is made once; after a clip that
    fails, it gets the rest anew.
    """
    settings, clips = config.methods[row], None
    for number, (job, path, record) in enumerate(stale):
        forget(path)
        if reason := config.unsupported(row, job.case_id):
            yield {"status": "not supported", "error": reason}
            continue
        try:
            if clips is None:
                rest = [later for later, *_ in stale[number:] if not config.unsupported(row, later.case_id)]
                clips = iter(method(settings.method).compose(backbone, rest, settings, config.sampling, config.media))
            _, clip = next(clips)
        except Exception as error:  # whatever it is, this clip counts as failed and the others go on
            if _of_the_device(error):  # but for this, which is no fault of the method's
                reason = str(error).splitlines()[0]
                raise InputError(
                    f"{row}: {job.case_id} {job.seed}: the device failed ({reason}): expected one with memory to "
                    "itself; finished clips are kept, run again"
                ) from error
            traceback.print_exc()
            clips = None
            yield {"status": "failed", "error": f"{type(error).__name__}: {error}"}
            continue
        write_clip(path, clip, config.media.fps)
        remember(path, record)
        yield OK


def _of_the_device(error: Exception) -> bool:
    """Whether a GPU failed. What its libraries report has no class of its own."""
    known = isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError)
    return known or (isinstance(error, RuntimeError) and str(error).startswith(("CUDA error", "cuDNN error")))
