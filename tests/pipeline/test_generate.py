"""A row's clips, when making one of them fails. Its method is a stand-in that draws its clips."""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
import toy

from bico.analysis.one_source import of_one_source
from bico.config.reading import load
from bico.config.schema import Config
from bico.core.errors import DamagedFile, InputError
from bico.core.fingerprints import file_digest
from bico.core.records import remember
from bico.media.reading import read_clip
from bico.pipeline.generate import generate
from bico.plan import dependencies


@pytest.fixture
def config(small, tmp_path) -> Config:
    for name, source in small["sources"].items():
        (tmp_path / name).write_bytes(b"a file")
        small["sources"][name] = {"kind": "video" if "motion" in source["scene"] else "image", "file": tmp_path / name}
    del small["cases"]["cat_bouncing_in_the_city"]["truth"]
    small["models"]["probe"] = None
    small["seeds"] = [0, 1, 2]
    return load(small)


@pytest.fixture
def made(config, monkeypatch) -> Callable:
    """Makes the clips of `base` where seeds may fail; tells which it tried, and what the manifest or the error says."""

    def run(*failing: int, error: Exception | None = None) -> tuple[list[int], list[dict] | str]:
        tried = []

        def compose(backbone, jobs, settings, sampling, media):
            for job in jobs:
                tried.append(job.seed)
                if job.seed in failing:
                    raise error
                yield job, np.full((9, 48, 48, 3), job.seed, np.uint8)

        monkeypatch.setattr("bico.methods.base.compose.compose", compose)
        monkeypatch.setattr("bico.pipeline.generate.open_backbone", lambda config: tiny.backbone())
        try:
            generate(config, "base")
        except InputError as failure:
            return tried, str(failure)
        return tried, json.loads((config.results / "clips" / "base.json").read_text())

    return run


def test_a_clip_that_fails_is_listed_and_made_when_it_can_be(made):
    tried, manifest = made(1, error=ValueError("no such token"))
    assert tried == [0, 1, 2] and [entry["status"] for entry in manifest] == ["ok", "failed", "ok"]
    assert manifest[1]["error"] == "ValueError: no such token" and manifest[1]["sha256"] is None
    tried, manifest = made()
    assert tried == [1] and {entry["status"] for entry in manifest} == {"ok"}


def test_a_method_is_asked_for_all_clips_at_once_and_after_one_that_fails_for_the_rest(config, monkeypatch):
    asked = []

    def compose(backbone, jobs, settings, sampling, media):
        asked.append([job.seed for job in jobs])
        for job in jobs:
            if job.seed == 1:
                raise ValueError("no such token")
            yield job, np.zeros((9, 48, 48, 3), np.uint8)

    monkeypatch.setattr("bico.methods.base.compose.compose", compose)
    monkeypatch.setattr("bico.pipeline.generate.open_backbone", lambda config: tiny.backbone())
    generate(config, "base")
    assert asked == [[0, 1, 2], [2]]


@pytest.mark.parametrize(
    ("give", "reason"),
    [
        (lambda pairs: reversed(list(pairs)), "gave the clip of cat_bouncing_in_the_city 2 in its place"),
        (lambda pairs: [(job, clip / 255) for job, clip in pairs], "a clip of float64 [9, 48, 48, 3]: expected uint8"),
        (lambda pairs: [(job, clip[:3]) for job, clip in pairs], "a clip of uint8 [3, 48, 48, 3]: expected uint8 [9,"),
        (lambda pairs: [], "'compose' ended before this clip"),
    ],
)
def test_a_method_of_ones_own_cannot_give_another_clip_than_that_of_the_job(config, monkeypatch, give, reason):
    def compose(backbone, jobs, settings, sampling, media):
        return give([(job, np.full((9, 48, 48, 3), job.seed, np.uint8)) for job in jobs])

    monkeypatch.setattr("bico.methods.base.compose.compose", compose)
    monkeypatch.setattr("bico.pipeline.generate.open_backbone", lambda config: tiny.backbone())
    with suppress(InputError):  # where not one of three clips is right
        generate(config, "base")
        manifest = json.loads(config.paths.all_clips("base").read_text())
        assert {read_clip(entry["clip"]).max() for entry in manifest if entry["status"] == "ok"} <= {2}
        assert reason in manifest[0]["error"]
        return
    with pytest.raises(InputError, match=re.escape(reason)):
        generate(config, "base")


