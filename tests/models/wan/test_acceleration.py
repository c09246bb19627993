from collections import Counter as Counts
from collections.abc import Callable

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from bico.models.wan import token_limits
from bico.models.wan.acceleration import (
    AcceleratedPass,
    accelerated,
    clips_at_once,
    compiles_on,
    gelu,
    run_block_checkpointed,
    uses_checkpointing,
)
from bico.models.wan.backbone import Backbone
from bico.models.wan.forward_pass import run_block


@pytest.fixture
def captured(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> AcceleratedPass:
    """Training passes of the backbone are captured. Without a GPU a "graph" is the pass itself."""
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", lambda run, inputs: run)
    training_pass = AcceleratedPass(backbone, compiles=False, captures=True)
    monkeypatch.setattr(backbone, "training_pass", training_pass)
    return training_pass


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_training_has_the_gelu_of_sampling(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    eager = torch.linspace(-9, 9, 2001).to(dtype).requires_grad_()
    compiled = eager.detach().clone().requires_grad_()
    expected = gelu(eager)
    assert torch.equal(expected, F.gelu(eager, approximate="tanh"))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    actual = gelu(compiled)
    torch.testing.assert_close(actual, expected)
    for activated in (expected, actual):
        activated.sum().backward()
    torch.testing.assert_close(compiled.grad, eager.grad)


@pytest.mark.parametrize("alone", [True, False])
def test_a_captured_pass_gets_and_gives_what_a_plain_one_does(
    backbone: Backbone, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU a graph cannot be captured, but what goes into it and comes out of it can be seen."""
    inputs_of_graphs = []

    def capture(run: Callable, inputs: tuple[torch.Tensor, ...]) -> Callable:
        inputs_of_graphs.append(inputs)
        return run

    def learned() -> list[torch.Tensor]:
        draw = torch.Generator().manual_seed(0)
        context = tiny.contexts(backbone)[0]
        each = [context.clone().requires_grad_() for _ in range(1 if alone else backbone.num_blocks)]
        latents = torch.randn(1, *backbone.latent_shape(tiny.MEDIA), generator=draw)
        context = each[0] if alone else each
        velocity = backbone.velocity(latents, torch.tensor([500.0]), context, training=True)
        velocity.square().sum().backward()
        return [velocity.detach(), *(leaf.grad for leaf in each)]

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    plain = learned()
    monkeypatch.setattr(backbone, "training_pass", AcceleratedPass(backbone, compiles=False, captures=True))
    for _ in range(2):  # once captured, used again
        assert all(torch.equal(one, other) for one, other in zip(plain, learned(), strict=True))
    assert [len(inputs) for inputs in inputs_of_graphs] == [len(plain) + 1]


def test_a_pass_whose_gradient_is_another_is_captured_anew(backbone: Backbone, captured: AcceleratedPass) -> None:
    latents, context = torch.randn(1, *backbone.latent_shape(tiny.MEDIA)), tiny.contexts(backbone)[0]
    for learns in (False, True):
        leaf = context.clone().requires_grad_(learns)
        velocity = backbone.velocity(latents, torch.tensor([500.0]), leaf, training=True)
    velocity.sum().backward()
    assert len(captured.graphs) == 2


def test_a_captured_pass_is_not_run_again_before_its_gradient(
    backbone: Backbone, captured: AcceleratedPass, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second one would overwrite what the gradient of the first needs: a loss of two passes, say."""
    replayed = []

    def capture(run: Callable, inputs: tuple[torch.Tensor, ...]) -> Callable:
        return lambda *inputs: replayed.append(inputs[1].item()) or run(*inputs)

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    context = tiny.contexts(backbone)[0].requires_grad_()
    latents = torch.randn(1, *backbone.latent_shape(tiny.MEDIA))
    for step in (0.0, 10.0):
        levels = [torch.tensor([500.0 + step + each]) for each in (0.0, 1.0)]
        passes = [backbone.velocity(latents, level, context, training=True) for level in levels]
        sum(each.square().sum() for each in passes).backward()
    assert replayed == [500.0, 510.0]


def test_captured_passes_make_room_for_clips_with_gradient_checkpointing(
    backbone: Backbone, captured: AcceleratedPass, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A video is learned frame by frame first."""
    monkeypatch.setattr(token_limits, "CHECKPOINT_TOKENS", 8)
    context, sigma = tiny.contexts(backbone)[0].requires_grad_(), torch.tensor([500.0])
    frame, clip = torch.randn(1, 4, 1, 4, 4), torch.randn(1, *backbone.latent_shape(tiny.MEDIA))
    for latents, training, kept in ((frame, True, 1), (clip, False, 1), (clip, True, 0)):
        velocity = backbone.velocity(latents, sigma, context, training=training)
        if training:
            velocity.sum().backward()
        assert len(captured.graphs) == kept


def gradient(backbone: Backbone) -> torch.Tensor:
    """Of a loss with respect to the context of all blocks."""
    draw = torch.Generator().manual_seed(0)
    latents, timesteps = torch.randn(1, 4, 2, 4, 4, generator=draw), torch.tensor([500.0])
    leaf = tiny.contexts(backbone)[0].clone().requires_grad_()
    with accelerated(backbone):
        loss = backbone.velocity(latents, timesteps, leaf, training=True).square().mean()
    return torch.autograd.grad(loss, leaf)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_checkpointing_gives_the_same_gradient(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    opened = {
        choice: Backbone.open(tiny.folder(), text_slots=tiny.TEXT_SLOTS, dtype=dtype, gradient_checkpointing=choice)
        for choice in ("never", "always", "auto")
    }
    kept = gradient(opened["never"])
    assert torch.equal(gradient(opened["always"]), kept)
    monkeypatch.setattr(token_limits, "CHECKPOINT_TOKENS", 1)
    assert torch.equal(gradient(opened["auto"]), kept)


class Counter(TorchDispatchMode):
    """How often each operator runs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counts = Counts()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.calls[operator] += 1
        return operator(*args, **(kwargs or {}))


def test_gradient_checkpointing_keeps_attention_and_nothing_else(backbone: Backbone) -> None:
    """On a CPU training writes attention out: here it takes the fused kernel, as on a GPU."""
    latents, timesteps = torch.randn(1, 4, 2, 4, 4), torch.tensor([500.0])
    calls = {}
    for name, run in {"never": run_block, "always": run_block_checkpointed}.items():
        keys_values = backbone.keys_values(tiny.contexts(backbone)[0].requires_grad_())
        with Counter() as counter:
            backbone.forward(latents, timesteps, keys_values, training=False, run_block=run).sum().backward()
        calls[name] = counter.calls
    attention, product = (
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
        torch.ops.aten.addmm.default,
    )
    assert calls["always"][attention] == calls["never"][attention] == 6  # two a block
    assert calls["always"][product] > calls["never"][product]


def test_without_a_compiler_that_works_training_is_not_compiled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("CppCompileError: C++ compile error\n100 lines more")

    monkeypatch.setattr(torch, "compile", broken)
    compiles_on.cache_clear()
    opened = Backbone.open(tiny.folder(), text_slots=tiny.TEXT_SLOTS, compiles=True)
    with accelerated(opened):
        assert list(opened.training_pass.run_blocks.values()) == [run_block, run_block_checkpointed]
    compiles_on.cache_clear()
    printed = capsys.readouterr().err
    assert printed.endswith("at half the speed: cannot compile (CppCompileError: C++ compile error)\n")


def test_gradient_checkpointing_starts_at_4096_tokens(backbone: Backbone) -> None:
    assert uses_checkpointing(backbone, torch.Size([1, 4, 16, 32, 32]))
    assert not uses_checkpointing(backbone, torch.Size([1, 4, 16, 32, 30]))


def test_clips_go_through_a_step_together_as_long_as_they_are_short(backbone: Backbone) -> None:
    """Latents of 480 x 832: 81 frames, one frame; and a short sequence."""
    shapes = ([16, 21, 60, 104], [16, 1, 60, 104], [4, 2, 4, 4])
    assert [clips_at_once(backbone, torch.Size(shape)) for shape in shapes] == [1, 2, 512]


def test_graphs_are_captured_for_a_frozen_transformer_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = tiny.compiling(monkeypatch)
    _ = opened.transformer
    opened.device = torch.device("cuda")
    with accelerated(opened):
        assert opened.training_pass.graphs == {}
        assert all(block.ffn.net[0].gelu is gelu for block in opened.transformer.blocks)
    opened.transformer.blocks[0].adapters = torch.nn.Linear(1, 1)
    with accelerated(opened):
        assert opened.training_pass.graphs is None
    assert opened.training_pass is None
