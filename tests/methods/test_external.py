"""Clips that were made elsewhere: what is refused, what is missing, and what is made again when one is replaced."""

import json
import logging
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import theirs
from files import moving_square

from bico.cli.main import main
from bico.config.reading import load
from bico.config.schema import Config
from bico.core.errors import InputError
from bico.media.reading import read_written
from bico.media.writing import write_clip
from bico.pipeline.generate import generate
from bico.pipeline.preflight import check, preflight
from bico.plan import dependencies
from bico.plan.bundle import write_bundle
from bico.scoring.results import clip_statuses
from bico.toybox.scenes import write_source

CASE = "cat_bouncing_in_the_city"


@pytest.fixture
def folder(small, tmp_path) -> Path:
    """Clips of two seeds, as a folder."""
    small |= {"seeds": [0, 1], "tables": {}, "curves": {}}
    small["methods"] = {"theirs": {"method": "external", "clips": str(tmp_path / "theirs")}}
    folder = tmp_path / "theirs"
    theirs.submission(load(small), folder)
    return folder


@pytest.fixture
def manifest(folder) -> dict:
    return json.loads((folder / "submission.json").read_text())


def problem(small: dict) -> str:
    with pytest.raises(InputError) as caught:
        preflight(load(small))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("methods.theirs.clips: ")
    return str(caught.value)


def made(small: dict) -> Config:
    """The config, after the clips of the row were made."""
    config = load(small)
    for source in config.sources:
        write_source(config, source)
    generate(config, "theirs")
    return config


def packed(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder.with_name("packed")), "zip", folder))


# --- what is refused ------------------------------------------------------------------------------------------------


def test_clips_that_fit_pass(small, folder, caplog):
    caplog.set_level(logging.WARNING)
    check(load(small))
    small["methods"]["theirs"]["clips"] = str(packed(folder))
    check(load(small))
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("frames", "size", "fps", "said"),
    [
        (8, 48, 8, "8 frames of 48 x 48 at 8 fps"),
        (9, 32, 8, "9 frames of 32 x 32 at 8 fps"),
        (9, 48, 9, "9 frames of 48 x 48 at 9 fps"),
    ],
)
def test_another_length_size_or_rate_is_refused_unless_the_row_resamples(
    small, folder, manifest, frames, size, fps, said
):
    clip = folder / CASE / "1.mp4"
    write_clip(clip, moving_square(frames, size), fps)
    manifest["clips"][1]["sha256"] = theirs.digest(clip)
    theirs.rewrite(folder, manifest)
    expected = (
        "expected 9 of 48 x 48 at 8 fps, with square pixels; a row that scores them may also have `resample: true`"
    )
    assert f"theirs/{CASE}/1.mp4: {said}: {expected}" in problem(small)
    small["methods"]["theirs"]["resample"] = True
    preflight(load(small))
    config = made(small)
    assert read_written(config.paths.clip("theirs", CASE, 1), config.media).shape == (9, 48, 48, 3)


def test_a_file_that_is_cut_short_replaced_or_gone_is_refused(small, folder):
    clip = folder / CASE / "0.mp4"
    whole = clip.read_bytes()
    clip.write_bytes(whole[:-300])
    assert f"{CASE}/0.mp4: the video is truncated" in problem(small)
    small["methods"]["theirs"]["clips"] = str(packed(folder))
    assert f"packed.zip/{CASE}/0.mp4: the video is truncated" in problem(small)
    small["methods"]["theirs"]["clips"] = str(folder)
    write_clip(clip, moving_square(9, side=20), 8)
    assert f"{CASE}/0.mp4: its SHA-256 is not that of submission.json" in problem(small)
    clip.unlink()
    assert f"{CASE}/0.mp4: no such file: expected the clip of case {CASE}, seed 0, or no entry of it" in problem(small)


