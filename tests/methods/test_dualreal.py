"""DualReal: identity and motion adapters of a case, and the controller that weighs them."""

import copy
import json

import pytest
import torch
from adapters import DUALREAL, learn, shake, untrained, velocity
from learned import CASE
from torch import nn

from bico.config.reading import load
from bico.methods.dualreal import compose as dualreal_compose
from bico.methods.dualreal import learn as dualreal_learn
from bico.methods.dualreal.adapters import JointAdapters, Mixture
from bico.methods.dualreal.settings import Settings
from bico.methods.shared.prompts import project
from bico.models.adapter import Adapter
from bico.models.wan.acceleration import accelerated
from bico.plan.trainings import learned_items, unsupported
from bico.training.noise import NoiseLevels


def test_gradient_checkpointing_gives_the_same_gradient(backbone, sources, monkeypatch) -> None:
    adapters = shake(untrained(backbone, sources, "dualreal"))
    context = project(backbone, CASE.prompt)

    def gradients() -> list[torch.Tensor]:
        latents = torch.ones(1, 4, 2, 4, 4)
        with adapters.beside(backbone.transformer), accelerated(backbone):
            loss = backbone.velocity(latents, torch.tensor([500.0]), context, training=True).square().mean()
            return torch.autograd.grad(loss, list(adapters.parameters()), allow_unused=True)

    kept = gradients()
    monkeypatch.setattr("bico.models.wan.token_limits.CHECKPOINT_TOKENS", 1)
    for one, other in zip(kept, gradients(), strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


def test_a_step_trains_either_identity_or_motion_adapters_and_the_controller_and_nothing_else(
    backbone, sources, tmp_path
) -> None:
    """Weight decay and momentum are on: what a step is not about keeps every bit."""
    short = {steps: DUALREAL.model_copy(update={"steps": steps, "warm_up": 100}) for steps in range(1, 6)}
    before = untrained(backbone, sources, "dualreal").state_dict()
    drawn = []
    for steps, settings in short.items():
        after = dualreal_learn.learn(backbone, sources, settings, shift=3.0, seed=0, workdir=tmp_path / str(steps))
        moved = {name.split(".")[0] for name, tensor in before.items() if not torch.equal(after[name], tensor)}
        drawn.append(moved - {"controller"})
        before = {name: after[name] for name in before}
    assert set(map(frozenset, drawn)) == {frozenset({"identity"}), frozenset({"motion"})}


def test_motion_adapters_are_conditioned_on_no_appearance_in_identity_steps(backbone, sources, monkeypatch) -> None:
    monkeypatch.setattr(dualreal_learn, "flow_matching_loss", lambda *arguments, mask, training: torch.zeros(()))
    adapters, steps = untrained(backbone, sources, "dualreal"), set()
    by_kind = {"image": sources["still"], "video": sources["clip"]}
    loss = dualreal_learn.joint_loss(backbone, by_kind, DUALREAL, adapters, NoiseLevels(3.0))
    for step in range(20):
        loss(torch.Generator().manual_seed(step), 2, training=True)
        (motion,) = {parameter.requires_grad for parameter in adapters.motion.parameters()}
        (sees,) = {
            each.current_condition is not None for each in adapters.motion.modules() if isinstance(each, Adapter)
        }
        steps.add((motion, sees))
    assert steps == {(True, True), (False, False)}


def test_steps_on_the_image_and_on_the_video_have_batches_of_their_own(backbone, sources, monkeypatch) -> None:
    sizes, settings = set(), DUALREAL.model_copy(update={"identity_batch_size": 5, "batch_size": 2})
    monkeypatch.setattr(
        dualreal_learn,
        "flow_matching_loss",
        lambda backbone, latents, *more, mask, training: sizes.add((latents.shape[2], len(latents))) or torch.zeros(()),
    )
    by_kind = {"image": sources["still"], "video": sources["clip"]}
    adapters = untrained(backbone, sources, "dualreal")
    loss = dualreal_learn.joint_loss(backbone, by_kind, settings, adapters, NoiseLevels(3.0))
    for step in range(20):
        _, sigmas = loss(torch.Generator().manual_seed(step), settings.batch_size, training=True)
        sizes.add((0, len(sigmas)))
    assert sizes == {(1, 5), (2, 2), (0, 5), (0, 2)}


def test_the_controller_has_the_shape_of_the_original() -> None:
    """512 inside, 128 before the weights; the original's time embedding has 512, Wan's its width."""
    controller = JointAdapters(6, 30, 3, Settings()).controller
    shapes = [tuple(layer.weight.shape) for layer in controller.modules() if isinstance(layer, nn.Linear)]
    assert shapes == [(512, 6), (3 * 512, 6), (2048, 512), (512, 2048), (128, 512), (5, 128)]


def test_alphas_start_in_the_middle_of_their_range_and_change_in_training(backbone, sources, tmp_path) -> None:
    adapters = untrained(backbone, sources, "dualreal")
    with adapters.beside(backbone.transformer):
        velocity(backbone)
        assert torch.equal(adapters.alphas, torch.full((2, 3), 0.1))
        shake(adapters.controller)
        velocity(backbone)
    assert adapters.alphas.unique().numel() == 6 and (adapters.alphas > 0).all() and (adapters.alphas < 0.2).all()
    learn("dualreal", backbone, sources, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["alpha"] == pytest.approx(0.1) and lines[-1]["alpha"] != lines[0]["alpha"]


def test_the_weights_of_the_two_adapters_add_up_to_a_constant() -> None:
    mixture = Mixture(lambda tokens: tokens, lambda tokens: 10 * tokens)
    mixture.alpha = torch.tensor(0.05)
    assert mixture(torch.ones(1)).item() == pytest.approx(0.05 + 10 * 0.15)


def test_neighbouring_blocks_share_an_alpha_that_the_controller_computes_from_max_pooled_tokens() -> None:
    block = {"attn1": nn.Identity(), "ffn": nn.Identity()}
    transformer = nn.ModuleDict({"patch_embedding": nn.Identity(), "condition_embedder": nn.ModuleDict()})
    transformer.condition_embedder["time_embedder"] = nn.Identity()
    transformer["blocks"] = nn.ModuleList(nn.ModuleDict(copy.deepcopy(block)) for _ in range(4))
    adapters = shake(JointAdapters(6, 4, 3, DUALREAL.model_copy(update={"groups": 2})))
    patches, time = torch.randn(1, 6, 2, 2, 2), torch.randn(1, 6)
    with adapters.beside(transformer):
        transformer.patch_embedding(patches)
        transformer.condition_embedder.time_embedder(time)
        alphas = [block[layer].adapters[0].alpha.item() for block in transformer.blocks for layer in block]
    first, second = adapters.controller(patches.flatten(2).amax(dim=2), time)[0].tolist()
    assert alphas == [first] * 4 + [second] * 4 and first != second


def test_restored_adapters_are_conditioned_on_the_image_of_their_training(backbone, sources) -> None:
    tensors = untrained(backbone, sources, "dualreal").state_dict() | {"appearance": sources["still"].appearance[0]}
    restored = dualreal_compose.restored(backbone, tensors, DUALREAL)
    conditions = [each.current_condition for each in restored.motion.modules() if isinstance(each, Adapter)]
    assert conditions and all(torch.equal(each, sources["still"].appearance) for each in conditions)


def test_nothing_is_learned_of_a_case_that_is_not_supported(toybox) -> None:
    config = load(toybox)
    assert unsupported(config, "dualreal", "fish_spinning_in_space")
    assert "case-cat_bouncing_in_the_city" in learned_items(config, "dualreal")
    assert learned_items(config, "dualreal")["case-cat_bouncing_in_the_city"] == ["cat_beach", "fish_bouncing"]
    assert "case-fish_spinning_in_space" not in learned_items(config, "dualreal")
