"""What a binder gains in a caption that it was trained on, and in new sentences."""

from functools import cache

import numpy as np
import pytest
import tiny
import torch
import toy
from conftest import ROOT, needs_zoo

from bico.analysis.control_diversification import gain, gains, losses, new_sentences
from bico.config.reading import load
from bico.core.files import write_json
from bico.methods.bico import learn as bico_learn
from bico.models.binder import HierarchicalBinder
from bico.models.wan.backbone import Backbone
from bico.plan.controls import measured_sources
from bico.plan.passes import NEW_SENTENCES
from bico.plan.trainings import artifact_path
from bico.sources.encoding import encode_source
from bico.toybox.captions import caption, key_words
from bico.toybox.render import render
from bico.toybox.scenes import scene_of
from bico.training.artifacts import save_artifact

ROWS = {"lacks": {"method": "bico", "diversification": False}, "has": {"method": "bico"}}


@pytest.fixture
def config(tmp_path):
    chosen = {"diversification": {"lacks": "lacks", "has": "has"}}
    benchmark = toy.config(tmp_path, methods=ROWS, controls=chosen)
    for source in benchmark.sources:
        write_json(benchmark.paths.concepts(source), {"captions": ["a picture of nothing"]})
    return benchmark


def test_new_sentences_say_the_source_and_none_of_them_is_a_caption_of_it(config):
    first, second, *rest = new_sentences(config, "red_cat")
    assert len({first, second, *rest}) == 2 + len(rest) == NEW_SENTENCES
    assert all("cat" in each and "beach" in each for each in (first, second, *rest))
    write_json(config.paths.concepts("red_cat"), {"captions": ["a cat", first, second]})
    again = new_sentences(config, "red_cat")
    assert not {first, second} & set(again) and set(rest) <= set(again)


def test_sentences_of_a_video_say_its_motion_and_those_of_an_image_say_none(config):
    assert all("bouncing" in each for each in new_sentences(config, "bouncing_car"))
    assert not any("bouncing" in each or "spinning" in each for each in new_sentences(config, "red_cat"))


def test_a_binder_that_changes_nothing_gains_nothing(config, monkeypatch):
    monkeypatch.setattr("bico.analysis.control_diversification.NOISES", 2)
    backbone = tiny.backbone()
    for source in measured_sources(config):
        kind = config.sources[source].kind
        tiny.source(kind).save(config.paths.encoded(source))
        for row in ROWS:
            binder, token = bico_learn.initial(backbone, kind, config.methods[row], seed=0)  # gamma is zero
            if (row, source) == ("has", "red_cat"):
                torch.nn.init.constant_(binder.shared.gamma, 3.0)
            save_artifact(
                artifact_path(config, row, source, 0), binder.state_dict() | {"absorption": token.detach()}, {}
            )
    table = gains(config, backbone).set_index(["method", "source"])
    assert len(table) == 2 * len(config.sources)
    moved = table.loc[("has", "red_cat")]
    assert moved["own"] != 0 and moved["new"] != 0 and moved["own"] != moved["new"]
    assert (table.drop(("has", "red_cat"))[["own", "new"]] == 0).all(axis=None)


def test_losses_are_at_the_same_noises_and_do_not_depend_on_neighbours():
    backbone, encoded = tiny.backbone(), tiny.source("image")
    both = losses(backbone, encoded.latents, encoded.prompt_embeds[:2], encoded.token_counts[:2], 3.0)
    second = losses(backbone, encoded.latents, encoded.prompt_embeds[1:2], encoded.token_counts[1:2], 3.0)
    assert both.shape == (2,) and both[1] == second[0] and both[0] != both[1]


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """Row -> what its binder of a photograph gains in the first of 40 captions, and in new sentences, with the shipped
    backbone."""
    config = load(ROOT / "config" / "toybox.yaml")
    scene, rng = scene_of(config.sources["cat_beach"]), np.random.default_rng(0)
    backbone = Backbone.open(ROOT / config.models.wan, text_slots=config.text_slots)
    captions = [caption(scene, rng, motion=False, detail=0) for _ in range(40)]
    concepts = key_words(scene) | {"kind": "image", "captions": captions}
    encoded = encode_source(backbone, render(scene, 1), concepts)
    new = ["a cat on a beach", "at the beach, a cat", "a picture of a cat at the beach"]
    prompts = (encoded.prompt_embeds[:1], encoded.token_counts[:1]), backbone.encode_prompts(new)
    shift = config.learning_shift
    unbound = [losses(backbone, encoded.latents, *each, shift) for each in prompts]

    @cache
    def gains_of(row: str) -> list[float]:
        workdir, settings = tmp_path_factory.mktemp(row), config.methods[row]
        learned = bico_learn.learn(backbone, encoded, settings, shift=shift, seed=0, workdir=workdir)
        binder = HierarchicalBinder.from_tensors(learned, backbone.num_blocks)
        bound = [losses(backbone, encoded.latents, *each, shift, binder) for each in prompts]
        return [gain(before, after) for before, after in zip(unbound, bound, strict=True)]

    return gains_of


@needs_zoo
def test_one_caption_loses_in_new_sentences_what_many_keep(photograph):
    (one_own, one_new), (many_own, many_new) = photograph("bico_hierarchical"), photograph("bico_diversified")
    assert one_own > 5 and many_own > 5  # both have learned something
    assert one_new - one_own < -1 and one_new - one_own < many_new - many_own - 1


@needs_zoo
def test_binders_of_each_block_gain_more_than_a_global_one(photograph):
    assert photograph("bico_hierarchical")[0] > photograph("bico_global")[0] + 2
