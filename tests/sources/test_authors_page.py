"""The authors' page: what it says becomes cases, its media are fetched whole, and its clips are scored as ours are."""

import io
import re
import tarfile
from pathlib import Path
from urllib.error import URLError

import pandas as pd
import pytest
import toy
import yaml
from conftest import ROOT, ZOO, needs_zoo
from files import moving_square
from PIL import Image

from bico.cli.main import main
from bico.config.benchmark import Benchmark
from bico.config.reading import load
from bico.core.errors import InputError
from bico.core.fingerprints import file_digest
from bico.media.writing import write_clip
from bico.pipeline.preflight import preflight
from bico.sources import authors_page as authors

PAGE = next(ROOT.parent.glob("*/paper_page"), ROOT / "none")
needs_page = pytest.mark.skipif(not PAGE.exists(), reason="the authors' project page is not here")

PICTURE = ("Input Image", "static/cat.jpg", '<strong>Image Prompt:</strong> "<b-green>A cat</b> on a sofa."')
CLIP = ("Input Video", "static/ball.mp4", '<strong>Video Prompt:</strong> "A ball <b-red>bouncing  along</b>."')
OURS = (
    "BiCo (Ours)",
    "static/cat_ball_1.2.mp4",
    '<strong>Composed Prompt:</strong> "<b-green>A cat</b> <b-red>bouncing along</b> at noon."',
)
OTHER = ("DualReal", "static/cat_ball_dual.mp4", "")


def page(*panels: tuple[str, str, str]) -> str:
    """A page in the authors' layout, a panel a line from line 2 on; <b-COLOUR>...</b> stands for a coloured span."""

    def panel(title: str, medium: str, prompt: str) -> str:
        tag = f'<source src="{medium}" />' if medium.endswith("mp4") else f'<img src="{medium}" />'
        spans = re.sub(r"<b-(\w+)>(.*?)</b>", r'<span class="prompt-highlight-\1">\2</span>', prompt)
        return (
            f'<div class="section-image"><div class="caption"><small><strong>{title}</strong></small></div>'
            f'<div class="publication-video">{tag if medium else ""}</div><div class="prompt-text">{spans}</div></div>'
        )

    return "\n".join(["<html><body><p>text outside</p>", *(panel(*each) for each in panels), "</body></html>"])


def write_page(folder: Path, *panels: tuple[str, str, str]) -> Path:
    """A page with its media: pictures in one colour, clips of a moving square."""
    (folder / "static").mkdir(parents=True)
    for _, medium, _ in panels:
        if medium.endswith("mp4"):
            write_clip(folder / medium, moving_square(9), fps=8)
        else:
            Image.new("RGB", (64, 48), "orange").save(folder / medium)
    (folder / "index.html").write_text(page(*panels))
    return folder


# --- reading --------------------------------------------------------------------------------------------------------


def test_a_page_becomes_a_benchmark(tmp_path):
    index = tmp_path / "index.html"
    second = ("BiCo (Ours)", "static/dog_ours.mp4", '"<b-blue>a dog</b> runs"')
    dog = ("Input Image", "static/dog_2.jpg", '"<b-blue>a dog</b>"')
    index.write_text(page(PICTURE, CLIP, OURS, OTHER, dog, second))
    section = authors.benchmark(authors.read_page(index), Path("data/authors"))
    assert section == {
        "sources": {
            "cat": {"kind": "image", "file": "data/authors/static/cat.jpg"},
            "ball": {"kind": "video", "file": "data/authors/static/ball.mp4"},
            "dog_2": {"kind": "image", "file": "data/authors/static/dog_2.jpg"},
        },
        "cases": {
            "cat_ball": {
                "prompt": "A cat bouncing along at noon.", "bind": {"cat": ["A cat"], "ball": ["bouncing along"]}
            },
            "dog": {"prompt": "a dog runs", "bind": {"dog_2": ["a dog"]}},
        },
    }  # fmt: skip
    Benchmark.model_validate(section)


def replaced(panel: tuple[str, str, str], old: str, new: str) -> tuple[str, str, str]:
    return tuple(part.replace(old, new) for part in panel)


