"""On the shipped models: clutter of a photograph comes along with its scene when nothing absorbs it."""

import numpy as np
from conftest import ROOT, needs_zoo

from bico.analysis.control_absorption import clutter_in_clips
from bico.config.reading import load, read_yaml
from bico.core.files import write_json
from bico.pipeline.counterparts import learn_counterparts
from bico.pipeline.encode import encode
from bico.pipeline.learn import learn
from bico.pipeline.opening import open_backbone
from bico.toybox.captions import caption, key_words
from bico.toybox.scenes import scene_of, write_source

ROW = "bico_diversified"


@needs_zoo
def test_clutter_of_a_photograph_comes_along_with_its_scene_and_not_from_a_photograph_without(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    values = read_yaml(ROOT / "config" / "toybox.yaml")
    config = load(
        {key: value for key, value in values.items() if key not in ("curves", "applications", "tables", "tuning")}
        | {
            "results": str(tmp_path),
            "compile": False,
            "sources": {"cat_beach": values["sources"]["cat_beach"]},
            "cases": {"cat": {"prompt": "a cat", "bind": {"cat_beach": ["cat"]}}},
            "methods": {ROW: values["methods"][ROW]},
            "tables": {"table1": {ROW: None}},
            "controls": {"absorption": {"row": ROW}},
        }
    )
    scene, rng = scene_of(config.sources["cat_beach"]), np.random.default_rng(0)
    captions = [caption(scene, rng, motion=False, detail=0) for _ in range(40)]
    frames = {"frame_captions": [], "frame_indices": []}
    concepts = {"kind": "image", **key_words(scene), "captions": captions, **frames}
    write_source(config, "cat_beach")
    write_json(config.paths.concepts("cat_beach"), concepts)
    encode(config)
    learn(config, ROW, part=0)
    learn_counterparts(config)
    table = clutter_in_clips(config, open_backbone(config))
    found = table[table["bound"] == "scene"].groupby("clutter")["probability"].mean()
    assert found[True] > 0.2 and found[False] < 0.05
