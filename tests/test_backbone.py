import numpy as np
import pytest
import tiny
import torch
from diffusers import WanPipeline

from bico.backbone import Backbone
from bico.binder import HierarchicalBinder

PROMPT = "a striped cat  bouncing at the beach"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tiny.backbone()


@pytest.fixture(scope="module")
def pipeline() -> WanPipeline:
    opened = WanPipeline.from_pretrained(tiny.folder())
    opened.set_progress_bar_config(disable=True)
    return opened


def reference(pipeline: WanPipeline, seed: int, output_type: str) -> np.ndarray | torch.Tensor:
    """What diffusers' own pipeline makes of PROMPT."""
    return pipeline(
        prompt=PROMPT,
        negative_prompt=tiny.SAMPLING.negative_prompt,
        height=tiny.MEDIA.height,
        width=tiny.MEDIA.width,
        num_frames=tiny.MEDIA.num_frames,
        num_inference_steps=tiny.SAMPLING.steps,
        guidance_scale=tiny.SAMPLING.guidance_scale,
        max_sequence_length=tiny.TEXT_SLOTS,
        generator=torch.Generator().manual_seed(seed),
        output_type=output_type,
    ).frames


@torch.no_grad()
def contexts(backbone: Backbone) -> tuple[torch.Tensor, torch.Tensor]:
    prompt_embeds, _ = backbone.encode_prompts([PROMPT, tiny.SAMPLING.negative_prompt])
    return backbone.context(prompt_embeds[:1]), backbone.context(prompt_embeds[1:])


def test_an_untrained_binder_repeats_wan_pipeline_bit_for_bit(backbone: Backbone, pipeline: WanPipeline) -> None:
    context, negative = contexts(backbone)
    binder = HierarchicalBinder(backbone.width, backbone.num_blocks, two_branch=True)
    every_token = torch.ones(context.shape[:2], dtype=torch.bool)
    with torch.no_grad():
        bound = binder(context, every_token)
    latents = backbone.sample(bound, negative, 3, tiny.SAMPLING, tiny.MEDIA)
    assert torch.equal(latents, reference(pipeline, 3, "latent"))


def test_generated_pixels_are_those_of_wan_pipeline(backbone: Backbone, pipeline: WanPipeline) -> None:
    clips = backbone.generate(*contexts(backbone), [3, 4], tiny.SAMPLING, tiny.MEDIA)
    for clip, seed in zip(clips, [3, 4], strict=True):
        assert np.array_equal(clip, (reference(pipeline, seed, "np")[0] * 255).round().astype(np.uint8))


def test_bfloat16_repeats_wan_pipeline_too() -> None:
    half = Backbone.open(tiny.folder(), text_slots=tiny.TEXT_SLOTS, dtype=torch.bfloat16)
    pipeline = WanPipeline.from_pretrained(tiny.folder(), vae=half.vae, dtype=torch.bfloat16)
    pipeline.set_progress_bar_config(disable=True)
    context, negative = contexts(half)
    latents = half.sample(context, negative, 3, tiny.SAMPLING, tiny.MEDIA)
    assert torch.equal(latents, reference(pipeline, 3, "latent"))


@torch.no_grad()
def test_prompt_embeddings_are_those_of_wan_pipeline(backbone: Backbone, pipeline: WanPipeline) -> None:
    prompt_embeds, token_counts = backbone.encode_prompts(["a cat", PROMPT])
    for embedded, prompt in zip(prompt_embeds, ["a cat", PROMPT], strict=True):
        expected, _ = pipeline.encode_prompt(
            prompt, max_sequence_length=tiny.TEXT_SLOTS, do_classifier_free_guidance=False
        )
        assert torch.equal(embedded, expected[0])
    assert token_counts.tolist() == [3, 10]
    assert not prompt_embeds[0, 3:].any()


@torch.no_grad()
def test_shorter_padding_in_the_text_encoder_changes_rounding_only(backbone: Backbone) -> None:
    embeddings = [backbone.input_embeddings(prompt) for prompt in ("a cat", PROMPT)]
    torch.testing.assert_close(
        backbone.encode_embeddings(embeddings, length=10), backbone.encode_embeddings(embeddings)
    )


@torch.no_grad()
def test_velocity_is_the_transformers_own(backbone: Backbone, pipeline: WanPipeline) -> None:
    prompt_embeds, _ = backbone.encode_prompts([PROMPT, "a cat"])
    latents, timesteps = torch.randn(2, 4, 2, 4, 4), torch.tensor([900.0, 100.0])
    expected = pipeline.transformer(latents, timesteps, prompt_embeds, return_dict=False)[0]
    context = backbone.context(prompt_embeds)
    assert torch.equal(backbone.velocity(latents, timesteps, context), expected)
    assert torch.equal(backbone.velocity(latents, timesteps, [context] * backbone.num_blocks), expected)


def test_written_out_attention_of_training_agrees_with_the_fused_one(backbone: Backbone) -> None:
    context, _ = contexts(backbone)
    latents, timesteps = torch.randn(1, 4, 2, 4, 4), torch.tensor([500.0])
    with torch.no_grad():
        fused = backbone.velocity(latents, timesteps, context)
    torch.testing.assert_close(backbone.velocity(latents, timesteps, context), fused)


def test_each_block_sees_its_own_context(backbone: Backbone) -> None:
    context, _ = contexts(backbone)
    latents, timesteps = torch.randn(1, 4, 2, 4, 4), torch.tensor([500.0])
    mine = [context.clone().requires_grad_() for _ in range(backbone.num_blocks)]
    loss = backbone.velocity(latents, timesteps, mine).square().mean()
    assert all(gradient.abs().sum() > 0 for gradient in torch.autograd.grad(loss, mine))


def test_recomputing_activations_gives_the_same_gradient(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    context, _ = contexts(backbone)
    latents, timesteps = torch.randn(1, 4, 2, 4, 4), torch.tensor([500.0])

    def gradient() -> torch.Tensor:
        leaf = context.clone().requires_grad_()
        return torch.autograd.grad(backbone.velocity(latents, timesteps, leaf).square().mean(), leaf)[0]

    kept = gradient()
    monkeypatch.setattr("bico.backbone.CHECKPOINT_TOKENS", 1)
    assert torch.equal(gradient(), kept)


def test_training_opens_the_transformer_only() -> None:
    opened = tiny.backbone()
    opened.velocity(torch.randn(1, 4, 2, 4, 4), torch.tensor([500.0]), torch.randn(1, tiny.TEXT_SLOTS, opened.width))
    assert {"vae", "text_encoder", "tokenizer"}.isdisjoint(vars(opened))


def test_clips_become_normalised_latents_and_come_back(backbone: Backbone) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    latents = backbone.encode_clip(frames)
    assert latents.shape == (4, 2, 4, 4)
    pixels = torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 127.5 - 1
    with torch.no_grad():
        raw = backbone.vae.encode(pixels).latent_dist.mode()[0]
    mean, std = (torch.tensor(values).view(-1, 1, 1, 1) for values in ([0.1, -0.2, 0.3, 0.0], [0.7, 1.3, 0.9, 1.1]))
    torch.testing.assert_close(latents, (raw - mean) / std)
    decoded = backbone.decode_clip(latents[None])
    assert decoded.shape == (1, 5, 32, 32, 3)
    assert decoded.dtype == np.uint8
    assert backbone.encode_clip(frames[:1]).shape == (4, 1, 4, 4)
