"""BiCo: its binders, the absorption token, isolation, and what its settings change."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from conftest import ROOT
from learned import CASE, clips, learned, metrics

from bico.config.benchmark import Case
from bico.config.reading import load
from bico.methods.bico import compose as bico_compose
from bico.methods.bico import isolation
from bico.methods.bico import learn as bico_learn
from bico.methods.bico.absorption import with_absorption
from bico.methods.bico.artifact import LearnedBinder
from bico.methods.bico.batches import updates
from bico.methods.bico.isolation import isolation_loss
from bico.methods.bico.schedule import phases
from bico.methods.bico.settings import Absorption
from bico.methods.bico.settings import Settings as BicoSettings
from bico.methods.shared.prompts import project
from bico.models.binder import HierarchicalBinder
from bico.models.wan.schedule import shifted
from bico.sources.encoding import EncodedSource
from bico.training.artifacts import load_artifact, provenance, save_artifact
from bico.training.loss import flow_matching_loss
from bico.training.noise import NoiseLevels, gaussian_weight


@torch.no_grad()
def loss_of(backbone, encoded: EncodedSource, binder: HierarchicalBinder) -> float:
    """Loss of a source's captions with all words bound, on noise that is the same for every binder."""
    noise = torch.Generator().manual_seed(0)
    batch = encoded.draw(32, noise, frames=False)
    context = backbone.context(batch.prompt_embeds)
    words = torch.arange(context.shape[1]) < batch.token_counts[:, None] - 1
    sigmas = NoiseLevels(shift=3.0).draw(32, noise)
    return flow_matching_loss(backbone, batch.latents, binder(context, words), sigmas, noise, training=False).item()


@pytest.fixture
def planned(backbone, sources, monkeypatch, tmp_path: Path):
    """What BiCo would train of the clip with these settings, instead of training it."""

    def plan(**settings: object) -> SimpleNamespace:
        seen = {}
        monkeypatch.setattr(
            bico_learn, "fit", lambda groups, stages, settings, **more: seen.update(more, groups=groups, stages=stages)
        )
        bico_learn.learn(backbone, sources["clip"], BicoSettings(**settings), shift=3.0, seed=0, workdir=tmp_path)
        return SimpleNamespace(**seen)

    return plan


def losses(loss) -> list[float]:
    return [loss(torch.Generator().manual_seed(step), 1, training=True)[0].item() for step in range(4)]


@pytest.mark.parametrize("source", ["still", "clip"])
def test_bico_lowers_the_loss_of_its_source(backbone, sources, source: str) -> None:
    tensors, _ = load_artifact(learned("bico").artifacts[source])
    trained = HierarchicalBinder.from_tensors(tensors, backbone.num_blocks)
    untrained = HierarchicalBinder(backbone.width, backbone.num_blocks)
    assert loss_of(backbone, sources[source], trained) < 0.98 * loss_of(backbone, sources[source], untrained)


def test_a_video_learns_on_frames_first_and_then_trains_its_temporal_branch() -> None:
    names = [line["stage"] for line in metrics(learned("bico").folder / "clip.ckpt")]
    assert list(dict.fromkeys(names)) == ["frames_global", "frames_all", "clip_global", "clip_all"]
    tensors, metadata = load_artifact(learned("bico").artifacts["clip"])
    assert metadata == {"method": "bico", "source": "clip"}
    assert tensors["shared.gate.1.weight"].any()
    assert tensors["blocks.0.gate.1.weight"].any()
    start = bico_learn.initial(tiny.backbone(), "video", learned("bico").settings, 0)[1]
    assert tensors["absorption"].shape == start.shape and not torch.equal(tensors["absorption"], start)
    assert "shared.gate.1.weight" not in load_artifact(learned("bico").artifacts["still"])[0]


