"""What the trainings of the zoo read: rendered pools and batches."""

from pathlib import Path

import numpy as np

from bico.toybox.render import render
from bico.zoo import data
from bico.zoo.data import TRAIN_SEED, clip_pool, draw_batch, in_parallel, scenes


def test_many_items_are_worked_on_in_parallel_and_come_in_order():
    assert list(in_parallel(str, range(1200))) == [str(number) for number in range(1200)]


def test_a_pool_is_rendered_once_and_kept_whole(tmp_path: Path):
    pool = clip_pool(tmp_path / "clips.npy", 3, TRAIN_SEED)
    assert np.array_equal(pool, np.stack([render(scene) for scene in scenes(3, TRAIN_SEED)]))
    written = (tmp_path / "clips.npy").stat().st_mtime_ns
    assert np.array_equal(clip_pool(tmp_path / "clips.npy", 3, TRAIN_SEED), pool)
    assert (tmp_path / "clips.npy").stat().st_mtime_ns == written
    assert {path.name for path in tmp_path.iterdir()} == {"clips.npy", "clips.txt"}


def test_a_pool_of_another_size_or_another_renderer_is_not_reused(tmp_path: Path, monkeypatch):
    path = tmp_path / "clips.npy"
    assert len(clip_pool(path, 2, TRAIN_SEED)) == 2
    assert len(clip_pool(path, 3, TRAIN_SEED)) == 3
    written = path.stat().st_mtime_ns
    monkeypatch.setattr(data, "code_digest", lambda module: "another renderer")
    assert len(clip_pool(path, 3, TRAIN_SEED)) == 3 and path.stat().st_mtime_ns > written


def test_a_batch_depends_on_seed_and_step_alone():
    indices, rng = draw_batch(50, 8, 0, 3)
    again, same = draw_batch(50, 8, 0, 3)
    assert np.array_equal(indices, again) and rng.random() == same.random()
    assert len(set(indices.tolist())) == 8 and not np.array_equal(indices, draw_batch(50, 8, 0, 4)[0])