@pytest.mark.parametrize(
    ("panels", "expected"),
    [
        ([], "index.html: no composition: expected panels"),
        ([OURS], "index.html (line 2): 'BiCo (Ours)' has no inputs: expected them before it"),
        ([PICTURE, CLIP, OTHER], "(line 2): 'Input Image' leads to no composed prompt: expected one below 'BiCo (Our"),
        ([PICTURE, CLIP, replaced(OURS, "b-red", "b-blue")], "(line 4): 'BiCo (Ours)' has a blue phrase, 'bouncing a"),
        ([PICTURE, CLIP, replaced(OURS, "<b-red>bouncing along</b>", "")], "'BiCo (Ours)' takes nothing from ball"),
        ([PICTURE, replaced(CLIP, "b-red", "b-green"), OURS], "(line 3): 'Input Video' has 0 colours of its own"),
        ([PICTURE, CLIP, replaced(OURS, "</b> <", "</b><")], "(line 4): 'BiCo (Ours)' does not fit: 'bouncing along' "),
        ([PICTURE, CLIP, OURS, ("DualFake", "a.mp4", "")], "(line 5): 'DualFake' is no row of the paper: expected"),
        ([PICTURE, CLIP, OURS, ("DualReal", "", "")], "(line 5): 'DualReal' has no medium"),
    ],
)  # fmt: skip
def test_a_page_that_does_not_fit_is_one_line(tmp_path, panels, expected):
    index = tmp_path / "index.html"
    index.write_text(page(*panels))
    with pytest.raises(InputError) as caught:
        authors.read_page(index)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


@needs_page
def test_the_papers_config_holds_what_the_page_says():
    compositions = authors.read_page(PAGE / "index.html")
    assert len(compositions) == 17 and {len(one.media) for one in compositions} == {2, 3, 4}
    assert {medium for one in compositions for medium in one.media.values()} == set(authors.MEDIA)
    paper = yaml.safe_load((ROOT / "config" / "paper.yaml").read_text())
    section = authors.benchmark(compositions, Path(paper["authors_page"]))
    assert {key: paper[key] for key in section} == section
    assert file_digest(PAGE / "index.html") == authors.INDEX_SHA256


@needs_page
def test_every_row_of_the_paper_has_its_published_clips():
    rows = [one.row(label) for one in authors.read_page(PAGE / "index.html") for label in one.published]
    counts = pd.Series(rows).value_counts().to_dict()
    assert counts == (
        {("table1", row): 3 for row in range(1, 6)} | {("table2", row): 2 for row in range(1, 8)} | {(None, None): 12}
    )


# --- fetching -------------------------------------------------------------------------------------------------------


@pytest.fixture
def published_page(tmp_path, monkeypatch) -> Path:
    """A page behind `authors.URL`, as the archive of a commit that this module knows."""
    folder = write_page(tmp_path / "BiCo_Webpage-commit", PICTURE, CLIP, OURS, OTHER)
    publish(folder, monkeypatch)
    monkeypatch.setattr(authors, "INDEX_SHA256", file_digest(folder / "index.html"))
    monkeypatch.setattr(authors, "COMPOSITIONS", 1)
    monkeypatch.setattr(authors, "MEDIA", ("static/cat.jpg", "static/ball.mp4"))
    return folder


def publish(folder: Path, monkeypatch: pytest.MonkeyPatch, size: int | None = None) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        archive.add(folder, folder.name)
    path = folder.with_suffix(".tar.gz")
    path.write_bytes(content.getvalue()[:size])
    monkeypatch.setattr(authors, "URL", path.as_uri())


def test_the_page_is_fetched_whole_with_its_benchmark(published_page, tmp_path):
    folder = tmp_path / "data" / "authors"
    authors.fetch(folder)
    assert (folder / "static" / "cat_ball_dual.mp4").read_bytes()
    section = yaml.safe_load((folder / "benchmark.yaml").read_text())
    assert section["sources"]["cat"]["file"] == str(folder / "static" / "cat.jpg")
    Benchmark.model_validate(section)
    assert [path.name for path in folder.parent.iterdir()] == ["authors"]


def truncated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    publish(folder, monkeypatch, size=1000)
    return "the authors' page cannot be fetched ("


def without_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    def urlopen(url: str, timeout: float) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    return "Name or service not known>): expected a network connection"


def of_another_commit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (folder / "index.html").write_text(page(PICTURE, CLIP, OURS))
    publish(folder, monkeypatch)
    return "index.html: not the page of commit"


def with_one_composition_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(authors, "COMPOSITIONS", 0)
    return "1 compositions of at most 2 sources: expected 0 of at most 4"


