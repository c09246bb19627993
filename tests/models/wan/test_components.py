import pytest
import tiny
import torch

from bico.models.wan.components import best_dtype


@pytest.mark.parametrize(
    ("instructions", "on_cpu"),
    [
        ({"_is_amx_tile_supported"}, torch.bfloat16),
        ({"_is_avx512_bf16_supported"}, torch.bfloat16),
        (set(), torch.float32),
    ],
)
def test_bfloat16_is_taken_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, instructions: set[str], on_cpu: torch.dtype
) -> None:
    for asked in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, asked, lambda asked=asked: asked in instructions)
    assert (best_dtype("cpu"), best_dtype("cuda")) == (on_cpu, torch.bfloat16)


def test_an_offloaded_text_encoder_is_kept_and_none_is_opened_for_it() -> None:
    opened = tiny.backbone()
    opened.offload_text_encoder()
    assert "text_encoder" not in vars(opened)
    text_encoder = opened.text_encoder
    before = opened.encode_prompts(["a cat"])[0]
    opened.offload_text_encoder()
    assert opened.text_encoder is text_encoder and torch.equal(opened.encode_prompts(["a cat"])[0], before)