def test_each_stage_learns_from_its_own_media_at_its_own_noise_levels(planned, monkeypatch) -> None:
    """Two-stage inverted training, first on single frames and then on the clip."""
    seen, one = [], {"global_steps": 1, "all_steps": 1}

    def loss(backbone, latents, contexts, sigmas, generator, weights, **how) -> torch.Tensor:
        seen.append((latents.shape[2], (sigmas > shifted(0.875, 3.0)).float().mean().item()))
        assert torch.equal(weights, gaussian_weight(sigmas, 3.0))
        return torch.tensor(1.0)

    monkeypatch.setattr(bico_learn, "flow_matching_loss", loss)
    for stage in planned(stages=one, clip_stages=one, timestep_weighting="diffsynth").stages:
        stage.loss(torch.Generator().manual_seed(0), 2000, training=True)
    assert [frames for frames, _ in seen] == [1, 1, 2, 2]
    assert [high for _, high in seen] == pytest.approx([0.875, 0.125] * 2, abs=0.03)


def test_a_bound_word_passes_through_all_binders_and_both_branches_of_its_source(backbone) -> None:
    """p_g = p + gamma_g MLP_g(p), then p_g + gamma_i MLP_i(p_g) for block i; MLP = (1 - g) MLP_s + g MLP_t."""
    torch.manual_seed(0)
    binder = HierarchicalBinder(backbone.width, backbone.num_blocks, two_branch=True).requires_grad_(False)
    for parameter in binder.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))

    def bound(part, tokens: torch.Tensor) -> torch.Tensor:
        gate = part.gate(tokens)
        return tokens + part.gamma * ((1 - gate) * part.spatial(tokens) + gate * part.temporal(tokens))

    slots = [2, 3]  # bounc, ing
    contexts = bico_compose.bind(backbone, Case(prompt=CASE.prompt, bind={"clip": ["bouncing"]}), {"clip": binder})
    of_global = bound(binder.shared, project(backbone, CASE.prompt)[0, slots])
    for block, context in zip(binder.blocks, contexts, strict=True):
        torch.testing.assert_close(context[0, slots], bound(block, of_global))


def test_binding_changes_bound_words_only_and_the_order_of_sources_does_not_matter(backbone) -> None:
    binders = {
        source: HierarchicalBinder.from_tensors(load_artifact(path)[0], backbone.num_blocks)
        for source, path in learned("bico").artifacts.items()
    }
    contexts = bico_compose.bind(backbone, CASE, binders)
    plain = project(backbone, CASE.prompt)
    for each in contexts:
        changed = (each != plain).any(dim=-1)[0].nonzero().flatten().tolist()
        assert changed == [1, 2, 3]  # cat, bounc, ing
    other = Case(prompt=CASE.prompt, bind={"clip": ["bouncing"], "still": ["cat"]})
    for one, two in zip(contexts, bico_compose.bind(backbone, other, dict(reversed(binders.items()))), strict=True):
        assert torch.equal(one, two)


def test_plain_keys_leave_attention_where_it_is_and_compose_with_bound_ones(backbone) -> None:
    paths, settings = learned("bico").artifacts, BicoSettings(attention_keys="plain")
    bound, plain = (
        {source: LearnedBinder(load_artifact(path)[0], metadata).on(backbone) for source, path in paths.items()}
        for metadata in ({}, provenance(settings, "still"))
    )
    of_prompt = backbone.keys_values(project(backbone, CASE.prompt))
    of_bound, of_plain, of_both = (
        backbone.keys_values(bico_compose.bind(backbone, CASE, binders))
        for binders in (bound, plain, bound | {"still": plain["still"]})
    )
    for block in range(backbone.num_blocks):
        assert torch.equal(of_plain[block][0], of_prompt[block][0])
        assert torch.equal(of_plain[block][1], of_bound[block][1])
        assert torch.equal(of_both[block][1], of_bound[block][1])
        changed = (of_both[block][0] != of_prompt[block][0]).flatten(2).any(dim=-1)[0]
        assert changed.nonzero().flatten().tolist() == [2, 3]  # bounc, ing: the words of the clip


