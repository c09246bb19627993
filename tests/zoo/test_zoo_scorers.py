"""The training of CLIP and DINO, at small size."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from bico.zoo import clip, dino, training


def test_two_views_of_an_instance_show_it_in_two_scenes_with_the_same_hues(monkeypatch):
    monkeypatch.setattr(dino, "SMALLEST_CROP", 1.0)  # whole frames
    monkeypatch.setattr(dino, "degrade", lambda frames, noise: frames)
    pool = np.zeros((3, 2 * dino.VIEWS, 48, 48, 3), np.uint8)
    pool += np.uint8([10, 100, 200])  # a colour of three different channels
    pool += np.arange(dino.VIEWS, dtype=np.uint8).repeat(2)[:, None, None, None]  # and a scene's own shade
    centres, chosen = np.full((3, 2 * dino.VIEWS, 2), 0.5), np.arange(3).repeat(20)
    one, other = dino._views(pool, centres, chosen, np.random.default_rng(0))
    colours = [(view.mean((2, 3)) + 1) * 127.5 for view in (one, other)]
    apart = (colours[0] - colours[1]).round()
    assert (apart == apart[:, :1]).all() and (apart != 0).all(), "the same order of channels, never the same scene"
    assert len({tuple(colour.argsort().tolist()) for colour in colours[0]}) == 6


def test_the_scorers_train_and_resume_to_the_same_weights(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(training, "cosine_rate", lambda *_: 1.0)
    for module, pool, batch in ((clip, 12, 4), (dino, 48, 2)):
        monkeypatch.setattr(module, "POOL", pool)
        monkeypatch.setattr(module, "BATCH", batch)

        def trained(name: str, *stops: int, module=module) -> dict[str, torch.Tensor]:
            folder = tmp_path / module.__name__ / name
            for steps in stops:
                module.train(folder / "out", workdir=folder, steps=steps)
            return load_file(next((folder / "out").glob("*.safetensors")))

        whole, resumed = trained("whole", 4), trained("resumed", 2, 4)
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)
