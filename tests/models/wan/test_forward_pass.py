from collections.abc import Callable

import pytest
import tiny
import torch
from diffusers import WanPipeline

from bico.models.wan.backbone import Backbone


@pytest.fixture(scope="module")
def pipeline() -> WanPipeline:
    return tiny.saved_pipeline()


@torch.no_grad()
def test_velocity_is_the_transformers_own(backbone: Backbone, pipeline: WanPipeline) -> None:
    prompt_embeds, _ = backbone.encode_prompts([tiny.PROMPT, "a cat"])
    latents, timesteps = torch.randn(2, 4, 2, 4, 4), torch.tensor([900.0, 100.0])
    expected = pipeline.transformer(latents, timesteps, prompt_embeds, return_dict=False)[0]
    context = backbone.context(prompt_embeds)
    assert torch.equal(backbone.velocity(latents, timesteps, context), expected)
    assert torch.equal(backbone.velocity(latents, timesteps, [context] * backbone.num_blocks), expected)


@pytest.mark.parametrize("training", [True, False])
def test_the_path_is_the_one_that_is_asked_for_with_gradients_and_without(backbone: Backbone, training: bool) -> None:
    context, latents = tiny.contexts(backbone)[0].requires_grad_(), torch.randn(1, 4, 2, 4, 4)
    velocity = backbone.velocity(latents, torch.tensor([500.0]), context, training=training)
    with torch.no_grad():
        assert torch.equal(backbone.velocity(latents, torch.tensor([500.0]), context, training=training), velocity)
    assert velocity.requires_grad


def test_each_block_sees_its_own_context(backbone: Backbone) -> None:
    context, _ = tiny.contexts(backbone)
    latents, timesteps = torch.randn(1, 4, 2, 4, 4), torch.tensor([500.0])
    mine = [context.clone().requires_grad_() for _ in range(backbone.num_blocks)]
    loss = backbone.velocity(latents, timesteps, mine, training=True).square().mean()
    assert all(gradient.abs().sum() > 0 for gradient in torch.autograd.grad(loss, mine))


def test_nothing_before_the_first_binder_takes_a_gradient(backbone: Backbone) -> None:
    takes = {}
    layers = {
        name: backbone.transformer.get_submodule(name) for name in ("blocks.0.attn1", "blocks.0.attn2", "blocks.1")
    }

    def write_down(name: str) -> Callable:
        return lambda layer, inputs, output: takes.update({name: output.requires_grad})

    handles = [layer.register_forward_hook(write_down(name)) for name, layer in layers.items()]
    context = tiny.contexts(backbone)[0].requires_grad_()
    backbone.velocity(torch.randn(1, 4, 2, 4, 4), torch.tensor([500.0]), context, training=True)
    for handle in handles:
        handle.remove()
    assert takes == {"blocks.0.attn1": False, "blocks.0.attn2": True, "blocks.1": True}
