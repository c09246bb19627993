"""The shapes that checks expect of a binder are those of the networks."""

from pathlib import Path

import pytest

from bico.models.binder import HierarchicalBinder
from bico.models.binder_form import ABSORPTION, form

NAME = Path("binder.safetensors")


@pytest.mark.parametrize("hierarchical", [True, False])
@pytest.mark.parametrize(
    "branches", [{}, {"two_branch": True}, {"two_branch": True, "gate": "released"}, {"two_branch": True, "rank": 2}]
)
def test_the_form_is_that_of_the_networks(branches, hierarchical):
    binder = HierarchicalBinder(8, 3, hierarchical=hierarchical, **branches)
    shapes = {name: tuple(tensor.shape) for name, tensor in binder.state_dict().items()} | {ABSORPTION: (2, 8)}
    assert form(NAME, shapes) == shapes
