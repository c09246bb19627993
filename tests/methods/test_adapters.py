"""DreamVideo and DualReal: adapters that change nothing untrained, and learn just what a step is about."""

import copy
import json
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo.utils import counters

from bico.config.schema import Case, DreamVideoSettings, DualRealSettings, load
from bico.methods import dreamvideo, dualreal
from bico.methods.base import Job, project, save_artifact
from bico.methods.training import NoiseLevels
from bico.models.adapter import Adapter, beside, tell
from bico.pipeline import generate as clips

CASE = Case(prompt="a cat bouncing at the beach", bind={"still": ["cat"], "clip": ["bouncing"]})
DREAMVIDEO = DreamVideoSettings(
    inversion_steps=3, identity_steps=4, motion_steps=5, inversion_rate=1e-2, learning_rate=1e-2, batch_size=2,
    checkpoint_every=1,
)  # fmt: skip
DUALREAL = DualRealSettings(
    steps=8, warm_up=2, learning_rate=1e-2, weight_decay=0.1, batch_size=2, bottleneck=8, controller_width=32, groups=3,
    checkpoint_every=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def backbone():
    return tiny.backbone()


@pytest.fixture(scope="module")
def sources() -> dict:
    return {"still": tiny.source("image", seed=1), "clip": tiny.source("video", seed=2)}


def test_an_adapter_is_a_gelu_between_two_layers_of_what_it_is_told() -> None:
    adapter, tokens, condition = Adapter(6, 4, 3), torch.randn(2, 5, 6), torch.randn(2, 3)
    nn.init.normal_(adapter.up.weight)
    adapter.told = condition
    told = tokens + (condition @ adapter.condition.weight.T)[:, None]
    inner = F.gelu(told @ adapter.down.weight.T + adapter.down.bias)
    torch.testing.assert_close(adapter(tokens), inner @ adapter.up.weight.T + adapter.up.bias)


def test_afterwards_a_layer_has_no_adapters() -> None:
    layer, tokens = nn.Linear(6, 6), torch.randn(2, 5, 6)
    before = layer(tokens)
    adapter = Adapter(6, 4)
    nn.init.ones_(adapter.up.bias)
    with beside([(layer, adapter), (layer, adapter)]):
        torch.testing.assert_close(layer(tokens), before + 2 * adapter(tokens))
    assert torch.equal(layer(tokens), before) and not hasattr(layer, "adapters")


def untrained(backbone, sources, name: str) -> nn.Module:
    if name == "dualreal":
        return dualreal.initial(backbone, tiny.APPEARANCE, DUALREAL, seed=0)
    return dreamvideo.initial(backbone, sources[name], seed=0)


def active(adapters: nn.Module, backbone) -> AbstractContextManager[None]:
    transformer = backbone.transformer
    if isinstance(adapters, dualreal.JointAdapters):
        return adapters.beside(transformer)
    return beside(adapters.places(transformer))


@torch.no_grad()
def velocity(backbone) -> torch.Tensor:
    noise = torch.Generator().manual_seed(0)
    latents, timesteps = torch.randn(2, 4, 2, 4, 4, generator=noise), torch.tensor([900.0, 100.0])
    return backbone.velocity(latents, timesteps, project(backbone, CASE.prompt).expand(2, -1, -1))


def shake(adapters: nn.Module) -> nn.Module:
    """As if it had been trained."""
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=noise))
    return adapters


