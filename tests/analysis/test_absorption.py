"""Areas of a clip and how densely a map looks at them; tests/pipeline/test_workflow.py makes the maps themselves."""

import numpy as np
import tiny
import torch
import toy

from bico.analysis.absorption import TOKEN, WORD, density, regions, source_maps, with_and_without
from bico.methods.bico import learn as bico_learn
from bico.plan.trainings import artifact_path
from bico.toybox.world import Clutter, sample_scene
from bico.training.artifacts import save_artifact


def test_areas_part_the_frame():
    scene = sample_scene(np.random.default_rng(3), subject="robot", scene="city", motion="sliding")
    ball = Clutter("ball", 0.2, 0.14, 0.8)
    areas = regions(type(scene)(scene.actors, scene.backdrop, clutter=(ball,)), (9, 6, 6))
    assert torch.allclose(sum(areas.values()), torch.ones(9, 6, 6))
    assert areas["clutter"][0, 4, 0] > 0.5 and areas["clutter"][:, :3].sum() == 0  # below on the left
    assert areas["subject"].sum() > areas["clutter"].sum() > 0
    assert not regions(scene, (9, 6, 6))["clutter"].any()


def test_density_is_relative_to_the_whole_frame():
    left = torch.zeros(1, 2, 2)
    left[..., 0] = 1
    whole, nowhere = torch.ones(1, 2, 2), torch.zeros(1, 2, 2)
    found = density(left, {"left": left, "right": 1 - left, "all": whole, "nowhere": nowhere})
    assert (found["left"], found["right"], found["all"]) == (2, 0, 1) and np.isnan(found["nowhere"])


def test_the_row_with_the_token_comes_first(tmp_path):
    rows = {row: {"method": "bico"} for row in ("without", "with")}
    config = toy.config(tmp_path, methods=rows, tables={"table2": {"without": 5, "with": 7}})
    assert with_and_without(config) == ("with", "without")


def test_word_and_token_are_looked_for_where_they_stand(tmp_path, monkeypatch):
    # No row's name is taken for the plain prompt, not even the one that the table gives it.
    rows = {"without": {"method": "bico", "absorption": {"tokens": 0}}, "unbound": {"method": "bico"}}
    config = toy.config(tmp_path, methods=rows, tables={"table2": {"without": 5, "unbound": 7}})
    backbone, encoded, asked = tiny.backbone(), tiny.source("image"), []
    for row in rows:
        binder, token = bico_learn.initial(backbone, "image", config.methods[row], seed=0)
        save_artifact(
            artifact_path(config, row, "red_cat", 0), binder.state_dict() | {"absorption": token.detach()}, {}
        )

    def word_maps(backbone, latents, contexts, slots):
        asked.append((contexts[-1], slots))
        return dict.fromkeys(slots, torch.zeros(1, 1, 1))

    monkeypatch.setattr("bico.analysis.absorption.word_maps", word_maps)
    maps = source_maps(config, backbone, "red_cat", encoded, "cat")
    assert list(maps) == [(None, WORD), ("unbound", WORD), ("unbound", TOKEN), ("without", WORD)]
    behind = int(encoded.token_counts[0])  # the caption and its end of sequence
    slots = [{WORD: [1]}, {WORD: [1], TOKEN: [behind]}, {WORD: [1]}]  # plain prompt, with the token, without it
    assert [found for _, found in asked[:3]] == slots
    _, token = bico_learn.initial(backbone, "image", config.methods["unbound"], seed=0)
    assert torch.equal(asked[1][0][0, behind], token[0])
