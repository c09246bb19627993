import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from torch._dynamo.utils import counters

from bico.config.schema import (
    METHOD_SETTINGS,
    Absorption,
    BicoSettings,
    Case,
    DbLoraSettings,
    DreamVideoSettings,
    TextualInversionSettings,
)
from bico.media.files import read_media, write_clip
from bico.methods import bico, db_lora, method, textual_inversion
from bico.methods.base import Job, load_artifact, project, save_artifact
from bico.methods.training import NoiseLevels, flow_matching_loss
from bico.models.binder import HierarchicalBinder
from bico.sources.encoding import EncodedSource, encode_source

CASE = Case(prompt="a cat bouncing at the beach", bind={"still": ["cat"], "clip": ["bouncing"]})
STEPS = {"global_steps": 4, "all_steps": 12}
LEARNED = {
    "bico": BicoSettings(learning_rate=1e-2, batch_size=4, stages=STEPS, clip_stages=STEPS),
    "textual_inversion": TextualInversionSettings(learning_rate=1e-2, batch_size=2, steps=4, vectors=2),
    "db_lora": DbLoraSettings(learning_rate=1e-3, batch_size=2, steps=4, rank=4, video_rank=6),
    "dreamvideo": DreamVideoSettings(
        inversion_steps=2, identity_steps=4, motion_steps=4, inversion_rate=1e-2, learning_rate=1e-2, batch_size=2
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def backbone():
    return tiny.backbone()


@pytest.fixture(scope="module")
def sources() -> dict[str, EncodedSource]:
    return {"still": tiny.source("image", seed=1), "clip": tiny.source("video", seed=2)}


@pytest.fixture(scope="module")
def learned(backbone, sources, tmp_path_factory) -> dict[str, SimpleNamespace]:
    """Every learned method's artifacts of both sources, learned once."""
    folder = tmp_path_factory.mktemp("learned")
    everything = {}
    for name, settings in LEARNED.items():
        artifacts = {}
        for source, encoded in sources.items():
            workdir = folder / name / f"{source}.ckpt"
            tensors = method(name).learn(backbone, encoded, settings, shift=3.0, seed=0, workdir=workdir)
            artifacts[source] = folder / name / f"{source}.safetensors"
            save_artifact(artifacts[source], tensors, {"method": name, "source": source})
        everything[name] = SimpleNamespace(settings=settings, artifacts=artifacts, folder=folder / name)
    return everything


def clips(backbone, name: str, settings, artifacts: dict[str, Path], seeds=(0,), case: Case = CASE) -> list[np.ndarray]:
    jobs = [Job("case", case, seed, artifacts) for seed in seeds]
    return [clip for _, clip in method(name).compose(backbone, jobs, settings, tiny.SAMPLING, tiny.MEDIA)]


def test_each_clip_of_a_case_is_made_with_its_own_training(backbone, learned, tmp_path: Path) -> None:
    """Two clips of one case, of which the second has other artifacts, as with several `learning_seeds`."""
    for name, made in learned.items():
        other = {source: tmp_path / f"{name}_{source}" for source in made.artifacts}
        for source, path in made.artifacts.items():
            tensors, metadata = load_artifact(path)
            save_artifact(other[source], {key: 1.5 * tensor for key, tensor in tensors.items()}, metadata)
        planned = [Job("case", CASE, 0, made.artifacts), Job("case", CASE, 0, other)]
        takes = method(name).compose(backbone, planned, made.settings, tiny.SAMPLING, tiny.MEDIA)
        together = [clip for _, clip in takes]
        assert not np.array_equal(*together), name
        assert np.array_equal(together[0], clips(backbone, name, made.settings, made.artifacts)[0]), name


def metrics(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", METHOD_SETTINGS)
def test_every_row_has_its_module(name: str) -> None:
    assert hasattr(method(name), "learn") == (METHOD_SETTINGS[name].LEARNS_PER != "nothing")
    assert callable(method(name).compose)


@pytest.mark.parametrize("name", LEARNED)
def test_learned_clips_differ_from_the_base_and_repeat(backbone, learned, name: str) -> None:
    entry = learned[name]
    first, second = clips(backbone, name, entry.settings, entry.artifacts, seeds=(0, 1))
    assert first.shape == (5, 32, 32, 3)
    assert first.dtype == np.uint8
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, clips(backbone, "base", None, {})[0])
    assert np.array_equal(second, clips(backbone, name, entry.settings, entry.artifacts, seeds=(1,))[0])


@pytest.mark.parametrize("name", LEARNED)
def test_learning_twice_gives_the_same_bytes(sources, learned, tmp_path: Path, name: str) -> None:
    settings = learned[name].settings
    again = method(name).learn(
        tiny.backbone(), sources["still"], settings, shift=3.0, seed=0, workdir=tmp_path / "work"
    )
    path = tmp_path / "again.safetensors"
    save_artifact(path, again, {"method": name, "source": "still"})
    assert path.read_bytes() == learned[name].artifacts["still"].read_bytes()


@pytest.mark.parametrize("name", ["bico", "textual_inversion", "db_lora"])
def test_compiled_blocks_learn_the_same(sources, learned, tmp_path: Path, monkeypatch, name: str) -> None:
    opened = tiny.compiling(monkeypatch)
    compiled = method(name).learn(
        opened, sources["clip"], learned[name].settings, shift=3.0, seed=0, workdir=tmp_path / "work"
    )
    assert counters["stats"]["unique_graphs"] > 0
    torch.testing.assert_close(compiled, load_artifact(learned[name].artifacts["clip"])[0])


def test_base_is_the_plain_pipeline(backbone) -> None:
    negative = project(backbone, tiny.SAMPLING.negative_prompt)
    expected = backbone.generate(project(backbone, CASE.prompt), negative, [0], tiny.SAMPLING, tiny.MEDIA)
    assert np.array_equal(clips(backbone, "base", None, {})[0], expected[0])


def test_copy_returns_the_source_itself(backbone, tmp_path: Path) -> None:
    path = tmp_path / "still.png"
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(picture).save(path)
    case = Case(prompt="a cat", bind={"still": ["cat"]})
    job = Job("case", case, 0, media={"still": path})
    ((_, clip),) = method("copy").compose(backbone, [job], None, tiny.SAMPLING, tiny.MEDIA)
    assert clip.shape == (5, 32, 32, 3)
    assert all(np.array_equal(frame, picture) for frame in clip)


# BiCo


@torch.no_grad()
def loss_of(backbone, encoded: EncodedSource, binder: HierarchicalBinder) -> float:
    """Loss of a source's captions with all words bound, on noise that is the same for every binder."""
    noise = torch.Generator().manual_seed(0)
    batch = encoded.draw(32, noise, frames=False)
    context = backbone.context(batch.prompt_embeds)
    words = torch.arange(context.shape[1]) < batch.token_counts[:, None] - 1
    sigmas = NoiseLevels(shift=3.0).draw(32, noise)
    return flow_matching_loss(backbone, batch.latents, binder(context, words), sigmas, noise).item()


@pytest.mark.parametrize("source", ["still", "clip"])
def test_bico_lowers_the_loss_of_its_source(backbone, sources, learned, source: str) -> None:
    tensors, _ = load_artifact(learned["bico"].artifacts[source])
    trained = HierarchicalBinder.from_tensors(tensors, backbone.num_blocks)
    untrained = HierarchicalBinder(backbone.width, backbone.num_blocks)
    assert loss_of(backbone, sources[source], trained) < 0.98 * loss_of(backbone, sources[source], untrained)


def test_a_video_learns_on_frames_first_then_opens_its_temporal_branch(learned) -> None:
    names = [line["stage"] for line in metrics(learned["bico"].folder / "clip.ckpt")]
    assert list(dict.fromkeys(names)) == ["frames_global", "frames_all", "clip_global", "clip_all"]
    tensors, metadata = load_artifact(learned["bico"].artifacts["clip"])
    assert metadata == {"method": "bico", "source": "clip"}
    assert tensors["shared.gate.1.weight"].any()
    assert tensors["blocks.0.gate.1.weight"].any()
    assert tensors["absorption"].shape[0] == learned["bico"].settings.absorption.tokens
    assert "shared.gate.1.weight" not in load_artifact(learned["bico"].artifacts["still"])[0]


def test_binding_touches_bound_words_only_and_order_does_not_matter(backbone, learned) -> None:
    binders = {
        source: HierarchicalBinder.from_tensors(load_artifact(path)[0], backbone.num_blocks)
        for source, path in learned["bico"].artifacts.items()
    }
    contexts = bico.bind(backbone, CASE, binders)
    plain = project(backbone, CASE.prompt)
    for each in contexts:
        changed = (each != plain).any(dim=-1)[0].nonzero().flatten().tolist()
        assert changed == [1, 2, 3]  # cat, bounc, ing
    other = Case(prompt=CASE.prompt, bind={"clip": ["bouncing"], "still": ["cat"]})
    for one, two in zip(contexts, bico.bind(backbone, other, dict(reversed(binders.items()))), strict=True):
        assert torch.equal(one, two)


def test_strength_zero_is_the_base(backbone, learned) -> None:
    off = learned["bico"].settings.model_copy(update={"strength": 0.0})
    bound = clips(backbone, "bico", off, learned["bico"].artifacts)[0]
    assert np.array_equal(bound, clips(backbone, "base", None, {})[0])


@pytest.mark.parametrize(
    ("slot", "tokens", "masked", "absorbed"),
    [
        ("append", 1, [0, 1, 3], [3]),
        ("append", 2, [0, 1, 3, 4], [3, 4]),
        ("eos", 1, [0, 1, 2], [2]),
        ("eos", 0, [0, 1], []),
    ],
)
def test_the_absorption_token_stands_after_the_prompt_or_on_its_end(slot, tokens, masked, absorbed) -> None:
    context, absorption = torch.zeros(1, 6, 4), torch.ones(tokens, 4)
    placed, mask = bico.with_absorption(context, torch.tensor([3]), absorption, Absorption(tokens=tokens, slot=slot))
    assert mask[0].nonzero().flatten().tolist() == masked
    assert placed[0].any(dim=-1).nonzero().flatten().tolist() == absorbed
    assert not context.any()


def test_only_the_words_asked_for_and_the_absorption_token_are_bound() -> None:
    words = torch.tensor([[False, True, False, False, False, False]])
    _, mask = bico.with_absorption(torch.zeros(1, 6, 4), torch.tensor([3]), torch.ones(1, 4), Absorption(), words)
    assert mask[0].tolist() == [False, True, False, True, False, False]


def test_isolation_costs_nothing_where_the_word_is_looked_at_or_nothing_is_bound(backbone, sources) -> None:
    batch = sources["clip"].draw(6, torch.Generator().manual_seed(0), frames=False)
    context, sigmas = backbone.context(batch.prompt_embeds).detach(), torch.full((6,), 0.5)
    bound: list[torch.Tensor] = []

    def loss(change: float) -> torch.Tensor:
        def binder(context: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
            bound.append(mask)
            return [context + change * mask[..., None]] * backbone.num_blocks

        generator = torch.Generator().manual_seed(0)
        return bico.isolation_loss(backbone, batch, context, binder, sigmas, generator)

    assert loss(0.0) < 1e-12 < 1e-6 < loss(1.0)  # attention rounds otherwise with gradients than without
    words = [batch.key_slots[row][mask].unique().tolist() for row, mask in enumerate(bound[0])]
    assert all(len(word) == 1 and word[0] > 0 for word in words)  # one key word of each clip, whole
    assert len({word[0] for word in words}) > 1


def test_a_value_for_each_place_is_spread_over_its_patch(backbone) -> None:
    spread = backbone.at_places(torch.arange(8.0)[None], torch.Size([1, 4, 2, 4, 4]))
    assert spread.shape == (1, 1, 2, 4, 4)
    assert spread[0, 0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]


def test_a_caption_that_fills_all_slots_gives_one_up() -> None:
    placed, _ = bico.with_absorption(torch.zeros(1, 6, 4), torch.tensor([6]), torch.ones(1, 4), Absorption())
    assert placed[0].any(dim=-1).nonzero().flatten().tolist() == [5]


@pytest.mark.parametrize(
    ("change", "names", "steps"),
    [
        ({}, ["frames_global", "frames_all", "clip_global", "clip_all"], 10),
        ({"temporal_decoupling": False}, ["global", "all"], 5),
        (
            {"stages": {"global_steps": 0, "all_steps": 3}},
            ["frames_global", "frames_all", "clip_global", "clip_all"],
            8,
        ),
    ],
)
def test_schedules_of_a_video(change: dict, names: list[str], steps: int) -> None:
    short = {"stages": {"global_steps": 2, "all_steps": 3}, "clip_stages": {"global_steps": 1, "all_steps": 4}}
    plan = bico.phases(BicoSettings(**(short | change)), "video", shift=3.0)
    assert [phase.name for phase in plan] == names
    assert sum(phase.steps for phase in plan) == steps


@pytest.mark.parametrize(
    "change",
    [
        {"hierarchical": False},
        {"binds": "key_words", "isolation": {"share": 0.5}},
        {"diversification": False},
        {"temporal_decoupling": False},
        {"gate_learning_rate": 1e-5},
        {"absorption": {"tokens": 0}},
        {"absorption": {"slot": "eos", "learning_rate": 1e-5}},
        {"noise": {"inversion": "released"}, "timestep_weighting": "diffsynth"},
    ],
)
def test_every_ablation_learns_and_composes(backbone, sources, tmp_path: Path, change: dict) -> None:
    two = {"global_steps": 1, "all_steps": 1}
    settings = BicoSettings(learning_rate=1e-2, stages=two, clip_stages=two, **change)
    path = tmp_path / "clip.safetensors"
    save_artifact(path, bico.learn(backbone, sources["clip"], settings, shift=3.0, seed=0, workdir=tmp_path / "w"), {})
    case = Case(prompt="a cat bouncing", bind={"clip": ["bouncing"]})
    assert clips(backbone, "bico", settings, {"clip": path}, case=case)[0].shape == (5, 32, 32, 3)


def test_the_gate_has_a_rate_of_its_own(backbone, sources, tmp_path: Path) -> None:
    two = {"global_steps": 2, "all_steps": 1}
    settings = BicoSettings(learning_rate=1e-2, gate_learning_rate=1e-6, stages=two, clip_stages=two)
    tensors = bico.learn(backbone, sources["clip"], settings, shift=3.0, seed=0, workdir=tmp_path)
    assert 0 < tensors["shared.gate.1.weight"].abs().max() < 1e-5
    assert tensors["shared.gamma"].abs() > 1e-3


@pytest.mark.parametrize("name", ["still", "clip"])
def test_without_diversification_there_is_one_caption(sources, name: str) -> None:
    plain = bico.with_one_caption(sources[name])
    batches = [(plain.draw(8, torch.Generator().manual_seed(0), frames=False), sources[name].prompt_embeds)]
    if name == "clip":
        batches += [(plain.draw(8, torch.Generator().manual_seed(0), frames=True), sources[name].frame_prompt_embeds)]
        assert len(batches[1][0].latents.unique(dim=0)) > 1  # of several frames
    for batch, captions in batches:
        assert all(torch.equal(drawn, captions[0]) for drawn in batch.prompt_embeds)


# Textual Inversion


def test_vectors_start_from_their_word(backbone) -> None:
    embeddings = backbone.input_embeddings("a video of bouncing")
    vectors = textual_inversion.initial(embeddings, {"bouncing": [3, 4]}, "bouncing", count=3)
    assert torch.equal(vectors, embeddings[[3, 4, 3]])


def test_vectors_replace_each_bound_word_once() -> None:
    embeddings, vectors = torch.arange(6.0)[:, None], {"a": torch.tensor([[70.0], [80.0]]), "b": torch.tensor([[90.0]])}
    placed = textual_inversion.replaced(embeddings, {"a": [1, 2, 5], "b": [3]}, vectors)
    assert placed.flatten().tolist() == [0, 70, 80, 90, 4, 70, 80]


def test_every_key_word_has_vectors_of_its_own(sources, learned) -> None:
    tensors, _ = load_artifact(learned["textual_inversion"].artifacts["clip"])
    spatial, temporal = sources["clip"].spatial[0], sources["clip"].temporal[0]
    vectors = textual_inversion.by_word(tensors)
    assert not torch.equal(vectors[spatial], vectors[temporal])
    assert next(iter(vectors)) == temporal  # the class word's first


def test_a_phrase_without_key_words_keeps_its_words_behind_the_vectors(backbone, monkeypatch) -> None:
    placed = []
    monkeypatch.setattr(backbone, "encode_embeddings", lambda embeddings: placed.extend(embeddings) or tiny_context)
    tiny_context = torch.zeros(1, backbone.text_slots, 32)
    plain, vectors = backbone.input_embeddings("a cat at the beach"), torch.full((2, 32), 7.0)
    for words, expected in (
        (["cat"], [*plain[:1], *vectors, *plain[2:]]),
        (["cat at the beach"], [*plain[:1], *vectors, *plain[2:]]),  # the key word inside the phrase
        (["the beach"], [*plain[:3], *vectors, *plain[3:]]),
    ):
        case = Case(prompt="a cat at the beach", bind={"still": words})
        textual_inversion.inverted(backbone, case, {"still": {"0 cat": vectors}})
        assert torch.equal(placed.pop(), torch.stack(expected))


def test_textual_inversion_moves_its_vectors(learned) -> None:
    tensors, _ = load_artifact(learned["textual_inversion"].artifacts["still"])
    assert {tuple(vectors.shape) for vectors in tensors.values()} == {(2, 32)}
    norms = [line["norm"] for line in metrics(learned["textual_inversion"].folder / "still.ckpt")]
    assert norms[0] != norms[-1]


# DB-LoRA


def weights(backbone) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in backbone.transformer.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_loras_merge_and_leave_no_trace(backbone, learned) -> None:
    loras = [load_artifact(path)[0] for path in learned["db_lora"].artifacts.values()]
    before = weights(backbone)
    layer = "blocks.1.attn2.to_k"
    with db_lora.merged(backbone.transformer, loras, weight=0.5):
        delta = sum(lora[f"{layer}.lora_B"] @ lora[f"{layer}.lora_A"] for lora in loras)
        torch.testing.assert_close(
            backbone.transformer.state_dict()[f"{layer}.weight"], before[f"{layer}.weight"] + 0.5 * delta
        )
        changed = [name for name, tensor in weights(backbone).items() if not torch.equal(tensor, before[name])]
        assert len(changed) == 3 * 10  # blocks, and layers in each
    assert same(weights(backbone), before)


def test_merged_weights_act_as_the_adapter_that_was_trained(backbone, sources) -> None:
    latents, timesteps = torch.randn(1, 4, 2, 4, 4), torch.tensor([500.0])
    context = project(backbone, CASE.prompt)
    with db_lora.adapter(backbone.transformer, rank=3, seed=0) as parameters, torch.no_grad():
        for parameter in parameters.values():
            parameter.copy_(torch.randn_like(parameter))
        tensors = {name: parameter.clone() for name, parameter in parameters.items()}
        trained = backbone.velocity(latents, timesteps, context)
    with db_lora.merged(backbone.transformer, [tensors], weight=1.0), torch.no_grad():
        torch.testing.assert_close(backbone.velocity(latents, timesteps, context), trained, rtol=1e-4, atol=1e-4)


def test_learning_a_lora_leaves_the_backbone_as_it_was(backbone, sources, tmp_path: Path) -> None:
    before = weights(backbone)
    db_lora.learn(backbone, sources["still"], LEARNED["db_lora"], shift=3.0, seed=0, workdir=tmp_path)
    assert same(weights(backbone), before)


def test_images_and_videos_have_their_own_rank(learned) -> None:
    for source, rank in (("still", 4), ("clip", 6)):
        tensors, _ = load_artifact(learned["db_lora"].artifacts[source])
        assert {tensor.shape[0] for name, tensor in tensors.items() if name.endswith("lora_A")} == {rank}


def test_rare_tokens_go_before_the_bound_words() -> None:
    case = Case(prompt="an orange cat bouncing", bind={"a": ["orange cat"], "b": ["bouncing"]})
    assert db_lora.target_prompt(case, "sks") == "a sks orange cat sks bouncing"
    assert db_lora.target_prompt(case, "") == "an orange cat bouncing"


# Encoding


def test_an_encoded_source_survives_its_file(sources, tmp_path: Path) -> None:
    for name, encoded in sources.items():
        encoded.save(tmp_path / name)
        opened = EncodedSource.load(tmp_path / name)
        assert all(torch.equal(opened._tensors()[name], tensor) for name, tensor in encoded._tensors().items())
        assert (opened.kind, opened.spatial, opened.temporal) == (encoded.kind, encoded.spatial, encoded.temporal)


def test_a_clip_is_encoded_whole_and_by_the_frames_that_captions_describe(backbone) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    concepts = {
        "kind": "video", "spatial": ["cat"], "temporal": ["bouncing"], "captions": ["a cat bouncing", "a cat"],
        "frame_captions": ["a cat", "the cat", "cat"], "frame_indices": [0, 2, 4],
    }  # fmt: skip
    encoded = encode_source(backbone, frames, concepts)
    assert torch.equal(encoded.latents, backbone.encode_clip(frames))
    assert torch.equal(encoded.frame_latents[1], backbone.encode_clip(frames[2:3]))
    assert encoded.token_counts.tolist() == [5, 3]
    assert encoded.key_slots[:, :5].tolist() == [[0, 1, 2, 2, 0], [0, 1, 0, 0, 0]]  # a cat bounc ing; a cat
    assert encoded.frame_prompt_embeds.shape == (3, 3, 32)  # the longest is two words and the end
    for kept, captions in ((encoded.prompt_embeds, "captions"), (encoded.frame_prompt_embeds, "frame_captions")):
        assert torch.equal(backbone.context(kept), backbone.context(backbone.encode_prompts(concepts[captions])[0]))
    still = encode_source(backbone, frames[:1], {**concepts, "kind": "image", "temporal": []})
    assert still.latents.shape == (4, 1, 4, 4)
    assert still.frame_latents is None


def test_frames_are_drawn_with_their_own_captions(sources) -> None:
    clip = sources["clip"]
    batch = clip.draw(8, torch.Generator().manual_seed(0), frames=True)
    for latents, prompt_embeds in zip(batch.latents, batch.prompt_embeds, strict=True):
        frame = next(i for i, each in enumerate(clip.frame_latents) if torch.equal(each, latents))
        assert torch.equal(prompt_embeds, clip.frame_prompt_embeds[frame])


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    [
        ("image", {}, [("global", 2, 1, "whole"), ("all", 3, 2, "whole", "blocks")]),
        ("video", {"temporal_decoupling": False}, [("global", 7, 1, "whole"), ("all", 11, 2, "whole", "blocks")]),
        (
            "video",
            {},
            [
                ("frames_global", 2, 1),
                ("frames_all", 3, 2, "blocks"),
                ("clip_global", 7, 1, "whole", "temporal"),
                ("clip_all", 11, 2, "whole", "blocks", "temporal"),
            ],
        ),
    ],
)
def test_each_stage_is_what_the_paper_says(kind: str, change: dict, expected: list) -> None:
    """Name, steps, noise of stage 1 or 2, and what is open in it."""
    steps = {"stages": {"global_steps": 2, "all_steps": 3}, "clip_stages": {"global_steps": 7, "all_steps": 11}}
    settings = BicoSettings(**steps, **change)
    noise = bico.noise_levels(settings.noise, 3.0)
    for phase, (name, count, stage, *opened) in zip(bico.phases(settings, kind, 3.0), expected, strict=True):
        assert (phase.name, phase.steps, phase.noise) == (name, count, noise[stage - 1])
        assert phase.frames == ("whole" not in opened) and phase.per_block == ("blocks" in opened)
        assert phase.temporal == ("temporal" in opened)


@pytest.fixture
def planned(backbone, sources, monkeypatch, tmp_path: Path):
    """What BiCo would train of the clip with these settings, instead of training it."""

    def plan(**settings: object) -> SimpleNamespace:
        seen = {}
        monkeypatch.setattr(
            bico, "fit", lambda groups, stages, settings, **more: seen.update(more, groups=groups, stages=stages)
        )
        bico.learn(backbone, sources["clip"], BicoSettings(**settings), shift=3.0, seed=0, workdir=tmp_path)
        return SimpleNamespace(**seen)

    return plan


def losses(loss) -> list[float]:
    return [part.item() for step in range(4) for part, _ in loss(torch.Generator().manual_seed(step))]


def test_steps_of_isolation_weigh_as_the_settings_say_and_the_probe_has_none(planned, monkeypatch) -> None:
    monkeypatch.setattr(bico, "isolation_loss", lambda *arguments: torch.tensor(3.0))
    monkeypatch.setattr(bico, "flow_matching_loss", lambda *arguments: torch.tensor(1.0))
    plan = planned(isolation={"share": 1 - 1e-9, "weight": 2.0})
    assert losses(plan.stages[0].loss) == [6.0] * 4 and losses(plan.probe) == [1.0] * 4
    assert losses(planned().stages[0].loss) == [1.0] * 4


def test_key_words_alone_are_bound_where_the_settings_say_so(planned, sources, monkeypatch) -> None:
    masks = []
    monkeypatch.setattr(HierarchicalBinder, "forward", lambda self, context, mask, **how: masks.append(mask))
    monkeypatch.setattr(bico, "flow_matching_loss", lambda *arguments: torch.tensor(1.0))
    for binds in ("key_words", "all"):
        losses(planned(binds=binds, absorption={"tokens": 0}).stages[-1].loss)
    key_words, all_words = (sum(masks[half : half + 4]).bool().sum().item() for half in (0, 4))
    marked = [(row > 0).nonzero().flatten().tolist() for row in sources["clip"].key_slots]
    assert all(mask[0].nonzero().flatten().tolist() in marked for mask in masks[:4])
    assert all_words > key_words


def test_the_absorption_token_has_a_rate_of_its_own(planned) -> None:
    rates = {
        name: group.learning_rate
        for group in planned(learning_rate=1e-2, absorption={"learning_rate": 1e-5}).groups
        for name in group.parameters
    }
    assert rates["absorption"] == 1e-5 and rates["shared.gamma"] == rates["shared.gate.1.weight"] == 1e-2


def test_isolation_forgives_a_change_as_far_as_its_place_looks_at_the_word(backbone, sources, monkeypatch) -> None:
    batch = sources["clip"].draw(2, torch.Generator().manual_seed(0), frames=False)
    context = backbone.context(batch.prompt_embeds).detach()
    looks = torch.zeros(2, 8, tiny.TEXT_SLOTS)
    looks[:, 0], looks[:, 1] = 0.4, 0.1
    monkeypatch.setattr(bico, "recorded", lambda backbone: nullcontext([looks]))

    def loss(place: int) -> float:
        change = backbone.at_places(torch.eye(8)[place].expand(2, -1), batch.latents.shape)

        def velocity(self, noisy, timesteps, contexts):
            return torch.zeros_like(noisy) + change * isinstance(contexts, list)

        monkeypatch.setattr(type(backbone), "velocity", velocity)
        generator = torch.Generator().manual_seed(0)
        bound = lambda context, mask: [context]  # noqa: E731
        return bico.isolation_loss(backbone, batch, context, bound, torch.full((2,), 0.5), generator).item()

    assert [loss(place) for place in (0, 1, 2)] == pytest.approx([0, 0.75 / 8, 1 / 8])


def test_a_lora_is_called_by_its_rare_token_and_merged_as_the_settings_say(
    backbone, sources, learned, monkeypatch
) -> None:
    assert db_lora.instance_prompt(sources["still"], "sks") == "a sks cat"
    assert db_lora.instance_prompt(sources["clip"], "sks") == "a cat sks bouncing"
    made, seen, merged, project = learned["db_lora"], [], db_lora.merged, db_lora.project
    monkeypatch.setattr(db_lora, "merged", lambda *arguments: seen.append(arguments[-1]) or merged(*arguments))
    monkeypatch.setattr(db_lora, "project", lambda *arguments: seen.append(arguments[-1]) or project(*arguments))
    clips(backbone, "db_lora", made.settings.model_copy(update={"merge_weight": 0.5}), made.artifacts)
    assert seen == ["a sks cat sks bouncing at the beach", "blurry", 0.5]


def test_copy_shows_the_first_video_where_there_is_one(backbone, tmp_path: Path) -> None:
    picture, video = tmp_path / "still.png", tmp_path / "clip.mp4"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(picture)
    brighter = np.linspace(50, 250, 5).astype(np.uint8)[:, None, None, None]
    write_clip(video, np.tile(brighter, (1, 32, 32, 3)), 8)
    job = Job("case", CASE, 0, media={"still": picture, "clip": video})
    ((_, clip),) = method("copy").compose(backbone, [job], None, tiny.SAMPLING, tiny.MEDIA)
    assert np.array_equal(clip, read_media(video, **dict(tiny.MEDIA)))


def test_frame_captions_mark_spatial_words_and_the_prompt_without_words_is_empty(backbone) -> None:
    frames = np.zeros((5, 32, 32, 3), np.uint8)
    concepts = {
        "kind": "video", "spatial": ["cat"], "temporal": ["bouncing"], "captions": ["a cat bouncing"],
        "frame_captions": ["the cat"], "frame_indices": [0],
    }  # fmt: skip
    encoded = encode_source(backbone, frames, concepts)
    assert encoded.frame_key_slots[0, :3].tolist() == [0, 1, 0]
    assert torch.equal(encoded.empty_prompt_embeds, backbone.encode_prompts([""])[0][0, :5])  # as far as captions go


def test_vectors_that_do_not_fit_the_text_slots_are_cut(backbone, monkeypatch) -> None:
    placed = []
    monkeypatch.setattr(
        backbone, "encode_embeddings", lambda embeddings: placed.extend(embeddings) or torch.zeros(1, 32, 32)
    )
    case = Case(prompt="cat" + " a" * 30, bind={"still": ["cat"]})
    textual_inversion.inverted(backbone, case, {"still": {"0 cat": torch.full((3, 32), 7.0)}})
    assert [len(each) for each in placed] == [backbone.text_slots] and (placed[0][:3] == 7).all()