def test_a_row_of_which_every_clip_fails_is_an_error(made):
    _, message = made(0, 1, 2, error=ValueError("no such token"))
    assert message == "base: not one of 3 clips could be made: ValueError: no such token"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("no memory\nTried to"),
        torch.AcceleratorError("ECC"),
        RuntimeError("cuDNN Frontend error: [cudnn_frontend] Error: No valid execution plans built."),
        RuntimeError("CUDA driver error: device not ready"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_device_that_fails_is_no_failure_of_the_method_s(made, error):
    tried, message = made(1, error=error)
    assert tried == [0, 1] and message.startswith("base: cat_bouncing_in_the_city 1: the device failed (")
    assert "\n" not in message
    tried, manifest = made()
    assert tried == [1, 2] and {entry["status"] for entry in manifest} == {"ok"}


@pytest.mark.parametrize("error", [OSError(116, "Stale file handle"), DamagedFile("a.safetensors: damaged: run again")])
def test_a_file_that_cannot_be_read_now_is_no_failure_of_the_method_s(made, config, error):
    with suppress(OSError):  # one line of `made` if it is an InputError
        made(1, error=error)
    assert not config.paths.all_clips("base").exists()  # so that Snakemake runs the job again
    tried, manifest = made()
    assert tried == [1, 2] and {entry["status"] for entry in manifest} == {"ok"}


def test_a_clip_is_made_again_when_anything_that_it_depends_on_changes(made, config, monkeypatch):
    assert made()[0] == [0, 1, 2]
    changes = (
        lambda: monkeypatch.setattr(dependencies, "folder_digest", lambda folder: "another model"),
        lambda: monkeypatch.setattr(dependencies, "code_digest", lambda *modules: "other code"),
        lambda: monkeypatch.setattr(tiny, "backbone", lambda: SimpleNamespace(dtype=torch.bfloat16)),
        lambda: config.media_path("cat_beach").write_bytes(b"another picture"),
        lambda: monkeypatch.setitem(vars(config.sampling), "steps", config.sampling.steps + 1),
        lambda: monkeypatch.setitem(vars(config.media), "fps", 4),
        lambda: monkeypatch.setitem(vars(config), "text_slots", config.text_slots + 1),
    )
    for change in changes:
        assert made()[0] == []
        change()
        assert made()[0] == [0, 1, 2]


def test_a_clip_that_fails_leaves_no_older_one(made, config, monkeypatch):
    made()
    monkeypatch.setattr(dependencies, "code_digest", lambda *modules: "other code")
    _, manifest = made(1, error=ValueError("no such token"))
    assert [entry["sha256"] is None for entry in manifest] == [False, True, False]
    assert len(list(config.results.rglob("*.mp4"))) == 2


def test_clips_that_a_stopped_run_did_not_come_to_are_still_there(made, config, monkeypatch):
    made()
    monkeypatch.setattr(dependencies, "code_digest", lambda *modules: "other code")
    with pytest.raises(KeyboardInterrupt):
        made(1, error=KeyboardInterrupt())
    assert len(list(config.results.rglob("*.mp4"))) == 3
    assert made()[0] == [1, 2]


def test_a_damaged_clip_is_made_again(made, config):
    made()
    clip = config.paths.clip("base", "cat_bouncing_in_the_city", 1)
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) // 2])
    assert made()[0] == [1] and clip.read_bytes() == whole


def test_a_file_of_an_earlier_step_that_is_damaged_stops_this_one(made, config):
    source = config.media_path("cat_beach")
    remember(source, {}, config.paths.table("manifest", "json"))
    source.write_bytes(b"a bit flipped")
    assert made() == ([], f"{source}: damaged: it is not what was written: run again, and it is made again")


def test_the_manifest_tells_what_is_in_the_clips(made, config):
    _, manifest = made()
    paths = [config.results / "clips" / "base" / entry["case"] / f"{entry['seed']}.mp4" for entry in manifest]
    assert [entry["sha256"] for entry in manifest] == [file_digest(path) for path in paths]


def test_clips_of_one_source_are_made_with_each_training_in_turn(tmp_path, monkeypatch):
    config, planned = toy.config(tmp_path, seeds=[0, 1, 2, 3], learning_seeds=[7, 8]), []
    monkeypatch.setattr("bico.methods.bico.compose.compose", lambda backbone, jobs, *others: planned.extend(jobs))
    of_one_source(config, "bico", None, "red_cat", {"own": config.cases["cat_bounces"]}, config.media)
    assert [(job.seed, job.artifacts["red_cat"].stem) for job in planned] == [(0, "7"), (1, "8"), (2, "7"), (3, "8")]