def test_strength_zero_is_the_base(backbone) -> None:
    off = learned("bico").settings.model_copy(update={"strength": 0.0})
    bound = clips(backbone, "bico", off, learned("bico").artifacts)[0]
    assert np.array_equal(bound, clips(backbone, "base", None, {})[0])


@pytest.mark.parametrize(
    "change",
    [
        {"hierarchical": False},
        {"binds": "key_words", "isolation": {"share": 0.5}},
        {"diversification": False},
        {"temporal_decoupling": False},
        {"gate_learning_rate": 1e-5},
        {"gamma_learning_rate": 1e-1},
        {"rank": 2},
        {"attention_keys": "plain"},
        {"attention_keys": "plain", "isolation": {"share": 0.5}},
        {"caption_sampling": "epochs", "warm_up": 1, "fresh_optimizer": True},
        {"frame_stages": {"global_steps": 0, "all_steps": 2}},
        {"absorption": {"tokens": 0}},
        {"absorption": {"slot": "eos", "learning_rate": 1e-5}},
        {"noise": {"inversion": "released"}, "timestep_weighting": "diffsynth"},
    ],
)
def test_every_ablation_learns_and_composes(backbone, sources, tmp_path: Path, change: dict) -> None:
    two = {"global_steps": 1, "all_steps": 1}
    settings = BicoSettings(learning_rate=1e-2, stages=two, clip_stages=two, **change)
    path = tmp_path / "clip.safetensors"
    tensors = bico_learn.learn(backbone, sources["clip"], settings, shift=3.0, seed=0, workdir=tmp_path / "w")
    save_artifact(path, tensors, provenance(settings, "clip"))
    case = Case(prompt="a cat bouncing", bind={"clip": ["bouncing"]})
    assert clips(backbone, "bico", settings, {"clip": path}, case=case)[0].shape == (5, 32, 32, 3)


def test_key_words_alone_are_bound_where_the_settings_say_so(planned, sources, monkeypatch) -> None:
    masks = []
    monkeypatch.setattr(HierarchicalBinder, "forward", lambda self, context, mask, **how: masks.append(mask))
    monkeypatch.setattr(bico_learn, "flow_matching_loss", lambda *arguments, mask, training: torch.tensor(1.0))
    for binds in ("key_words", "all"):
        losses(planned(binds=binds, absorption={"tokens": 0}).stages[-1].loss)
    key_words, all_words = (sum(masks[half : half + 4]).bool().sum().item() for half in (0, 4))
    marked = [(row > 0).nonzero().flatten().tolist() for row in sources["clip"].key_slots]
    assert all(mask[0].nonzero().flatten().tolist() in marked for mask in masks[:4])
    assert all_words > key_words


@pytest.mark.parametrize("name", ["still", "clip"])
def test_without_diversification_there_is_one_caption(sources, name: str) -> None:
    plain = bico_learn.with_one_caption(sources[name])
    batches = [(plain.draw(8, torch.Generator().manual_seed(0), frames=False), sources[name].prompt_embeds)]
    if name == "clip":
        batches += [(plain.draw(8, torch.Generator().manual_seed(0), frames=True), sources[name].frame_prompt_embeds)]
        assert len(batches[1][0].latents.unique(dim=0)) > 1  # of several frames
    for batch, captions in batches:
        assert all(torch.equal(drawn, captions[0]) for drawn in batch.prompt_embeds)


def test_the_gate_has_a_learning_rate_of_its_own(backbone, sources, tmp_path: Path) -> None:
    two = {"global_steps": 2, "all_steps": 1}
    settings = BicoSettings(learning_rate=1e-2, gate_learning_rate=1e-6, stages=two, clip_stages=two)
    tensors = bico_learn.learn(backbone, sources["clip"], settings, shift=3.0, seed=0, workdir=tmp_path)
    assert 0 < tensors["shared.gate.1.weight"].abs().max() < 1e-5
    assert tensors["shared.gamma"].abs() > 1e-3


