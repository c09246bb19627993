"""What a run leaves for a board, and the page of several of them in headless Chromium where there is one."""

import json
import re
import shutil
from pathlib import Path

import pytest
import toy
from browser import measured, needs_chromium, opened

from bico.cli.main import main
from bico.core.errors import InputError
from bico.core.files import write_json, write_text
from bico.report.board import read_entries, write_board
from bico.report.entry import judges_digest, set_digest, write_entry
from bico.report.tables import write_table

LEVELS = {"base": 10.0, "copy": 90.0, "bico": 50.0}


def run(folder: Path, shift: float = 0.0, **changes: object):
    """Results of the toy benchmark with a table, of which one row lacks a clip."""
    config = toy.config(folder, **changes)
    same = {name: name for name in config.cases}
    for method, level in LEVELS.items():
        toy.write_clips(config, method, same, {("robot_spins", 0): "failed"} if method == "base" else {})
        lines = ["case,seed,status," + ",".join(toy.SCORES)]
        for case in config.cases:
            for seed in config.seeds:
                failed = method == "base" and case == "robot_spins" and seed == 0
                scores = [""] * len(toy.SCORES) if failed else [str(level + shift + seed)] * len(toy.SCORES)
                lines.append(",".join([case, str(seed), "failed" if failed else "ok", *scores]))
        write_text(config.paths.scores(method), "\n".join(lines) + "\n")
    write_table(config, "table1")
    return config


@pytest.fixture(autouse=True)
def models(monkeypatch):
    """Toy models have no files."""
    monkeypatch.setattr("bico.report.entry.folder_digest", lambda folder: f"digest of {folder}")
    monkeypatch.setattr("bico.report.tables.folder_digest", lambda folder: f"digest of {folder}")


@pytest.fixture
def entries(tmp_path) -> Path:
    """Two that compare, and one of another set."""
    for name, shift, changes in (
        ("ada", 0.0, {}),
        ("bob", 5.0, {"seeds": [0, 1, 2]}),
        ("eve", 0.0, {"media": {"height": 48, "width": 48, "num_frames": 9, "fps": 4}}),
    ):
        config = run(tmp_path / name, shift, **changes)
        for source in config.sources:  # two steps of a training of each
            curve = config.paths.metrics("bico", source, 0)
            write_text(curve, '{"step": 0, "seconds": 0.5}\n{"step": 1, "seconds": 1.5}\n')
        write_entry(config)
        shutil.copytree(config.paths.entry.parent, tmp_path / "entries" / name)
    return tmp_path / "entries"


def data_of(page: Path) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL)[1])


def test_an_entry_has_the_table_its_cost_and_some_clips(entries):
    entry = read_entries(entries)["ada"]
    assert (entry.benchmark, entry.cases, entry.seeds) == ("toy", 3, 2)
    assert entry.rows["bico"].scores["clip_t"].mean == 50.5 and entry.rows["bico"].track == "one-shot"
    assert entry.rows["copy"].track == "control" and entry.rows["base"].missing == 1
    assert entry.rows["bico"].cost.learning_seconds == 2.0 and entry.rows["base"].cost.learning_seconds is None
    assert entry.rows["bico"].cost.steps_video > 0 and entry.rows["bico"].cost.passes == 100
    assert list(entry.rows["bico"].clips) == list(toy.CASES)
    assert all((entries / "ada" / clip).stat().st_size for row in entry.rows.values() for clip in row.clips.values())


def test_the_digest_of_a_set_knows_cases_sources_and_size_and_not_seeds(tmp_path):
    config = toy.config(tmp_path)
    assert set_digest(config) == set_digest(toy.config(tmp_path, seeds=[3]))
    cases = config.cases | {
        "cat_bounces": config.cases["cat_bounces"].model_copy(update={"prompt": "the cat bouncing"})
    }
    scene = config.sources["red_cat"].scene.model_copy(update={"seed": 99})
    sources = config.sources | {"red_cat": config.sources["red_cat"].model_copy(update={"scene": scene})}
    for changes in ({"cases": cases}, {"sources": sources}):
        assert set_digest(config.model_copy(update=changes)) != set_digest(config)
    assert judges_digest(config) != judges_digest(toy.config(tmp_path, scoring={"pooling": "renormalised"}))