def test_a_submission_that_is_cut_short_or_none_is_refused(small, folder, tmp_path):
    archive = packed(folder)
    small["methods"]["theirs"]["clips"] = str(archive)
    archive.write_bytes(archive.read_bytes()[:-200])
    assert "packed.zip: no whole zip file" in problem(small)
    with zipfile.ZipFile(archive, "w") as nested:
        nested.write(folder / "submission.json", "theirs/submission.json")
    assert "packed.zip: no submission.json in it: expected one at its top" in problem(small)
    small["methods"]["theirs"]["clips"] = str(tmp_path / "nowhere")
    assert "nowhere: no such file: expected a folder with submission.json in it, or a zip file" in problem(small)
    small["methods"]["theirs"]["clips"] = str(folder)
    (folder / "submission.json").write_text((folder / "submission.json").read_text()[:-5])
    assert "theirs/submission.json: no whole JSON file" in problem(small)


def test_a_manifest_that_names_a_clip_twice_or_wrongly_is_refused(small, folder, manifest):
    clips = manifest["clips"]
    bad = {
        "clips.1 (case cat_bouncing_in_the_city, seed 0): it stands there twice, first in clips.0": [
            clips[0],
            clips[0],
        ],
        "its file stands there twice, first in clips.0": [clips[0], clips[1] | {"file": clips[0]["file"]}],
        "clips.0: no case 'cat_bouncing' in its bundle: did you mean": [clips[0] | {"case": "cat_bouncing"}],
        "clips.0: its bundle asks for no clip of case cat_bouncing_in_the_city, seed 7": [clips[0] | {"seed": 7}],
        "learning_seed 3: its bundle asks for 0": [clips[0] | {"learning_seed": 3}],
        "clips.0.case: missing": [{key: clips[0][key] for key in ("seed", "file", "sha256")}],
        "clips.0: unknown key 'sha': did you mean 'sha256'?": [clips[0] | {"sha": ""}],
    }
    for said, listed in bad.items():
        theirs.rewrite(folder, manifest | {"clips": listed})
        assert said in problem(small)
    theirs.rewrite(folder, manifest | {"track": "best"})
    assert "track: " in problem(small)


def test_clips_of_other_sources_prompts_or_words_are_refused(small, folder):
    advice = "expected clips made from a bundle of this config"
    scene = small["sources"]["cat_beach"]["scene"]
    small["sources"]["cat_beach"]["scene"] = scene | {"seed": 1}
    assert f"case {CASE}: made from other sources: cat_beach is not the same: {advice}" in problem(small)
    small["sources"]["cat_beach"]["scene"] = scene
    case = small["cases"][CASE]
    small["cases"][CASE] = case | {"prompt": "a cat bouncing in a city"}
    assert "made from the prompt 'a cat bouncing in the city', not 'a cat bouncing in a city'" in problem(small)
    small["cases"][CASE] = case | {"bind": case["bind"] | {"cat_beach": ["a cat"]}}
    assert f"case {CASE}: made with other words bound: {advice}" in problem(small)
    small["cases"][CASE], small["learning_seeds"] = case, [0, 1]
    said = f"case {CASE}, seed 1: made with the learning seed 0: expected 1, as in this config"
    assert said in problem(small)
    small["cases"] = {"other": case}
    assert "no clip of a case and a seed of this config" in problem(small)


# --- what is missing, or too much -----------------------------------------------------------------------------------


def test_a_missing_clip_is_said_and_counted_and_one_that_is_not_asked_for_is_left_out(small, folder, manifest, caplog):
    caplog.set_level(logging.WARNING)
    small["seeds"] = [0, 2]
    (folder / "notes.txt").write_text("of ours")
    config = made(small)
    notices = [line for line in caplog.messages if line.startswith("notice: methods.theirs.clips: ")]
    assert [line.partition("clips: ")[2] for line in notices] == [
        f"1 of 2 clips missing, counted as missing: case {CASE}, seed 2",
        f"1 not asked for, not scored: case {CASE}, seed 1",
        "1 not named in submission.json, not read: notes.txt",
    ]
    assert clip_statuses(config, "theirs") == {(CASE, 0): "ok", (CASE, 2): "missing"}
    theirs.rewrite(folder, manifest | {"clips": manifest["clips"][1:]})
    small["seeds"] = [0, 1]
    assert clip_statuses(made(small), "theirs") == {(CASE, 0): "missing", (CASE, 1): "ok"}
    assert not config.paths.clip("theirs", CASE, 0).exists()


