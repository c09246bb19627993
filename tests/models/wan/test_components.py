import pytest
import tiny
import torch

from bico.models.wan.components import best_dtype


def test_bfloat16_is_taken_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    for tiles, on_cpu in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda tiles=tiles: tiles)
        assert (best_dtype("cpu"), best_dtype("cuda")) == (on_cpu, torch.bfloat16)


def test_an_offloaded_text_encoder_is_kept_and_none_is_opened_for_it() -> None:
    opened = tiny.backbone()
    opened.offload_text_encoder()
    assert "text_encoder" not in vars(opened)
    text_encoder = opened.text_encoder
    before = opened.encode_prompts(["a cat"])[0]
    opened.offload_text_encoder()
    assert opened.text_encoder is text_encoder and torch.equal(opened.encode_prompts(["a cat"])[0], before)
