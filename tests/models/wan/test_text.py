import pytest
import tiny
import torch
from diffusers import WanPipeline

from bico.models.wan.backbone import Backbone


@pytest.fixture(scope="module")
def pipeline() -> WanPipeline:
    return tiny.saved_pipeline()


@torch.no_grad()
def test_prompt_embeddings_are_those_of_wan_pipeline(backbone: Backbone, pipeline: WanPipeline) -> None:
    prompt_embeds, token_counts = backbone.encode_prompts(["a cat", tiny.PROMPT])
    for embedded, prompt in zip(prompt_embeds, ["a cat", tiny.PROMPT], strict=True):
        expected, _ = pipeline.encode_prompt(
            prompt, max_sequence_length=tiny.TEXT_SLOTS, do_classifier_free_guidance=False
        )
        assert torch.equal(embedded, expected[0])
    assert token_counts.tolist() == [3, 10]
    assert not prompt_embeds[0, 3:].any()


@torch.no_grad()
def test_shorter_padding_in_the_text_encoder_changes_rounding_only(backbone: Backbone) -> None:
    embeddings = [backbone.input_embeddings(prompt) for prompt in ("a cat", tiny.PROMPT)]
    shorter, whole = backbone.encode_embeddings(embeddings, length=10), backbone.encode_embeddings(embeddings)
    torch.testing.assert_close(shorter, whole[:, :10])
    assert not whole[:, 10:].any()