# --- what is made of them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True])
def test_clips_are_taken_as_they_are_without_a_backbone(small, folder, zipped):
    """The model folders are stand-ins, which nothing could open."""
    if zipped:
        small["methods"]["theirs"]["clips"] = str(packed(folder))
    config = made(small)
    for seed in config.seeds:
        sent, kept = folder / CASE / f"{seed}.mp4", config.paths.clip("theirs", CASE, seed)
        assert np.abs(read_written(kept, config.media).astype(int) - read_written(sent, config.media)).mean() < 2


def test_a_replaced_clip_makes_the_row_stale_and_is_made_again_alone(small, folder, manifest):
    config = made(small)
    before = dependencies.generate(config, "theirs", "float32").params(config)
    kept = [theirs.digest(config.paths.clip("theirs", CASE, seed)) for seed in (0, 1)]
    clip = folder / CASE / "1.mp4"
    write_clip(clip, moving_square(9, side=20), 8)
    manifest["clips"][1]["sha256"] = theirs.digest(clip)
    theirs.rewrite(folder, manifest)
    again = load(small)
    assert dependencies.generate(again, "theirs", "float32").params(again) != before
    first = config.paths.clip("theirs", CASE, 0).stat().st_mtime_ns
    made(small)
    assert config.paths.clip("theirs", CASE, 0).stat().st_mtime_ns == first
    now = [theirs.digest(config.paths.clip("theirs", CASE, seed)) for seed in (0, 1)]
    assert now[0] == kept[0] and now[1] != kept[1]


def test_no_setting_of_the_backbone_makes_them_stale(small, folder):
    config = load(small)
    before = dependencies.generate(config, "theirs", "float32").params(config)
    small["sampling"]["steps"] += 1
    other = load(small)
    assert dependencies.generate(other, "theirs", "bfloat16").params(other) == before


# --- on the side of whoever makes them ------------------------------------------------------------------------------


def test_submit_fills_in_what_it_can_find_and_packs_a_submission_that_passes(small, folder, tmp_path, capsys):
    write_bundle(load(small), tmp_path / "bundle")
    theirs.rewrite(folder, {"format": "bico-submission-1", **theirs.ABOUT})
    command = ["submit", str(folder), "--bundle", str(tmp_path / "bundle"), "--out", str(tmp_path / "out.zip")]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{tmp_path}/out.zip: 2 of the 2 clips that the bundle asks for\n"
    small["methods"]["theirs"]["clips"] = str(tmp_path / "out.zip")
    preflight(load(small))
    assert main(command) == 2
    assert "out.zip: this is there already" in capsys.readouterr().err


def test_submit_tells_what_the_other_side_would(small, folder, manifest, tmp_path, capsys):
    write_bundle(load(small), tmp_path / "bundle")
    command = ["submit", str(folder), "--bundle", str(tmp_path / "bundle"), "--out", str(tmp_path / "out.zip")]
    write_clip(folder / CASE / "0.mp4", moving_square(8), 8)
    theirs.rewrite(folder, {key: value for key, value in manifest.items() if key != "clips"})
    assert main(command) == 2
    assert "0.mp4: 8 frames of 48 x 48 at 8 fps: expected 9" in capsys.readouterr().err
    manifest["bundle"]["name"] = "other"
    theirs.rewrite(folder, manifest)
    assert main(command) == 2
    assert "submission.json: made from another bundle than" in capsys.readouterr().err
    assert not (tmp_path / "out.zip").exists()
