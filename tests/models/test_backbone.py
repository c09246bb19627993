from collections import Counter as Counts
from collections.abc import Callable
from itertools import groupby
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from diffusers import WanPipeline
from torch.nn.attention import SDPBackend
from torch.utils._python_dispatch import TorchDispatchMode

from bico.models.binder import HierarchicalBinder
from bico.models.wan.backbone import ROOM_FOR_ALL, Backbone, _gelu, _rotate, attention_kernels, best_dtype, compiles_on

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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sampling_and_training_rotate_to_the_same_bits(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(2, 30, 4, 48, generator=draw).to(dtype)
    cos, sin = torch.randn(2, 1, 30, 1, 24, generator=draw).repeat_interleave(2, dim=-1)
    training = _rotate(states, cos, sin)
    with torch.no_grad():
        assert torch.equal(_rotate(states, cos, sin), training) and training.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_training_has_the_gelu_of_sampling(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    eager = torch.linspace(-9, 9, 2001).to(dtype).requires_grad_()
    compiled = eager.detach().clone().requires_grad_()
    expected = _gelu(eager)
    assert torch.equal(expected, F.gelu(eager, approximate="tanh"))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    actual = _gelu(compiled)
    torch.testing.assert_close(actual, expected)
    for activated in (expected, actual):
        activated.sum().backward()
    torch.testing.assert_close(compiled.grad, eager.grad)


@pytest.mark.parametrize("alone", [True, False])
def test_a_captured_pass_gets_and_gives_what_a_plain_one_does(
    backbone: Backbone, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU a graph cannot be captured, but what goes into it and comes out of it can be seen."""
    captured = []

    def capture(run: Callable, inputs: tuple[torch.Tensor, ...]) -> Callable:
        captured.append(inputs)
        return run

    def learned() -> list[torch.Tensor]:
        draw = torch.Generator().manual_seed(0)
        context = contexts(backbone)[0]
        each = [context.clone().requires_grad_() for _ in range(1 if alone else backbone.num_blocks)]
        latents = torch.randn(1, *backbone.latent_shape(tiny.MEDIA), generator=draw)
        velocity = backbone.velocity(latents, torch.tensor([500.0]), each[0] if alone else each)
        velocity.square().sum().backward()
        return [velocity.detach(), *(context.grad for context in each)]

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    plain = learned()
    monkeypatch.setattr(backbone, "_graphs", {})
    for _ in range(2):  # once captured, used again
        assert all(torch.equal(one, other) for one, other in zip(plain, learned(), strict=True))
    assert [len(inputs) for inputs in captured] == [len(plain) + 1]


def test_a_pass_whose_gradient_is_another_is_captured_anew(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", lambda run, inputs: run)
    monkeypatch.setattr(backbone, "_graphs", {})
    latents, context = torch.randn(1, *backbone.latent_shape(tiny.MEDIA)), contexts(backbone)[0]
    for learns in (False, True):
        velocity = backbone.velocity(latents, torch.tensor([500.0]), context.clone().requires_grad_(learns))
    velocity.sum().backward()
    assert len(backbone._graphs) == 2


def test_a_captured_pass_is_not_run_again_before_its_gradient(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second one would overwrite what the gradient of the first needs: a loss of two passes, say."""
    replayed = []

    def capture(run: Callable, inputs: tuple[torch.Tensor, ...]) -> Callable:
        return lambda *inputs: replayed.append(inputs[1].item()) or run(*inputs)

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    monkeypatch.setattr(backbone, "_graphs", {})
    context = contexts(backbone)[0].requires_grad_()
    latents = torch.randn(1, *backbone.latent_shape(tiny.MEDIA))
    for step in (0.0, 10.0):
        passes = [backbone.velocity(latents, torch.tensor([500.0 + step + each]), context) for each in (0.0, 1.0)]
        sum(each.square().sum() for each in passes).backward()
    assert replayed == [500.0, 510.0]


def test_captured_passes_make_room_for_clips_that_are_recomputed(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A video is learned frame by frame first."""
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", lambda run, inputs: run)
    monkeypatch.setattr(backbone, "_graphs", {})
    monkeypatch.setattr("bico.models.wan.backbone.CHECKPOINT_TOKENS", 8)
    context, sigma = contexts(backbone)[0].requires_grad_(), torch.tensor([500.0])
    frame, clip = torch.randn(1, 4, 1, 4, 4), torch.randn(1, *backbone.latent_shape(tiny.MEDIA))
    for latents, gradient, kept in ((frame, True, 1), (clip, False, 1), (clip, True, 0)):
        with torch.set_grad_enabled(gradient):
            velocity = backbone.velocity(latents, sigma, context)
        if gradient:
            velocity.sum().backward()
        assert len(backbone._graphs) == kept


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
    shorter, whole = backbone.encode_embeddings(embeddings, length=10), backbone.encode_embeddings(embeddings)
    torch.testing.assert_close(shorter, whole[:, :10])
    assert not whole[:, 10:].any()


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


def gradient(backbone: Backbone) -> torch.Tensor:
    """Of a loss with respect to the context of all blocks."""
    draw = torch.Generator().manual_seed(0)
    latents, timesteps = torch.randn(1, 4, 2, 4, 4, generator=draw), torch.tensor([500.0])
    leaf = contexts(backbone)[0].clone().requires_grad_()
    return torch.autograd.grad(backbone.velocity(latents, timesteps, leaf).square().mean(), leaf)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recomputing_activations_gives_the_same_gradient(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    opened = {
        recomputes: Backbone.open(tiny.folder(), text_slots=tiny.TEXT_SLOTS, dtype=dtype, recomputes=recomputes)
        for recomputes in ("never", "always", "auto")
    }
    kept = gradient(opened["never"])
    assert torch.equal(gradient(opened["always"]), kept)
    monkeypatch.setattr("bico.models.wan.backbone.CHECKPOINT_TOKENS", 1)
    assert torch.equal(gradient(opened["auto"]), kept)


class Counter(TorchDispatchMode):
    """How often each operator runs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counts = Counts()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.calls[operator] += 1
        return operator(*args, **(kwargs or {}))


def test_recomputing_keeps_attention_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU training writes attention out: here it takes the fused kernel, as on a GPU."""

    def fused(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(*(each.transpose(1, 2) for each in (query, key, value))).transpose(1, 2)

    monkeypatch.setattr("bico.models.wan.backbone._attention", fused)
    calls = {}
    for recomputes in ("never", "always"):
        with Counter() as counter:
            gradient(Backbone.open(tiny.folder(), text_slots=tiny.TEXT_SLOTS, recomputes=recomputes))
        calls[recomputes] = counter.calls
    attention, product = (
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
        torch.ops.aten.addmm.default,
    )
    assert calls["always"][attention] == calls["never"][attention] == 10  # two a block, four in the text encoder
    assert calls["always"][product] > calls["never"][product]


def test_nothing_before_the_first_binder_takes_a_gradient(backbone: Backbone) -> None:
    takes = {}
    layers = {
        name: backbone.transformer.get_submodule(name) for name in ("blocks.0.attn1", "blocks.0.attn2", "blocks.1")
    }

    def write_down(name: str) -> Callable:
        return lambda layer, inputs, output: takes.update({name: output.requires_grad})

    handles = [layer.register_forward_hook(write_down(name)) for name, layer in layers.items()]
    gradient(backbone)
    for handle in handles:
        handle.remove()
    assert takes == {"blocks.0.attn1": False, "blocks.0.attn2": True, "blocks.1": True}


def test_attention_takes_the_fastest_kernel_that_there_is(capsys: pytest.CaptureFixture) -> None:
    assert attention_kernels(None, torch.float32) == []
    assert attention_kernels((9, 0), torch.bfloat16)[:2] == [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]
    assert attention_kernels((8, 0), torch.bfloat16)[0] == SDPBackend.FLASH_ATTENTION
    assert capsys.readouterr().err == ""
    assert SDPBackend.FLASH_ATTENTION not in attention_kernels((7, 5), torch.bfloat16)
    notice = "no flash attention in bfloat16 on a GPU of compute capability 7.5: attention takes a slower kernel\n"
    assert capsys.readouterr().err == notice
    assert SDPBackend.FLASH_ATTENTION not in attention_kernels((9, 0), torch.float32)


def test_without_a_compiler_that_works_training_is_not_compiled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("CppCompileError: C++ compile error\n100 lines more")

    monkeypatch.setattr(torch, "compile", broken)
    compiles_on.cache_clear()
    opened = Backbone.open(tiny.folder(), text_slots=tiny.TEXT_SLOTS, compiles=True)
    before = opened._training_run
    with opened.compiled():
        assert opened._training_run is before
    compiles_on.cache_clear()
    told = capsys.readouterr().err
    assert told.endswith("at half the speed: cannot compile (CppCompileError: C++ compile error)\n")


def test_training_opens_the_transformer_only() -> None:
    opened = tiny.backbone()
    opened.velocity(torch.randn(1, 4, 2, 4, 4), torch.tensor([500.0]), torch.randn(1, tiny.TEXT_SLOTS, opened.width))
    assert {"vae", "text_encoder", "tokenizer"}.isdisjoint(vars(opened))


def test_on_a_small_gpu_the_text_encoder_waits_elsewhere_while_a_clip_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, moves = tiny.backbone(), []
    move = type(opened.text_encoder).to

    def noted(model: torch.nn.Module, device: torch.device | str) -> torch.nn.Module:
        moves.append("parked" if device == "cpu" else "back")  # the device of a backbone is a torch.device
        return move(model, device)

    def clip() -> np.ndarray:
        return opened.generate(*contexts(opened), [0], tiny.SAMPLING, tiny.MEDIA)

    before = clip()
    monkeypatch.setattr(type(opened.text_encoder), "to", noted)
    opened._parks_text_encoder = True
    assert np.array_equal(clip(), before) and np.array_equal(clip(), before)
    assert [move for move, _ in groupby(moves)] == ["back", "parked", "back", "parked"]


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


def test_bfloat16_is_taken_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    for tiles, on_cpu in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda tiles=tiles: tiles)
        assert (best_dtype("cpu"), best_dtype("cuda")) == (on_cpu, torch.bfloat16)


def test_sequences_of_4096_tokens_are_recomputed_and_shorter_ones_are_not(backbone: Backbone) -> None:
    assert backbone.recomputing(torch.Size([1, 4, 16, 32, 32]))
    assert not backbone.recomputing(torch.Size([1, 4, 16, 32, 30]))


def test_the_text_encoder_is_parked_on_small_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    parked = {}
    for device, memory in (("cpu", 0), ("cuda", ROOM_FOR_ALL - 1), ("cuda", ROOM_FOR_ALL)):
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda device, memory=memory: SimpleNamespace(total_memory=memory)
        )
        opened = Backbone.open(tiny.folder(), text_slots=tiny.TEXT_SLOTS, device=device)
        parked[device, memory] = opened._parks_text_encoder
    assert list(parked.values()) == [False, True, False]


def test_graphs_are_captured_for_a_frozen_transformer_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = tiny.compiling(monkeypatch)
    _ = opened.transformer
    opened.device = torch.device("cuda")
    with opened.compiled():
        assert opened._graphs == {}
    opened.transformer.blocks[0].adapters = torch.nn.Linear(1, 1)
    with opened.compiled():
        assert opened._graphs is None
