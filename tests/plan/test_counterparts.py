"""Sources that the control of absorption learns: the same ones, with clutter and without."""

from dataclasses import replace

from conftest import ROOT

from bico.config.reading import load
from bico.plan.counterparts import counterparts
from bico.plan.trainings import artifact_path, learned_items
from bico.toybox.scenes import scene_of


def test_a_counterpart_is_its_source_but_for_clutter():
    config = load(ROOT / "config" / "toybox.yaml")
    other = counterparts(config)
    assert other.sources.keys() == config.sources.keys()
    for name, entry in other.sources.items():
        own, counterpart = scene_of(config.sources[name]), scene_of(entry)
        assert bool(own.clutter) != bool(counterpart.clutter)
        assert replace(own, clutter=()) == replace(counterpart, clutter=())


def test_counterparts_are_learned_by_one_row_and_stand_apart_from_what_tables_use():
    config = load(ROOT / "config" / "toybox.yaml")
    other, row = counterparts(config), config.controls.absorption.row
    assert list(other.methods) == [row] and list(learned_items(other, row)) == sorted(config.sources)
    for name in other.sources:
        path = artifact_path(other, row, name, 0)
        assert path == config.results / f"controls/learned/{row}/{name}/0.safetensors"
        assert path != artifact_path(config, row, name, 0)


def test_sources_that_no_case_binds_have_no_counterpart(toybox):
    toybox["cases"] = {
        "one": {"prompt": "a cat bouncing", "bind": {"cat_beach": ["cat"], "fish_bouncing": ["bouncing"]}}
    }
    assert set(counterparts(load(toybox)).sources) == {"cat_beach", "fish_bouncing"}
