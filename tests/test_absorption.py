"""Areas of a clip and how densely a map looks at them; the maps themselves are made in tests/test_workflow.py."""

import numpy as np
import torch

from bico.absorption import density, regions
from bico.toybox.world import Clutter, sample_scene


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
