"""Benchmarks drawn from a seed: every word and every kind of case is there, and a frozen one notices a change."""

from collections import Counter
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from bico.cli.main import main
from bico.config.reading import load, read_yaml
from bico.core.errors import InputError
from bico.pipeline.preflight import check_scenes
from bico.toybox import drawing
from bico.toybox.scenes import scene_of
from bico.toybox.words import LIGHTS, MOTIONS, SCENES, STYLES, SUBJECTS


@pytest.fixture(scope="module")
def drawn():
    return load(drawing.drawn_config(read_yaml(ROOT / "config/toybox.yaml"), 120, 7, "toybox_drawn"))


def test_it_has_as_many_cases_as_asked_for_and_no_two_alike(drawn):
    assert len(drawn.cases) == 120
    assert len({(case.prompt, str(case.bind)) for case in drawn.cases.values()}) == 120
    assert Counter(entry.kind for entry in drawn.sources.values()) == {"image": 20, "video": 20}


def test_every_word_is_shown_by_a_source_and_asked_for_by_a_case(drawn):
    scenes = [entry.scene for entry in drawn.sources.values()]
    for role, words in {
        "subject": SUBJECTS, "scene": SCENES, "motion": MOTIONS, "style": STYLES, "light": LIGHTS,
    }.items():  # fmt: skip
        assert {getattr(scene, role) for scene in scenes} - {None} == set(words)
        bound = {word for case in drawn.cases.values() for words in case.bind.values() for word in words}
        assert set(words) <= bound, role


def test_cases_have_two_to_four_sources_and_some_bind_a_motion_whose_video_shows_the_same_word(drawn):
    counts = Counter(len(case.bind) for case in drawn.cases.values())
    assert set(counts) == {2, 3, 4} and min(counts.values()) >= 120 // 7
    shown = {name: entry.scene.subject for name, entry in drawn.sources.items()}
    same = [case for case in drawn.cases.values() if shown[case.truth["subject"]] == shown[case.truth["motion"]]]
    assert len(same) == pytest.approx(120 / 7, abs=1)


def test_half_of_the_sources_have_clutter_a_quarter_is_occluded_and_half_of_the_videos_are_slow(drawn):
    for kind in ("image", "video"):
        entries = [entry for entry in drawn.sources.values() if entry.kind == kind]
        assert sum(entry.scene.clutter for entry in entries) == len(entries) / 2
        assert sum(entry.scene.occluded for entry in entries) == len(entries) / 4
    videos = (scene_of(entry) for entry in drawn.sources.values() if entry.kind == "video")
    speeds = [scene.actors[0].motion.speed for scene in videos]
    assert sum(speed < drawing.SLOW for speed in speeds) == sum(speed > drawing.FAST for speed in speeds) == 10


def test_a_seed_draws_one_benchmark_and_another_seed_another():
    assert drawing.draw(30, 1) == drawing.draw(30, 1) != drawing.draw(30, 2)


def test_the_command_writes_a_config_that_passes_the_check_and_overwrites_none(tmp_path, capsys):
    out = tmp_path / "mine.yaml"
    arguments = ["draw", "--cases", "8", "--seed", "3", "--name", "mine", "--out", str(out)]
    assert main(arguments) == 0
    config = load(out)
    assert config.name == "mine" and config.results == Path("results/mine") and len(config.cases) == 8
    check_scenes(config)
    assert main(arguments) == 2
    assert "is there: expected a new file" in capsys.readouterr().err
    assert main([*arguments[:2], "3", *arguments[3:-1], str(tmp_path / "few.yaml")]) == 2
    assert "draw: 3 cases: expected at least 7, one of each kind" in capsys.readouterr().err
    paper = ["--config", str(ROOT / "config/paper.yaml"), "--out", str(tmp_path / "large.yaml")]
    assert main([*arguments[:-2], *paper]) == 2
    assert "models.probe is null: expected a Toybox benchmark" in capsys.readouterr().err


def test_a_frozen_benchmark_that_was_changed_is_refused_in_one_line(tmp_path):
    entries = drawing.drawn_config(read_yaml(ROOT / "config/toybox.yaml"), 8, 3, "mine")
    first = next(iter(entries["sources"].values()))
    first["scene"] = first["scene"] | {"seed": first["scene"]["seed"] + 1}
    with pytest.raises(InputError, match=r"^frozen: the scenes of sources and cases have the digest \w{12}"):
        check_scenes(load(entries))


@pytest.mark.parametrize("part", ["prompt", "bind"])
def test_a_frozen_benchmark_whose_prompts_or_bound_words_were_changed_is_refused(part):
    entries = drawing.drawn_config(read_yaml(ROOT / "config/toybox.yaml"), 8, 3, "mine")
    case = next(iter(entries["cases"].values()))
    if part == "prompt":
        case["prompt"] = f"now, {case['prompt']}"
    else:
        source = next(iter(case["bind"]))
        case["bind"][source] = ["a"]
    with pytest.raises(InputError, match=r"^frozen: "):
        check_scenes(load(entries))


def test_no_drawn_case_has_a_prompt_of_the_tuning_set():
    """Without that rule the shipped 120 cases had three of the fourteen."""
    like = read_yaml(ROOT / "config/toybox.yaml")
    tuned = {case["prompt"] for case in like["tuning"]["cases"].values()}
    for seed in range(10):
        cases = drawing.drawn_config(like, 60, seed, "mine")["cases"]
        assert not {case["prompt"] for case in cases.values()} & tuned
    assert {case["prompt"] for seed in range(10) for case in drawing.draw(60, seed)[1].values()} & tuned


def test_the_shipped_benchmark_of_120_cases_is_what_its_command_draws(tmp_path):
    shipped = ROOT / "config/toybox_120.yaml"
    command = shipped.read_text().splitlines()[0].split("`")[1].split()
    assert main([*command[3:-1], str(tmp_path / "again.yaml"), "--config", str(ROOT / "config/toybox.yaml")]) == 0
    again = yaml.safe_load((tmp_path / "again.yaml").read_text())
    assert again == yaml.safe_load(shipped.read_text())