def test_gammas_have_a_learning_rate_of_their_own(backbone, sources, tmp_path: Path) -> None:
    two = {"global_steps": 1, "all_steps": 1}
    settings = BicoSettings(learning_rate=1e-4, gamma_learning_rate=1e-1, stages=two, clip_stages=two)
    tensors = bico_learn.learn(backbone, sources["still"], settings, shift=3.0, seed=0, workdir=tmp_path)
    assert tensors["shared.gamma"].abs() > 0.05
    start = bico_learn.initial(backbone, "image", settings, 0)[0].state_dict()
    moved = tensors["shared.spatial.1.weight"] - start["shared.spatial.1.weight"]
    assert moved.abs().max() < 1e-3


def gate_after(steps: int, width: int, settings: BicoSettings, *, pull: float) -> torch.Tensor:
    """g of each word of a vocabulary, after these steps on random gradients whose mean is `-pull`."""
    torch.manual_seed(0)
    binder, absorption = HierarchicalBinder(width, 0, two_branch=True), torch.nn.Parameter(torch.zeros(1, width))
    gate, vocabulary = binder.shared.gate, torch.randn(100, width)
    assert not gate(vocabulary).any()
    of_gate = {id(parameter) for parameter in gate.parameters()}
    groups = bico_learn.groups(binder, absorption, settings)
    trained = [
        {"params": [each for each in group.parameters.values() if id(each) in of_gate], "lr": group.learning_rate}
        for group in groups
    ]
    optimizer = torch.optim.AdamW([group for group in trained if group["params"]], fused=True)
    for _ in range(steps):
        optimizer.zero_grad()
        opened = gate(vocabulary[torch.randint(100, (8,))])
        (opened * (torch.randn_like(opened) - pull)).mean().backward()
        optimizer.step()
    return gate(vocabulary).detach().abs()


@pytest.mark.parametrize(("config", "width"), [("paper.yaml", 1536), ("toybox.yaml", 192)])
def test_the_gate_stays_small_under_noise_and_opens_under_a_steady_gradient(config: str, width: int) -> None:
    settings = load(ROOT / "config" / config).methods["bico"]
    plain = settings.model_copy(update={"gate_learning_rate": settings.learning_rate})
    steps = settings.clip_stages.total
    few, small = min(steps, 300), 15 * settings.learning_rate  # Adam goes by the rate a step
    assert gate_after(few, width, settings, pull=0).mean() < small < 0.1 < gate_after(few, width, plain, pull=0).mean()
    assert gate_after(few, width, settings, pull=1).mean() > 0.02
    assert gate_after(steps, width, settings, pull=1).max() < 1


def test_the_metrics_tell_how_far_the_gate_has_opened_where_it_is_passed() -> None:
    of_image, of_clip = (metrics(learned("bico").folder / f"{source}.ckpt") for source in ("still", "clip"))
    of_frames = [line for line in of_clip if line["stage"].startswith("frames")]
    assert of_frames and not any("gate_mean" in line or "gate_largest" in line for line in of_image + of_frames)
    opened = [(line["gate_mean"], line["gate_largest"]) for line in of_clip[len(of_frames) :]]
    assert opened[0] == (0, 0) and all(0 < mean <= largest < 1 for mean, largest in opened[1:])
    first = [line["stage"] for line in of_clip[len(of_frames) :]].index("clip_all")
    assert opened[first][0] < opened[first - 1][0] / 2  # a step's own: the gates of the blocks are still closed


