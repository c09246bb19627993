"""The gallery's data, and the page itself in headless Chromium where there is one."""

import base64
import html.parser
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import toy
from browser import contrast, measured, needs_chromium, opened
from PIL import Image

from bico.config.benchmark import Case
from bico.config.scores import TRUTH_SCORES
from bico.core.files import write_text
from bico.media.reading import read_clip
from bico.media.writing import write_clip
from bico.report.gallery import gallery
from bico.report.pages import LARGE, coloured, embedded


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    config = toy.config(tmp_path_factory.mktemp("gallery"))
    toy.write_media(config)
    same = {name: name for name in config.cases}
    failed = {("robot_spins", 0): "failed"}
    for method in config.methods:
        toy.write_clips(config, method, same, failed if method == "bico" else {})
        rows = [
            {"case": case, "seed": seed, "status": "ok"}
            | dict(zip(toy.SCORES, (21.0 + seed, 43.2, np.nan, 64.9), strict=True))
            for case in same
            for seed in config.seeds
        ]
        (config.results / "scores").mkdir(exist_ok=True)
        pd.DataFrame(rows).to_csv(config.results / "scores" / f"{method}.csv", index=False)
    gallery(config)
    return config.results / "gallery" / "index.html"


def data_of(page: Path) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL)[1])


def test_every_clip_is_there_and_a_failed_one_says_so(page):
    data = data_of(page)
    assert (data["fps"], data["frames"], data["seeds"]) == (8, 9, [0, 1])
    assert [case["id"] for case in data["cases"]] == list(toy.CASES)
    for case in data["cases"]:
        for method, seeds in case["clips"].items():
            for seed, clip in seeds.items():
                if (case["id"], seed, method) == ("robot_spins", "0", "bico"):
                    assert clip == {"status": "failed", "file": None, "scores": []}
                else:
                    lines = [["CLIP-T", str(21 + int(seed))], ["DINO-I", "43"], ["dynamic degree", "65"]]
                    assert (page.parent / clip["file"]).is_file() and clip["scores"] == lines
        assert (page.parent / case["truth"]).is_file()
        assert all((page.parent / source["file"]).is_file() for source in case["sources"])


def test_one_file_holds_it_all_for_the_report(page):
    folder, single = data_of(page), data_of(page.parent.with_suffix(".html"))
    clip = folder["cases"][0]["clips"]["copy"]["0"]["file"]
    start, _, content = single["cases"][0]["clips"]["copy"]["0"]["file"].partition(",")
    assert start == "data:video/mp4;base64" and base64.b64decode(content) == (page.parent / clip).read_bytes()
    assert single["cases"][0]["sources"][0]["file"].startswith("data:image/png;base64,")


def test_large_clips_are_made_smaller_for_the_page_in_one_file(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (9, 258, 301, 3), dtype=np.uint8)
    write_clip(tmp_path / "clip.mp4", frames, fps=8)
    start, _, content = embedded(tmp_path / "clip.mp4").partition(",")
    assert start == "data:video/mp4;base64" and (tmp_path / "clip.mp4").stat().st_size > LARGE
    (tmp_path / "small.mp4").write_bytes(base64.b64decode(content))
    assert len(content) < LARGE and read_clip(tmp_path / "small.mp4").shape == (9, 258, 300, 3)


def test_bound_words_know_their_source():
    case = Case(prompt="a cat bouncing  at the beach", bind={"picture": ["cat", "beach"], "clip": ["bouncing"]})
    pieces = [("a ", None), ("cat", 0), (" ", None), ("bouncing", 1), (" at the ", None), ("beach", 0)]
    assert coloured(case) == pieces


def test_a_prompt_cannot_end_the_script(page, tmp_path):
    """What stands in the page as data stays data, whatever it holds."""
    config = toy.config(tmp_path, name="toy", models={name: "none" for name in ("wan", "vlm", "clip", "dino")})
    case = next(iter(config.cases.values())).model_copy(update={"prompt": "a cat bouncing at the beach </script><b>"})
    config = config.model_copy(update={"cases": {"cat_bounces": case}, "methods": {}})
    toy.write_media(config)
    gallery(config)
    text = (tmp_path / "gallery" / "index.html").read_text()
    parser = html.parser.HTMLParser()
    opened: list[str] = []
    parser.handle_starttag = lambda tag, _: opened.append(tag)
    parser.feed(text)
    assert "b" not in opened and opened.count("script") == 2