@pytest.mark.parametrize("name", ["still", "clip", "dualreal"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_untrained_adapters_leave_every_bit_as_it_was(sources, name: str, dtype: torch.dtype) -> None:
    opened = tiny.Backbone.open(tiny.folder(), text_slots=tiny.TEXT_SLOTS, dtype=dtype)
    plain, adapters = velocity(opened), untrained(opened, sources, name)
    tell(adapters, torch.randn(1, tiny.APPEARANCE))
    with active(adapters, opened):
        # Else a GPU would capture the transformer as a graph that gives them no gradient.
        assert any(parameter.requires_grad for parameter in opened.transformer.parameters())
        assert torch.equal(velocity(opened), plain)
        assert not torch.equal(shake(adapters) and velocity(opened), plain)
    assert torch.equal(velocity(opened), plain)


@pytest.mark.parametrize("name", ["clip", "dualreal"])
def test_motion_adapters_see_the_appearance_and_none_is_zero(backbone, sources, name: str) -> None:
    adapters = shake(untrained(backbone, sources, name))
    with active(adapters, backbone):
        without = velocity(backbone)
        tell(adapters, torch.zeros(1, tiny.APPEARANCE))
        assert torch.equal(velocity(backbone), without)
        tell(adapters, torch.ones(1, tiny.APPEARANCE))
        assert not torch.equal(velocity(backbone), without)


def test_recomputing_activations_gives_the_same_gradient(backbone, sources, monkeypatch) -> None:
    adapters = shake(untrained(backbone, sources, "dualreal"))
    context = project(backbone, CASE.prompt)

    def gradients() -> list[torch.Tensor]:
        latents = torch.ones(1, 4, 2, 4, 4)
        with adapters.beside(backbone.transformer):
            loss = backbone.velocity(latents, torch.tensor([500.0]), context).square().mean()
            return torch.autograd.grad(loss, list(adapters.parameters()), allow_unused=True)

    kept = gradients()
    monkeypatch.setattr("bico.models.wan.backbone.CHECKPOINT_TOKENS", 1)
    for one, other in zip(kept, gradients(), strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


# --- learning -------------------------------------------------------------------------------------------------------


def learn(name: str, backbone, sources, workdir: Path) -> dict[str, torch.Tensor]:
    if name == "dualreal":
        return dualreal.learn(backbone, sources, DUALREAL, shift=3.0, seed=0, workdir=workdir)
    return dreamvideo.learn(backbone, sources[name], DREAMVIDEO, shift=3.0, seed=0, workdir=workdir)


@pytest.mark.parametrize("name", ["still", "clip", "dualreal"])
@pytest.mark.parametrize("stop_at", [2, 4])
def test_an_interrupted_run_ends_as_if_nothing_had_happened(
    backbone, sources, tmp_path, monkeypatch, name: str, stop_at: int
) -> None:
    whole = learn(name, backbone, sources, tmp_path / "whole")
    velocity_of, calls = type(backbone).velocity, iter(range(100))

    def breaking(self, *arguments):
        if next(calls) == stop_at:
            raise KeyboardInterrupt
        return velocity_of(self, *arguments)

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(type(backbone), "velocity", breaking)
        learn(name, backbone, sources, tmp_path / "broken")
    again = learn(name, tiny.backbone(), sources, tmp_path / "broken")
    assert again.keys() == whole.keys()
    assert all(torch.equal(again[key], whole[key]) for key in whole)


@pytest.mark.parametrize("recomputes", ["never", "always"])
@pytest.mark.parametrize("name", ["still", "clip", "dualreal"])
def test_compiled_blocks_share_their_graphs_and_learn_the_same(
    backbone, sources, tmp_path, monkeypatch, name: str, recomputes: str
) -> None:
    """Of the first block, which has no gradient to pass on, and of the others, in each kind of step: no more graphs,
    however many blocks and trainings there are."""
    opened = tiny.compiling(monkeypatch, recomputes)
    plain = learn(name, backbone, sources, tmp_path / "plain")
    for workdir in (tmp_path / "one", tmp_path / "two"):
        compiled = learn(name, opened, sources, workdir)
        assert 0 < counters["stats"]["unique_graphs"] <= 4
    torch.testing.assert_close(compiled, plain)


def test_dreamvideo_learns_an_images_vectors_first(backbone, sources, tmp_path) -> None:
    learned = learn("still", backbone, sources, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines] == ["vectors"] * 3 + ["identity"] * 4
    assert {name for name in learned if name.startswith("vectors.")} == {"vectors.0 cat", "vectors.1 beach"}
    assert torch.equal(learned["appearance"], sources["still"].appearance[0])
    assert learned["adapters.blocks.0.attn2.up.weight"].any()


def test_dreamvideo_holds_no_text_encoder_when_its_adapters_learn(sources, tmp_path) -> None:
    for name in ("still", "clip"):
        opened = tiny.backbone()
        learn(name, opened, sources, tmp_path / name)
        assert {"vae", "text_encoder"}.isdisjoint(vars(opened))


def test_a_step_of_dualreal_moves_one_half_and_the_controller_and_nothing_else(backbone, sources, tmp_path) -> None:
    """Weight decay and momentum are on: what a step is not about keeps every bit."""
    short = {steps: DUALREAL.model_copy(update={"steps": steps, "warm_up": 100}) for steps in range(1, 6)}
    before = untrained(backbone, sources, "dualreal").state_dict()
    drawn = []
    for steps, settings in short.items():
        after = dualreal.learn(backbone, sources, settings, shift=3.0, seed=0, workdir=tmp_path / str(steps))
        moved = {name.split(".")[0] for name, tensor in before.items() if not torch.equal(after[name], tensor)}
        drawn.append(moved - {"controller"})
        before = {name: after[name] for name in before}
    assert set(map(frozenset, drawn)) == {frozenset({"identity"}), frozenset({"motion"})}


def test_alphas_start_in_the_middle_and_learn(backbone, sources, tmp_path) -> None:
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


def test_dreamvideos_long_clips_go_one_by_one(backbone, sources, monkeypatch) -> None:
    adapters = untrained(backbone, sources, "clip")
    shake(adapters)
    settings, gradients, passes = DREAMVIDEO.model_copy(update={"batch_size": 4}), [], []
    velocity_of = type(backbone).velocity
    monkeypatch.setattr(
        type(backbone), "velocity", lambda self, *inputs: passes.append(len(inputs[0])) or velocity_of(self, *inputs)
    )
    with beside(adapters.places(backbone.transformer)):
        for recomputes in ("never", "always"):
            monkeypatch.setattr(backbone, "recomputes", recomputes)
            stage = dreamvideo.motion_stage(backbone, sources["clip"], settings, adapters, NoiseLevels(3.0))
            adapters.zero_grad()
            for loss, _ in stage.loss(torch.Generator().manual_seed(0)):
                loss.backward()
            gradients.append([parameter.grad for parameter in adapters.parameters()])
    assert passes == [4, 1, 1, 1, 1]
    torch.testing.assert_close(*gradients)


def test_half_of_dreamvideos_captions_are_empty(backbone, sources, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(backbone, "context", lambda embeds: seen.append(embeds) or torch.zeros(len(embeds)))
    monkeypatch.setattr(dreamvideo, "flow_matching_loss", lambda *arguments: torch.zeros(()))
    settings = DREAMVIDEO.model_copy(update={"batch_size": 200})
    adapters = untrained(backbone, sources, "clip")
    stage = dreamvideo.motion_stage(backbone, sources["clip"], settings, adapters, NoiseLevels(3.0))
    list(stage.loss(torch.Generator().manual_seed(0)))
    empty = (seen[0] == sources["clip"].empty_prompt_embeds).all(dim=(1, 2))
    assert 70 < empty.sum() < 130
    (told,) = {each.told for each in adapters.modules() if isinstance(each, Adapter)}
    assert len(told.unique(dim=0)) == tiny.MEDIA.num_frames


# --- composing ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def artifacts(backbone, sources, tmp_path_factory) -> dict[str, dict[str, Path]]:
    folder, paths = tmp_path_factory.mktemp("adapters"), {}
    for name in ("still", "clip", "dualreal"):
        paths[name] = folder / f"{name}.safetensors"
        save_artifact(paths[name], learn(name, backbone, sources, folder / name), {})
    return {"dreamvideo": {name: paths[name] for name in sources}, "dualreal": {"case": paths["dualreal"]}}


METHODS = {"dreamvideo": (dreamvideo, DREAMVIDEO), "dualreal": (dualreal, DUALREAL)}


def composed(backbone, artifacts, name: str, **changes: object) -> list[np.ndarray]:
    module, settings = METHODS[name]
    jobs = [Job("case", CASE, seed, artifacts[name]) for seed in (0, 1)]
    made = module.compose(backbone, jobs, settings.model_copy(update=changes), tiny.SAMPLING, tiny.MEDIA)
    return [clip for _, clip in made]


@pytest.mark.parametrize("name", METHODS)
def test_clips_have_the_adapters_in_them_and_the_backbone_is_left_as_it_was(backbone, artifacts, name: str) -> None:
    before = velocity(backbone)
    negative = project(backbone, tiny.SAMPLING.negative_prompt)
    base = backbone.generate(project(backbone, CASE.prompt), negative, [0], tiny.SAMPLING, tiny.MEDIA)[0]
    first, second = composed(backbone, artifacts, name)
    assert first.shape == base.shape and not np.array_equal(first, base) and not np.array_equal(first, second)
    assert all(map(np.array_equal, composed(backbone, artifacts, name), (first, second)))
    assert torch.equal(velocity(backbone), before)


@pytest.mark.parametrize("name", METHODS)
def test_guidance_is_the_methods_own_or_that_of_sampling(backbone, artifacts, name: str) -> None:
    shared, same, own = (
        composed(backbone, artifacts, name, guidance_scale=scale)[0]
        for scale in (None, tiny.SAMPLING.guidance_scale, 9.0)
    )
    assert np.array_equal(shared, same) and not np.array_equal(shared, own)


def test_the_unconditional_pass_sees_no_appearance(backbone, sources, artifacts, monkeypatch) -> None:
    seen, forward = [], Adapter.forward
    monkeypatch.setattr(Adapter, "forward", lambda self, tokens: (seen.append(self.told), forward(self, tokens))[1])
    composed(backbone, artifacts, "dreamvideo")
    layers = 3 * backbone.num_blocks  # of both sources
    conditional, unconditional = seen[:layers], seen[layers : 2 * layers]
    assert all(torch.equal(appearance, sources["still"].appearance) for appearance in conditional)
    assert all(appearance is None for appearance in unconditional)


@pytest.mark.parametrize("source", ["still", "clip"])
def test_dreamvideo_composes_what_it_learned_of_one_source_alone(backbone, artifacts, source: str) -> None:
    """No case of the table, but what it takes to measure a source on its own."""
    alone = Case(prompt=CASE.prompt, bind={source: CASE.bind[source]})
    job = Job("alone", alone, 0, artifacts["dreamvideo"])
    ((_, clip),) = dreamvideo.compose(backbone, [job], DREAMVIDEO, tiny.SAMPLING, tiny.MEDIA)
    assert not np.array_equal(clip, composed(backbone, artifacts, "dreamvideo")[0])


@pytest.mark.parametrize("row", METHODS)
def test_cases_that_are_not_supported_are_counted(small, tmp_path, row: str) -> None:
    (tmp_path / "cat.png").write_bytes(b"a picture")
    small["sources"] = {"still": {"kind": "image", "file": str(tmp_path / "cat.png")}}
    small["cases"] = {"no_motion": {"prompt": "a cat", "bind": {"still": ["cat"]}}}
    config = load(small)
    clips.make_clips(config, row, tiny.backbone())  # with nothing learned
    (entry,) = json.loads((config.results / "clips" / f"{row}.json").read_text())
    assert entry["status"] == "not supported" and entry["error"].startswith("takes")


def test_nothing_is_learned_of_a_case_that_is_not_supported(toybox) -> None:
    config = load(toybox)
    assert config.unsupported("dualreal", "fish_spinning_in_space")
    assert "case-cat_bouncing_in_the_city" in config.learned("dualreal")
    assert config.learned("dualreal")["case-cat_bouncing_in_the_city"] == ["cat_beach", "fish_bouncing"]
    assert "case-fish_spinning_in_space" not in config.learned("dualreal")


def test_the_weights_of_both_adapters_make_up_the_total() -> None:
    mixture = dualreal.Mixture(lambda tokens: tokens, lambda tokens: 10 * tokens)
    mixture.alpha = torch.tensor(0.05)
    assert mixture(torch.ones(1)).item() == pytest.approx(0.05 + 10 * 0.15)


def test_neighbouring_blocks_share_an_alpha_from_the_largest_of_the_tokens() -> None:
    block = {"attn1": nn.Identity(), "ffn": nn.Identity()}
    transformer = nn.ModuleDict({"patch_embedding": nn.Identity(), "condition_embedder": nn.ModuleDict()})
    transformer.condition_embedder["time_embedder"] = nn.Identity()
    transformer["blocks"] = nn.ModuleList(nn.ModuleDict(copy.deepcopy(block)) for _ in range(4))
    adapters = shake(dualreal.JointAdapters(6, 4, 3, DUALREAL.model_copy(update={"groups": 2})))
    patches, time = torch.randn(1, 6, 2, 2, 2), torch.randn(1, 6)
    with adapters.beside(transformer):
        transformer.patch_embedding(patches)
        transformer.condition_embedder.time_embedder(time)
        alphas = [block[layer].adapters[0].alpha.item() for block in transformer.blocks for layer in block]
    first, second = adapters.controller(patches.flatten(2).amax(dim=2), time)[0].tolist()
    assert alphas == [first] * 4 + [second] * 4 and first != second


def test_identity_steps_of_dualreal_see_no_appearance(backbone, sources, monkeypatch) -> None:
    monkeypatch.setattr(dualreal, "flow_matching_loss", lambda *arguments: torch.zeros(()))
    adapters, steps = untrained(backbone, sources, "dualreal"), set()
    by_kind = {"image": sources["still"], "video": sources["clip"]}
    loss = dualreal.joint_loss(backbone, by_kind, DUALREAL, adapters, NoiseLevels(3.0))
    for step in range(20):
        list(loss(torch.Generator().manual_seed(step)))
        (motion,) = {parameter.requires_grad for parameter in adapters.motion.parameters()}
        (sees,) = {each.told is not None for each in adapters.motion.modules() if isinstance(each, Adapter)}
        steps.add((motion, sees))
    assert steps == {(True, True), (False, False)}


def test_rates_and_the_clipping_are_those_of_the_settings(backbone, sources, monkeypatch, tmp_path) -> None:
    seen = {}
    for module in (dreamvideo, dualreal):
        monkeypatch.setattr(module, "fit", lambda groups, stages, settings, **more: seen.update(more, groups=groups))
    learn("dualreal", backbone, sources, tmp_path)
    assert seen["clip_norm"] == DUALREAL.clip_norm
    assert [seen["rate"](step) for step in (0, 1, 2)] == [0.5, 1, 1] and seen["rate"](7) < 0.1
    settings = DREAMVIDEO.model_copy(update={"inversion_rate": 1e-3})
    dreamvideo.learn(backbone, sources["still"], settings, shift=3.0, seed=0, workdir=tmp_path)
    assert [group.learning_rate for group in seen["groups"]] == [1e-2, 1e-3]  # adapters, vectors


def test_the_appearance_is_the_mean_over_the_images(backbone, sources) -> None:
    def artifact(name: str) -> dict[str, torch.Tensor]:
        return {f"adapters.{key}": each for key, each in untrained(backbone, sources, name).state_dict().items()}

    images = [artifact("still") | {"appearance": torch.full((tiny.APPEARANCE,), value)} for value in (1.0, 3.0)]
    with dreamvideo.active(backbone, [*images, artifact("clip")]) as before_pass:
        before_pass(True)
        told = [each.told for each in backbone.transformer.modules() if isinstance(each, Adapter)]
    assert told and all(torch.equal(each, torch.full((1, tiny.APPEARANCE), 2.0)) for each in told)


def test_adapters_rest_while_the_vectors_of_an_image_learn(sources, monkeypatch) -> None:
    monkeypatch.setattr("bico.methods.textual_inversion.flow_matching_loss", lambda *arguments: torch.zeros(()))
    monkeypatch.setattr(dreamvideo, "flow_matching_loss", lambda *arguments: torch.zeros(()))
    opened, still, learns = tiny.backbone(), sources["still"], []
    adapters, inversion = untrained(opened, sources, "still"), dreamvideo.Inversion(opened, still, vectors=1)
    for stage in dreamvideo.identity_stages(opened, still, DREAMVIDEO, adapters, inversion, NoiseLevels(3.0)):
        list(stage.loss(torch.Generator().manual_seed(0)))
        learns.append({parameter.requires_grad for parameter in adapters.parameters()})
    assert learns == [{False}, {True}]


def test_restored_adapters_see_the_image_that_they_learned(backbone, sources) -> None:
    tensors = untrained(backbone, sources, "dualreal").state_dict() | {"appearance": sources["still"].appearance[0]}
    restored = dualreal.restored(backbone, tensors, DUALREAL)
    told = [each.told for each in restored.motion.modules() if isinstance(each, Adapter)]
    assert told and all(torch.equal(each, sources["still"].appearance) for each in told)