def test_in_epochs_every_caption_comes_once_before_any_comes_again(sources) -> None:
    """Also where the stage changes, and where a batch goes through in parts; a frame comes with its own caption."""
    stages = {"global_steps": 1, "all_steps": 5}
    settings = BicoSettings(stages=stages, clip_stages=stages, batch_size=2, caption_sampling="epochs")
    clip, generator = sources["clip"], torch.Generator()

    def numbers(seed: int) -> list[list[int]]:
        """The captions of each epoch, by their number."""
        picked = []
        for phase, draw, _ in updates(phases(settings, "video", 3.0), clip, settings, seed):
            captions = clip.frame_prompt_embeds if phase.frames else clip.prompt_embeds
            for batch in (draw(1, generator), draw(1, generator)):
                picked.append([torch.equal(batch.prompt_embeds[0], each) for each in captions].index(True))
                if phase.frames:
                    assert torch.equal(batch.latents[0], clip.frame_latents[picked[-1]])
        return [picked[start : start + 3] for start in range(0, 24, 3)]

    assert all(sorted(epoch) == [0, 1, 2] for epoch in numbers(0))
    assert len({tuple(epoch) for epoch in numbers(0)}) > 1
    assert numbers(0) == numbers(0) != numbers(1) and numbers(0)[:4] != numbers(0)[4:]


def test_the_first_steps_of_a_training_go_a_third_as_far(backbone, sources, tmp_path: Path) -> None:
    two = {"global_steps": 1, "all_steps": 1}
    settings = BicoSettings(learning_rate=1e-2, stages=two, warm_up=1)
    bico_learn.learn(backbone, sources["still"], settings, shift=3.0, seed=0, workdir=tmp_path)
    first, second = (line["gamma_global"] for line in metrics(tmp_path))
    assert first == pytest.approx(1e-2 / 3, rel=1e-3) and second > 2 * first


def test_what_does_not_fit_at_once_goes_through_a_step_in_parts(planned, monkeypatch) -> None:
    monkeypatch.setattr("bico.models.wan.token_limits.CHECKPOINT_TOKENS", 8)  # of a frame there are 4, of the clip 8
    parts = {stage.name: stage.micro_batch for stage in planned().stages}
    assert parts == {"frames_global": 2, "frames_all": 2, "clip_global": 1, "clip_all": 1}


@pytest.mark.parametrize("global_steps", [0, 2])
def test_a_fresh_optimizer_starts_with_the_clip(planned, global_steps: int) -> None:
    stages = {"global_steps": global_steps, "all_steps": 3}
    plan = planned(stages=stages, clip_stages=stages, fresh_optimizer=True).stages
    fresh = [number for number, stage in enumerate(plan) if stage.fresh_optimizer]
    assert fresh == [0, 3 + global_steps] and plan[fresh[1]].name.startswith("clip")
    assert not any(stage.fresh_optimizer for stage in planned(stages=stages, clip_stages=stages).stages)


@pytest.mark.parametrize("stop_at", [1, 4, 5])
def test_an_interrupted_training_in_epochs_with_a_fresh_optimizer_ends_as_an_uninterrupted_one(
    backbone, sources, monkeypatch, tmp_path: Path, stop_at: int
) -> None:
    """It breaks off in the middle of an epoch, before the first step on the clip, and after it."""
    two = {"global_steps": 2, "all_steps": 2}
    settings = BicoSettings(
        learning_rate=1e-2, stages=two, clip_stages=two, batch_size=2, checkpoint_every=1,
        caption_sampling="epochs", warm_up=1, fresh_optimizer=True,
    )  # fmt: skip

    def learn(folder: str) -> dict[str, torch.Tensor]:
        return bico_learn.learn(backbone, sources["clip"], settings, shift=3.0, seed=0, workdir=tmp_path / folder)

    whole = learn("whole")
    with monkeypatch.context() as patched:
        calls = iter(range(99))

        def breaking(*arguments, training: bool, **more):
            if training and next(calls) == stop_at:
                raise KeyboardInterrupt
            return flow_matching_loss(*arguments, training=training, **more)

        patched.setattr(bico_learn, "flow_matching_loss", breaking)
        with pytest.raises(KeyboardInterrupt):
            learn("broken")
    resumed = learn("broken")
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())
    curves = [[line["loss"] for line in metrics(tmp_path / folder)] for folder in ("whole", "broken")]
    assert len(curves[0]) == 8 and curves[0] == curves[1]