def test_controls_come_last_and_say_what_they_are(page):
    methods = data_of(page)["methods"]
    assert [method["label"] for method in methods] == ["BiCo", "Plain prompt", "Copied frames"]
    assert [bool(method["control"]) for method in methods] == [False, True, True]
    assert methods[2]["control"].startswith("the unchanged frames of one source")


def test_scores_against_the_truth_are_shown_in_parts(tmp_path):
    models = dict.fromkeys(("wan", "vlm", "clip", "dino", "probe"), "none")
    config = toy.config(tmp_path, models=models, methods={"bico": {}}, seeds=[0])
    toy.write_media(config)
    toy.write_clips(config, "bico", {name: name for name in config.cases})
    rows = [
        {"case": case, "seed": 0, "status": "ok"} | dict.fromkeys((*toy.SCORES, *TRUTH_SCORES), 7.0)
        for case in config.cases
    ]
    write_text(config.paths.scores("bico"), pd.DataFrame(rows).assign(truth_motion=np.nan).to_csv(index=False))
    gallery(config)
    clip = data_of(config.paths.gallery / "index.html")["cases"][0]["clips"]["bico"]["0"]
    assert clip["scores"] == [["overall", "7"], ["concept", "7"], ["prompt", "7"]]


def test_sources_are_shown_as_the_methods_see_them(tmp_path):
    """In a format that browsers show, cropped, and from where a video is read."""
    frames = np.zeros((40, 64, 80, 3), np.uint8) + np.arange(0, 240, 6, dtype=np.uint8)[:, None, None, None]
    write_clip(tmp_path / "long.mov", frames, fps=8)
    Image.fromarray(frames[20]).save(tmp_path / "photo.tiff")
    sources = {
        "photo": {"kind": "image", "file": str(tmp_path / "photo.tiff")},
        "long": {"kind": "video", "file": str(tmp_path / "long.mov"), "start": 2.0},
    }
    cases = {"one": {"prompt": "a cat bouncing", "bind": {"photo": ["cat"], "long": ["bouncing"]}}}
    config = toy.config(tmp_path / "results", sources=sources, cases=cases)
    gallery(config.model_copy(update={"methods": {}}))
    page = config.paths.gallery / "index.html"
    photo, video = (page.parent / source["file"] for source in data_of(page)["cases"][0]["sources"])
    assert (photo.name, video.name) == ("photo.png", "long.mp4")
    shown = read_clip(video)
    assert Image.open(photo).size == (48, 48) and shown.shape == (9, 48, 48, 3)
    assert np.abs(shown[:, 24, 24, 0].astype(int) - np.arange(16, 25) * 6).max() <= 2


@needs_chromium
def test_the_page_fits_a_phone_and_a_finger(page):
    found = measured(page, width=390)
    assert found["width"] == 390 and found["overflowing"] == [] and found["small"] == []
    assert found["unlabelled"] == 0 and "BiCo: a cat bouncing at the beach" in found["labels"]
    assert found["enlarged"] > 350 > 200 > found["shrunk"]


@needs_chromium
def test_clips_play_in_step_without_being_sought(page):
    assert measured(page, width=1280)["sought"] == 0


@needs_chromium
def test_the_page_is_dark_where_the_system_is(page):
    backgrounds = [measured(page, width=1280, dark=dark)["background"] for dark in (False, True)]
    assert backgrounds == ["rgb(255, 255, 255)", "rgb(22, 22, 22)"]


@needs_chromium
def test_the_page_filters_and_shows_in_chromium(page):
    found = []
    for view in ("", "#case=", "#case=robot_spins&seed=0&methods=bico"):
        with opened(page, view) as shown:
            assert contrast(shown) > 10
            failed, videos = shown.locator(".none", has_text="failed").count(), shown.locator("video").count()
            found.append(([each.get_attribute("id") for each in shown.locator("section").all()], videos, failed))

    (first, _, _), (everything, videos, failed), filtered = found
    assert first == ["cat_bounces"]
    assert len(everything) == 3 and videos == 3 * (1 + 1 + 3) - 1 and failed == 1
    assert filtered == (["robot_spins"], 2, 1)  # the clip that is a source, and the truth