def test_a_key_of_scenes_that_a_set_does_not_use_leaves_its_digest(tmp_path, monkeypatch):
    """Otherwise each new key would make entries of before incomparable."""
    config = toy.config(tmp_path)
    before = set_digest(config)
    scenes = {name: entry.scene.model_copy(update={"occluded": False}) for name, entry in config.sources.items()}
    sources = {name: entry.model_copy(update={"scene": scenes[name]}) for name, entry in config.sources.items()}
    assert set_digest(config.model_copy(update={"sources": sources})) == before
    hidden = {name: scene.model_copy(update={"occluded": True}) for name, scene in scenes.items()}
    sources = {name: entry.model_copy(update={"scene": hidden[name]}) for name, entry in config.sources.items()}
    assert set_digest(config.model_copy(update={"sources": sources})) != before


def test_the_digest_of_judges_knows_the_key_words_that_a_score_reads(tmp_path):
    scoring = {"scores": {"dino_foreground": {"foreground": "motion"}}}
    config, digests = toy.config(tmp_path, scoring=scoring), set()
    for temporal in (["bouncing"], ["car bouncing"]):
        for name in config.bound():
            write_json(config.paths.concepts(name), {"spatial": ["a car"], "temporal": temporal})
        digests.add(judges_digest(config))
    assert len(digests) == 2


def test_only_entries_of_one_set_stand_in_one_table(entries, tmp_path, capsys):
    assert main(["board", str(entries), "--out", str(tmp_path / "board")]) == 0
    printed = capsys.readouterr().out
    assert "ada, bob;" in printed and "notice: these groups have different sets" in printed
    groups = data_of(tmp_path / "board" / "index.html")["groups"]
    assert [{row["entry"] for row in group["rows"]} for group in groups] == [{"ada", "bob"}, {"eve"}]
    assert all((tmp_path / "board" / clip).is_file() for row in groups[0]["rows"] for clip in row["clips"].values())


def test_damaged_entries_are_named_in_one_line_and_no_page_is_overwritten(entries, tmp_path):
    path = entries / "bob" / "entry.json"
    whole = path.read_text()
    (tmp_path / "outside.mp4").write_text("of somebody else")
    (path.parent / "clips/linked.mp4").symlink_to(tmp_path / "outside.mp4")
    (path.parent / "clips/bico/page.html").write_text("no clip")
    for text, problem in (
        (whole[:100], r"entry.json: no whole JSON file"),
        (re.sub(r'"mean": [\d.]+', '"mean": NaN', whole, count=1), r"expected .*finite number"),
        (whole.replace('"track": "one-shot"', '"track": "two-shot"'), r"rows.bico.track: "),
        (whole.replace("clips/bico/cat_bounces.mp4", "../../secret.mp4"), r"rows.bico.clips.cat_bounces: .*inside"),
        (whole.replace("clips/bico/cat_bounces.mp4", "clips/bico/page.html"), r"rows.bico: no clips/bico/page.html"),
        (whole.replace("clips/bico/cat_bounces.mp4", "clips/linked.mp4"), r"rows.bico: no clips/linked.mp4"),
        (re.sub(r'"set_digest": "\w+"', '"set_digest": "short"', whole), r"set_digest: "),
        (whole.replace('"format": "bico-entry-1"', '"format": "bico-entry-9"'), r"format: "),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=problem):
            write_board(entries, tmp_path / "board")
        assert not (tmp_path / "board").exists()
    path.write_text(whole)
    write_board(entries, tmp_path / "board")
    with pytest.raises(InputError, match="this is there already"):
        write_board(entries, tmp_path / "board")
    with pytest.raises(InputError, match=r"no entries: expected folders with entry\.json"):
        write_board(tmp_path / "nothing", tmp_path / "other")


@needs_chromium
def test_texts_of_strangers_do_not_break_the_page(entries, tmp_path):
    path = entries / "bob" / "entry.json"
    path.write_text(path.read_text().replace("BiCo", "<!-- <script>alert(1)</script>"))
    write_board(entries, tmp_path / "board")
    with opened(tmp_path / "board" / "index.html") as shown:
        assert "<!-- <script>alert(1)" in shown.locator("table").first.inner_text()


@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
def test_the_board_fits_a_phone_and_a_screen(entries, tmp_path, width):
    write_board(entries, tmp_path / "board")
    found = measured(tmp_path / "board" / "index.html", width=width, plays=False)
    assert not found["overflowing"] and not found["small"] and not found["unlabelled"]
