import tiny
import torch

from bico.models.wan.attention_maps import recorded, word_maps

PROMPT = "a cat bouncing at the beach"


def test_every_place_shares_its_attention_among_all_slots():
    backbone = tiny.backbone()
    latents = tiny.source("video").latents
    context = backbone.context(backbone.encode_prompts([PROMPT])[0])
    halves = {"first": range(10), "second": range(10, tiny.TEXT_SLOTS)}
    maps = word_maps(backbone, latents, context, halves)
    assert maps["first"].shape == (2, 2, 2)  # patches of 1x2x2 on latents of 2x4x4
    assert torch.allclose(maps["first"] + maps["second"], torch.ones(2, 2, 2), atol=1e-5)
    assert maps["first"].min() > 0


def test_a_token_in_two_slots_draws_the_same_attention_in_each():
    backbone = tiny.backbone()
    latents = tiny.source("image").latents
    context = backbone.context(backbone.encode_prompts([PROMPT])[0])
    plain = word_maps(backbone, latents, context, {"cat": [1]})["cat"]
    twice = context.clone()
    twice[0, 2] = context[0, 1]
    both = word_maps(backbone, latents, twice, {"one": [1], "other": [2]})
    assert torch.allclose(both["one"], both["other"], atol=1e-6)
    assert not torch.allclose(both["one"], plain, atol=1e-6)


def test_recording_changes_no_velocity_and_ends_with_its_block():
    backbone = tiny.backbone()
    latents, timesteps = tiny.source("video").latents[None], torch.tensor([500.0])
    context = backbone.context(backbone.encode_prompts([PROMPT])[0])
    processors = [block.attn2.processor for block in backbone.transformer.blocks]
    with torch.no_grad():
        before = backbone.velocity(latents, timesteps, context)
        with recorded(backbone) as weights:
            inside = backbone.velocity(latents, timesteps, context)
        backbone.velocity(latents, timesteps, context)
    assert torch.equal(before, inside)
    assert len(weights) == backbone.num_blocks and weights[0].shape == (1, 8, tiny.TEXT_SLOTS)
    assert [block.attn2.processor for block in backbone.transformer.blocks] == processors


@torch.no_grad()
def test_a_map_is_the_mean_of_all_blocks_and_noise_levels():
    backbone, latents, slots = tiny.backbone(), tiny.source("video").latents, [1, 2]
    context = backbone.context(backbone.encode_prompts([PROMPT])[0])
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    layers, queries, by_hand = [block.attn2 for block in backbone.transformer.blocks], [], []
    for layer in layers:
        layer.norm_q.register_forward_hook(lambda module, inputs, query: queries.append(query))
    for sigma in (0.3, 0.8):
        queries.clear()
        backbone.velocity(((1 - sigma) * latents + sigma * noise)[None], torch.tensor([1000 * sigma]), context)
        for layer, query in zip(layers, queries, strict=True):
            both = (
                each.unflatten(2, (layer.heads, -1)).transpose(1, 2)
                for each in (query, layer.norm_k(layer.to_k(context)))
            )
            query, key = both
            weights = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(dim=-1)
            by_hand.append(weights[0, ..., slots].sum(dim=-1).mean(dim=0))
    found = word_maps(backbone, latents, context, {"cat": slots}, sigmas=(0.3, 0.8))["cat"]
    torch.testing.assert_close(found.flatten(), torch.stack(by_hand).mean(dim=0))
