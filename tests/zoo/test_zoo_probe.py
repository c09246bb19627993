"""The training of the probe, at small size."""

import numpy as np
import pytest
import torch

from bico.toybox import probe
from bico.toybox.render import render
from bico.toybox.words import CLUTTER
from bico.toybox.world import sample_scene
from bico.zoo import clutter, training
from bico.zoo import probe as zoo_probe
from bico.zoo.data import scenes


def test_mirrored_targets_are_those_of_the_mirrored_scene():
    """A flipped clip and its flipped path belong together: the subject is where its pixels are."""
    scene = sample_scene(np.random.default_rng(3), subject="car", scene="space", motion="sliding")
    clips, target = probe.prepare(render(scene)[None]), zoo_probe.targets([scene])
    before = target["poses"].clone()
    zoo_probe._mirror(clips, target, torch.tensor([True]))
    assert torch.allclose(target["poses"][..., 0], 1 - before[..., 0])
    assert torch.equal(target["poses"][..., 1:3], before[..., 1:3])
    assert torch.equal(target["poses"][..., 3], -before[..., 3])
    assert torch.equal(clips, probe.prepare(render(scene)[None, :, :, ::-1]))


def test_a_frozen_clip_shows_one_frame_and_asks_for_its_pose():
    drawn = scenes(3, 7)
    clips, target = probe.prepare(np.stack([render(scene) for scene in drawn])), zoo_probe.targets(drawn)
    before, poses = clips.clone(), target["poses"].clone()
    zoo_probe._freeze(clips, target, torch.tensor([False, False, True]))
    assert torch.equal(clips[2], before[2, :, 2:3].expand(-1, 9, -1, -1)) and torch.equal(clips[:2], before[:2])
    assert torch.equal(target["poses"][2], poses[2, 2].expand(9, -1))
    assert (target["motion"] == probe.WORDS["motion"].index(probe.STILL)).tolist() == [False, False, True]


def test_amounts_of_looks_that_are_not_there_count_for_nothing():
    drawn = scenes(40, 7)
    target = zoo_probe.targets(drawn) | {"turns": torch.zeros(40, 9, 5)}
    absent = target["light_amount"].isnan()
    output = probe.Probe().eval()(probe.prepare(np.stack([render(scene) for scene in drawn]))) | {
        "places": torch.zeros(40, 9, 3),
        "turns": torch.zeros(40, 9, 5),
    }
    error = zoo_probe.loss_of(output, target)
    output["light_amount"] = torch.where(absent, 100.0, output["light_amount"])
    assert absent.any() and not absent.all() and torch.equal(zoo_probe.loss_of(output, target), error)


def test_training_resumes_exactly(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setitem(zoo_probe.POOL, "cpu", 12)
    monkeypatch.setitem(zoo_probe.BATCH, "cpu", 2)
    monkeypatch.setattr(clutter, "POOL", 12)
    monkeypatch.setattr(clutter, "BATCH", 2)
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 2)
    zoo_probe.train(tmp_path / "straight", workdir=tmp_path / "a", steps=4)
    calls, loss_of = [], zoo_probe.loss_of

    def stopped(*args):
        calls.append(None)
        if len(calls) == 4:  # in the last step
            raise KeyboardInterrupt
        return loss_of(*args)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(zoo_probe, "loss_of", stopped)
        zoo_probe.train(tmp_path / "resumed", workdir=tmp_path / "b", steps=4)
    zoo_probe.train(tmp_path / "resumed", workdir=tmp_path / "b", steps=4)
    for file in ("model.safetensors", "clutter.safetensors"):
        straight, resumed = (tmp_path / name / file for name in ("straight", "resumed"))
        assert straight.read_bytes() == resumed.read_bytes(), file


def test_clutter_is_taught_to_a_probe_that_stays_as_it_is_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr(clutter, "POOL", 12)
    monkeypatch.setattr(clutter, "BATCH", 2)
    probe.Probe().save(tmp_path / "probe")
    before = {path.name: path.read_bytes() for path in (tmp_path / "probe").iterdir()}
    clutter.train(tmp_path / "probe", workdir=tmp_path / "work", steps=2)
    after = {path.name: path.read_bytes() for path in (tmp_path / "probe").iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"clutter.safetensors"}
    assert before.keys() == after.keys()


def test_half_of_the_scenes_that_teach_clutter_have_some_of_every_kind():
    cast = clutter.scenes(400, 7)
    wanted = clutter.targets(cast)
    assert 0.4 < (wanted.sum(dim=1) > 0).float().mean() < 0.6
    assert (wanted.mean(dim=0) > 0.15).all()
    (kind,) = (item.kind for item in next(scene for scene in cast if len(scene.clutter) == 1).clutter)
    first = next(row for row, scene in zip(wanted, cast, strict=True) if len(scene.clutter) == 1)
    assert first.tolist() == [float(kind == name) for name in CLUTTER]
