"""Decomposition and editing: which words are bound, what should be seen, and what is measured of it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import toy
from conftest import ZOO, needs_zoo

from bico.analysis import applications
from bico.config.benchmark import Application
from bico.config.reading import load
from bico.core.errors import InputError
from bico.plan.clips import as_case
from bico.prompts.words import spans
from bico.toybox.probe import Probe, Reading
from bico.toybox.render import render, trajectory
from bico.toybox.scenes import scene_of

KEEP = {"source": "spinning_cat", "prompt": "a cat bouncing in space", "keep": ["cat"]}
SWAP = {"source": "spinning_cat", "prompt": "a cat spinning in the forest", "swap": {"cat": "robot"}}


def config(tmp_path, **entries):
    models = dict.fromkeys(("wan", "vlm", "clip", "dino"), "none") | {"probe": str(ZOO / "probe")}
    return toy.config(tmp_path, models=models, applications=entries)


def test_an_edit_binds_all_but_the_new_word():
    case = as_case(Application(**SWAP))
    assert case.prompt == "a robot spinning in the forest"
    assert case.bind == {"spinning_cat": ["a", "spinning in the forest"]}


@pytest.mark.parametrize("rest", [", at the beach", ": sliding", "."])
def test_punctuation_after_a_new_word_is_no_problem_and_alone_is_bound_to_nothing(rest):
    case = as_case(Application(source="spinning_cat", prompt=f"a cat{rest}", swap={"cat": "robot"}))
    more = [] if rest == "." else [(7, len(case.prompt))]
    assert spans(case.prompt, case.bind)["spinning_cat"] == [(0, 1), *more]


def test_a_decomposition_binds_the_kept_words_alone():
    case = as_case(Application(**KEEP))
    assert case.prompt == KEEP["prompt"] and case.bind == {"spinning_cat": ["cat"]}


def test_the_truth_takes_from_the_source_what_is_kept(tmp_path):
    toy_config = config(tmp_path, alone=KEEP, edited=SWAP)
    own = scene_of(toy_config.sources["spinning_cat"])
    alone, edited = (applications.target(toy_config, toy_config.applications[name]) for name in ("alone", "edited"))
    assert alone.actors[0].hue_a == own.actors[0].hue_a and alone.actors[0].motion.word == "bouncing"
    assert alone.backdrop.word == "space"
    assert edited.actors[0].word == "robot" and edited.actors[0].hue_a != own.actors[0].hue_a
    assert edited.actors[0].motion == own.actors[0].motion and edited.backdrop == own.backdrop


@needs_zoo
def test_the_truth_scores_high_and_the_source_itself_does_not(tmp_path):
    toy_config = config(tmp_path, alone=KEEP, edited=SWAP)
    probe, own = Probe.open(toy_config.models.probe), render(scene_of(toy_config.sources["spinning_cat"]))
    for name, other in (("alone", "gone"), ("edited", "changed")):
        entry = toy_config.applications[name]
        right, source = probe.read(np.stack([render(applications.target(toy_config, entry)), own]))
        right, source = (applications.measure(toy_config, entry, reading) for reading in (right, source))
        assert right["kept"] > 0.8 and right[other] > source[other] + 0.2


@needs_zoo
def test_the_table_sets_each_row_against_the_plain_prompt(tmp_path, monkeypatch):
    toy_config = config(tmp_path, alone=KEEP, edited=SWAP)
    toy.write_media(toy_config)
    shown = {None: "robot_spins", "bico": "cat_bounces"}

    def clips(config, row, name, entry, backbone):
        return [render(toy.truth_scene(config, shown[row]))] * len(config.seeds)

    monkeypatch.setattr(applications, "_clips", clips)
    applications.applications(toy_config, backbone=None)
    table = pd.read_csv(tmp_path / "applications.csv", index_col=["application", "measured"])
    assert list(table.index) == [("alone", "kept"), ("alone", "gone"), ("edited", "kept"), ("edited", "changed")]
    assert table.loc[("edited", "changed"), "gain"] < -0.5  # the plain prompt shows a robot, BiCo does not
    assert (tmp_path / "figures" / "applications" / "alone.png").exists()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"keep": ["cat"]}, "expected either 'keep' .decomposition. or 'swap' .editing., not both or none"),
        ({"swap": {"dog": "robot"}}, "applications.edited: 'dog' is not in the prompt"),
        ({"source": "spinning_dog"}, "applications.edited: no source 'spinning_dog': did you mean 'spinning_cat'"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(tmp_path, change, expected):
    with pytest.raises(InputError, match=expected):
        config(tmp_path, edited=SWAP | change)


def test_own_media_have_no_truth_to_measure_against(tmp_path):
    values = config(tmp_path, edited=SWAP).model_dump(mode="json")
    values["models"]["probe"] = None
    with pytest.raises(InputError, match="for own media use `bico decompose` and `bico edit`"):
        load(values)


def test_what_no_word_moves_stands_still(tmp_path):
    toy_config = config(tmp_path, alone=KEEP | {"prompt": "a cat in space"}, moving=KEEP)
    still, moving = (applications.target(toy_config, entry) for entry in toy_config.applications.values())
    assert still.actors[0].motion is None and moving.actors[0].motion.word == "bouncing"


@needs_zoo
def test_a_row_named_base_is_compared_with_the_plain_prompt(tmp_path, monkeypatch):
    values = config(tmp_path, edited=SWAP).model_dump(mode="json")
    values |= {"methods": {"base": {"method": "bico"}}, "tables": {"table1": {"base": None}}, "curves": {}}
    toy_config, clips = load(values), {None: "robot_spins", "base": "cat_bounces"}
    toy.write_media(toy_config)

    def of_one_source(config, row, *others):
        return ((SimpleNamespace(seed=seed), render(toy.truth_scene(config, clips[row]))) for seed in config.seeds)

    monkeypatch.setattr(applications, "of_one_source", of_one_source)
    table = applications.applications(toy_config, backbone=None).set_index("measured")
    assert table.loc["changed", "gain"] < -0.5


def test_what_is_kept_does_not_count_as_not_gone(tmp_path):
    """Read in a clip: the source's own subject, and nothing else of the source."""
    toy_config = config(tmp_path, alone=KEEP)
    own = scene_of(toy_config.sources["spinning_cat"])
    actor, backdrop = own.actors[0], own.backdrop
    words = {"subject": {actor.word: 1.0}, "pattern": {actor.pattern: 1.0}, "scene": {backdrop.word: 0.0}}
    values = {"hue_a": actor.hue_a, "hue_b": actor.hue_b, "shape": actor.shape}
    values |= {"sky": (backdrop.sky + 0.5) % 1, "ground": (backdrop.ground + 0.5) % 1}
    still = np.repeat(trajectory(own)[0][:1], 9, axis=0)
    found = applications.measure(toy_config, toy_config.applications["alone"], Reading(words, values, still, {}))
    assert found["kept"] > 0.9 and found["gone"] == pytest.approx(1)