def test_a_clips_step_is_measured_without_its_frames_in_epochs_too(backbone, sources, tmp_path: Path) -> None:
    settings = BicoSettings(caption_sampling="epochs", fresh_optimizer=True, warm_up=1)
    few = settings.measured(2, "video", backbone.num_blocks)
    bico_learn.learn(backbone, sources["clip"], few, shift=3.0, seed=0, workdir=tmp_path)
    assert [line["stage"] for line in metrics(tmp_path)] == ["clip_all"] * 2


def test_the_absorption_token_has_a_learning_rate_of_its_own(planned) -> None:
    rates = {
        name: group.learning_rate
        for group in planned(learning_rate=1e-2, absorption={"learning_rate": 1e-5}).groups
        for name in group.parameters
    }
    assert rates["absorption"] == 1e-5 and rates["shared.gamma"] == rates["shared.gate.1.bias"] == 1e-2


@pytest.mark.parametrize(
    ("slot", "tokens", "masked", "absorbed"),
    [
        ("append", 1, [0, 1, 3], [3]),
        ("append", 2, [0, 1, 3, 4], [3, 4]),
        ("eos", 1, [0, 1, 2], [2]),
        ("eos", 0, [0, 1], []),
    ],
)
def test_the_absorption_token_is_appended_to_the_prompt_or_replaces_its_end_token(
    slot, tokens, masked, absorbed
) -> None:
    context, absorption = torch.zeros(1, 6, 4), torch.ones(tokens, 4)
    placed, mask = with_absorption(context, torch.tensor([3]), absorption, Absorption(tokens=tokens, slot=slot))
    assert mask[0].nonzero().flatten().tolist() == masked
    assert placed[0].any(dim=-1).nonzero().flatten().tolist() == absorbed
    assert not context.any()


def test_only_the_words_asked_for_and_the_absorption_token_are_bound() -> None:
    words = torch.tensor([[False, True, False, False, False, False]])
    _, mask = with_absorption(torch.zeros(1, 6, 4), torch.tensor([3]), torch.ones(1, 4), Absorption(), words)
    assert mask[0].tolist() == [False, True, False, True, False, False]


def test_a_caption_that_fills_all_slots_loses_its_last_token_to_the_absorption_token() -> None:
    placed, _ = with_absorption(torch.zeros(1, 6, 4), torch.tensor([6]), torch.ones(1, 4), Absorption())
    assert placed[0].any(dim=-1).nonzero().flatten().tolist() == [5]