def without_a_medium(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (folder / "static" / "ball.mp4").unlink()
    publish(folder, monkeypatch)
    return "static/ball.mp4: no such file"


def with_a_broken_medium(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (folder / "static" / "cat.jpg").write_bytes((folder / "static" / "cat.jpg").read_bytes()[:-50])
    publish(folder, monkeypatch)
    return "static/cat.jpg: the image cannot be decoded"


@pytest.mark.parametrize(
    "harm",
    [
        truncated,
        without_network,
        of_another_commit,
        with_one_composition_more,
        without_a_medium,
        with_a_broken_medium,
    ],
)
def test_a_page_that_is_not_whole_does_not_take_the_place_of_one_that_is(
    published_page, tmp_path, monkeypatch, small, capsys, harm
):
    folder = tmp_path / "authors"
    authors.fetch(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    expected = harm(published_page, monkeypatch)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(small | {"authors_page": str(folder)}))
    assert main(["authors", "--config", str(config)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and expected in message and message.count("\n") == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_media_that_are_still_to_be_fetched_pass_and_typos_do_not(published_page, small, tmp_path):
    folder = tmp_path / "authors"

    def with_source(medium: str) -> dict:
        case = small["cases"]["cat_bouncing_in_the_city"]
        cases = {"cat_bouncing": {"prompt": case["prompt"], "bind": {"cat_beach": ["cat"]}}}
        sources = {"cat_beach": {"kind": "image", "file": str(folder / medium)}}
        return small | {"authors_page": str(folder), "sources": sources, "cases": cases, "applications": {}}

    preflight(load(with_source("static/cat.jpg")))
    with pytest.raises(
        InputError, match=r"sources.cat_beach.file: the authors' page has no 'static/cat.png': .*cat.jpg$"
    ):
        preflight(load(with_source("static/cat.png")))
    authors.fetch(folder)
    preflight(load(with_source("static/cat.jpg")))
    with pytest.raises(InputError, match=r"ball.mp4: this is a video, expected an image"):
        preflight(load(with_source("static/ball.mp4")))


# --- scoring --------------------------------------------------------------------------------------------------------


def scores_of(config: dict, page: Path, tmp_path: Path) -> pd.DataFrame:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config | {"authors_page": str(page), "models": models()}))
    assert main(["published", "--config", str(path)]) == 0
    return pd.read_csv(Path(config["results"]) / "published.csv")


def models() -> dict:
    return {name: str(ZOO / name) for name in ("wan", "vlm", "clip", "dino", "probe")}


@needs_zoo
def test_published_clips_are_scored_as_ours_are_and_none_is_dropped(small, tmp_path, capsys):
    from bico.media.reading import read_clip, read_media
    from bico.scoring.protocol import ScoredClip, ScoredSource

    folder = write_page(tmp_path / "page", PICTURE, CLIP, OURS, OTHER)
    (folder / "static" / "cat_ball_dual.mp4").unlink()
    small["media"]["fps"] = 4  # which is not the pace of their clips
    table = scores_of(small, folder, tmp_path)
    assert table["method"].tolist() == ["BiCo (Ours)", "DualReal"] and table["status"].tolist() == ["ok", "missing"]
    assert table["table"].tolist() == ["table1", "table1"] and table["row"].tolist() == [5, 4]
    assert table.loc[1, list(toy.SCORES)].isna().all()

    frames = read_clip(folder / "static" / "cat_ball_1.2.mp4")
    sources = {
        name: ScoredSource(frames=read_media(folder / "static" / name, **small["media"]), kind=kind)
        for name, kind in (("cat.jpg", "image"), ("ball.mp4", "video"))
    }
    bind = {"cat.jpg": ["A cat"], "ball.mp4": ["bouncing along"]}
    clip = ScoredClip(frames=frames, prompt="A cat bouncing along at noon.", bind=bind, sources=sources, fps=8)
    config = load(small | {"models": models()})
    for name in config.scoring.scores:
        values = toy.opened(config, name).measure(clip).values
        assert table.loc[0, list(values)].to_dict() == pytest.approx(values, abs=1e-3)
    assert "missing" in capsys.readouterr().out


@needs_zoo
def test_published_clips_need_the_page(small, tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(small | {"authors_page": str(tmp_path / "nowhere"), "models": models()}))
    assert main(["published", "--config", str(path)]) == 2
    assert "nowhere/index.html: no such file: expected the authors' page" in capsys.readouterr().err


@needs_page
@needs_zoo
def test_clips_of_the_authors_page_are_scored(small, tmp_path):
    table = scores_of(small, PAGE, tmp_path)
    assert len(table) == 41
    scored = table[table["status"] == "ok"]
    assert scored["case"].value_counts().to_dict() == {
        "elephant_swimming": 5, "guitar2_dancer1": 1, "dog1_reading1_clothes2_hat1": 1
    }  # fmt: skip
    assert scored["clip_t"].between(-100, 100).all() and scored["dino_i"].between(0, 100).all()
    assert scored["motion_fidelity"].dropna().between(-100, 100).all() and (scored["dynamic_degree"] >= 0).all()
    assert set(table["status"]) == {"ok", "missing"}
