"""The backbone is opened as the config says."""

import pytest
import torch

from bico.config.reading import load
from bico.pipeline import opening


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_backbone_of_a_config_is_opened_with_all_its_settings(small, monkeypatch, dtype: str) -> None:
    seen = {}
    monkeypatch.setattr(opening.Backbone, "open", lambda folder, **how: seen.update(how, folder=folder))
    asked = {"compile": True, "gradient_checkpointing": "always", "device": "cpu", "text_slots": 48, "dtype": dtype}
    config = load(small | asked)
    opening.open_backbone(config)
    assert seen == {
        "folder": config.models.wan,
        "text_slots": 48,
        "device": "cpu",
        "dtype": getattr(torch, dtype),
        "compiles": True,
        "gradient_checkpointing": "always",
    }