def test_isolation_loss_is_zero_without_a_change_and_binds_one_whole_word_of_each_clip(backbone, sources) -> None:
    batch = sources["clip"].draw(6, torch.Generator().manual_seed(0), frames=False)
    context, sigmas = backbone.context(batch.prompt_embeds).detach(), torch.full((6,), 0.5)
    bound: list[torch.Tensor] = []

    def loss(change: float) -> torch.Tensor:
        def binder(context: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
            bound.append(mask)
            return [context + change * mask[..., None]] * backbone.num_blocks

        generator = torch.Generator().manual_seed(0)
        return isolation_loss(backbone, batch, context, binder, sigmas, generator)

    assert loss(0.0) < 1e-12 < 1e-6 < loss(1.0)  # attention rounds otherwise with gradients than without
    words = [batch.key_slots[row][mask].unique().tolist() for row, mask in enumerate(bound[0])]
    assert all(len(word) == 1 and word[0] > 0 for word in words)  # one key word of each clip, whole
    assert len({word[0] for word in words}) > 1


def test_isolation_draws_no_key_word_that_another_one_covers(backbone, sources) -> None:
    """Of "dog" and "brown dog" the first has no slot of its own, and its steps would do nothing."""
    batch = sources["clip"].draw(12, torch.Generator().manual_seed(0), frames=False)
    slots = torch.where(batch.key_slots == 1, 2, batch.key_slots)
    batch, masks = replace(batch, key_slots=slots), []

    def binder(context: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
        masks.append(mask)
        return [context] * backbone.num_blocks

    context = backbone.context(batch.prompt_embeds).detach()
    isolation_loss(backbone, batch, context, binder, torch.full((12,), 0.5), torch.Generator().manual_seed(0))
    assert masks[0].any(dim=1).all() and slots[masks[0]].min() == 2


def test_isolation_loss_of_a_patch_falls_with_its_attention_to_the_word(backbone, sources, monkeypatch) -> None:
    batch = sources["clip"].draw(2, torch.Generator().manual_seed(0), frames=False)
    context = backbone.context(batch.prompt_embeds).detach()
    looks = torch.zeros(2, 8, tiny.TEXT_SLOTS)
    looks[:, 0], looks[:, 1] = 0.4, 0.1
    monkeypatch.setattr(isolation, "recorded", lambda backbone: nullcontext([looks]))

    def loss(place: int) -> float:
        change = backbone.at_places(torch.eye(8)[place].expand(2, -1), batch.latents.shape)

        def velocity(self, noisy, timesteps, contexts, *, training=False):
            return torch.zeros_like(noisy) + change * isinstance(contexts, list)

        monkeypatch.setattr(type(backbone), "velocity", velocity)
        generator = torch.Generator().manual_seed(0)
        bound = lambda context, mask: [context]  # noqa: E731
        return isolation_loss(backbone, batch, context, bound, torch.full((2,), 0.5), generator).item()

    assert [loss(place) for place in (0, 1, 2)] == pytest.approx([0, 0.75 / 8, 1 / 8])


def test_isolation_steps_have_the_weight_of_the_settings_and_the_eval_loss_has_no_isolation(
    planned, monkeypatch
) -> None:
    monkeypatch.setattr(bico_learn, "isolation_loss", lambda *arguments: torch.tensor(3.0))
    monkeypatch.setattr(bico_learn, "flow_matching_loss", lambda *arguments, mask, training: torch.tensor(1.0))
    plan = planned(isolation={"share": 1 - 1e-9, "weight": 2.0})
    assert losses(plan.stages[0].loss) == [6.0] * 4 and losses(plan.evaluation) == [1.0] * 4
    assert losses(planned().stages[0].loss) == [1.0] * 4


def test_training_places_the_absorption_tokens_where_the_settings_say(planned, monkeypatch) -> None:
    seen, place = [], bico_learn.with_absorption
    monkeypatch.setattr(bico_learn, "flow_matching_loss", lambda *arguments, mask, training: torch.tensor(1.0))
    monkeypatch.setattr(bico_learn, "with_absorption", lambda *given: seen.append(given[3]) or place(*given))
    for slot in ("append", "eos"):
        losses(planned(absorption={"slot": slot}).stages[0].loss)
    assert [each.slot for each in seen] == ["append"] * 4 + ["eos"] * 4


def test_isolation_steps_bind_with_the_binders_and_branches_of_their_stage(planned, monkeypatch) -> None:
    bound, one = [], {"global_steps": 1, "all_steps": 1}

    def loss(backbone, batch, context, binder, *rest) -> torch.Tensor:
        bound.append(binder.keywords)
        return torch.tensor(1.0)

    monkeypatch.setattr(bico_learn, "isolation_loss", loss)
    for stage in planned(stages=one, clip_stages=one, isolation={"share": 1 - 1e-9}).stages:
        stage.loss(torch.Generator().manual_seed(0), 1, training=True)
    ways = [(False, False), (True, False), (False, True), (True, True)]
    assert bound == [{"per_block": per_block, "temporal": temporal} for per_block, temporal in ways]


@pytest.mark.parametrize("keys", ["bound", "plain"])
def test_a_binder_trains_with_the_keys_with_which_it_composes(backbone, keys: str) -> None:
    assert bico_learn.initial(backbone, "image", BicoSettings(attention_keys=keys), 0)[0].keys == keys
