"""The training of the zoo's VAE and text-to-video model, at small size."""

import copy
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, ZOO, needs_zoo
from diffusers import WanPipeline
from safetensors.torch import load_file

from bico.models.wan.backbone import Backbone
from bico.toybox.captions import BACKDROP, EVERYWHERE, GROUND, NOWHERE, SKY, Phrase, caption, phrases
from bico.toybox.render import render, trajectory
from bico.toybox.world import sample_scene
from bico.zoo import clip, dino, vae, wan
from bico.zoo.common import (
    HELD_OUT_SEED,
    TRAIN_SEED,
    Muon,
    Progress,
    clip_pool,
    in_parallel,
    load_checkpoint,
    muon,
    save_checkpoint,
    scenes,
    to_model,
)


@pytest.fixture(scope="module")
def fitted():
    model = vae.build()
    vae.fit_linear(model, to_model(np.stack([render(scene) for scene in scenes(60, TRAIN_SEED)])))
    return model


@pytest.fixture(scope="module")
def held_out() -> torch.Tensor:
    return to_model(np.stack([render(scene) for scene in scenes(4, HELD_OUT_SEED)]))


def test_the_closed_form_vae_reconstructs(fitted, held_out):
    with torch.no_grad():
        decoded = vae.decode(fitted, vae.encode(fitted, held_out))
    assert 10 * torch.log10(4 / (decoded - held_out).square().mean()) > 28


def test_one_pass_equals_the_chunks_of_diffusers(fitted, held_out):
    with torch.no_grad():
        latents = fitted.encode(held_out).latent_dist.mode()
        assert torch.allclose(vae.encode(fitted, held_out), latents, atol=1e-4)
        assert torch.allclose(vae.decode(fitted, latents).clamp(-1, 1), fitted.decode(latents).sample, atol=1e-4)


def test_a_frame_of_a_clip_is_encoded_like_an_image(fitted, held_out):
    with torch.no_grad():
        clip, image = (vae.encode(fitted, part) for part in (held_out, held_out[:, :, 3:4]))
    assert torch.allclose(clip[:, :, 3:4], image, atol=1e-4)


@pytest.fixture(scope="module")
def tokenizer():
    rng = np.random.default_rng(0)
    return wan.build_tokenizer([caption(scene, rng) for scene in scenes(2000, TRAIN_SEED)])


def test_known_words_are_one_token_and_any_text_comes_back(tokenizer):
    assert tokenizer.tokenize("A striped cat, bouncing") == ["▁a", "▁striped", "▁cat", ",", "▁bouncing"]
    for text in ("an astronaut at the beach", "café 東京", "50% (off)!"):
        ids = tokenizer(text).input_ids
        assert ids[-1] == tokenizer.eos_token_id and tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_captions_leave_a_slot_of_padding(tokenizer):
    rng = np.random.default_rng(1)
    counts = [len(tokenizer(caption(scene, rng, detail=1.0)).input_ids) for scene in scenes(2000, TRAIN_SEED)]
    assert max(counts) < wan.TOKENS


def test_one_weighted_slot_stands_for_all_padding(tokenizer):
    torch.manual_seed(0)
    transformer, plain = wan.build_transformer(4), wan.build_transformer(4)
    plain.load_state_dict(transformer.state_dict())
    reader = wan.Reader(wan.build_text_encoder(len(tokenizer)), transformer.condition_embedder.text_embedder)
    trainee = wan.Trainee(transformer)
    tokens = tokenizer(["a cat", "a robot sliding in space"], padding="max_length", max_length=12, return_tensors="pt")
    noisy, mask = torch.randn(2, 4, 3, 6, 6), tokens.attention_mask.float()
    with torch.no_grad():
        own, padding = torch.zeros(2, 3 * 6 * 6, 12), reader.project(torch.zeros(1, wan.TEXT_WIDTH))
        context = reader(tokens.input_ids, mask)
        short, _ = trainee(noisy, torch.tensor([0.3, 0.8]), context, padding, mask, own, torch.tensor(64.0))
        embeds = reader.text_encoder(tokens.input_ids, mask).last_hidden_state * mask[..., None]
        embeds = torch.nn.functional.pad(embeds, (0, 0, 0, 64 - 12))
        full = plain(noisy, torch.tensor([300.0, 800.0]), embeds, return_dict=False)[0]
    assert torch.allclose(short, full, atol=1e-5)


def test_words_are_marked_with_what_they_are_about(tokenizer):
    parts = [
        Phrase("a poster of", EVERYWHERE),
        Phrase("a striped cat bouncing", 0),
        Phrase("and", NOWHERE),
        Phrase("a car", 1),
        Phrase("at the beach", BACKDROP),
        Phrase("under a green sky", SKY),
        Phrase("over red ground", GROUND),
    ]
    tokens, mask, about, *_ = wan._tokens(tokenizer, [parts, []])
    words = tokenizer.convert_ids_to_tokens(tokens[0][: int(mask[0].sum())].tolist())
    marked = {word.strip("▁"): column.tolist() for word, column in zip(words, about[0].T, strict=False)}
    assert marked["poster"] == [1, 1, 1, 1] and marked["and"] == marked["the"] == marked["</s>"] == [0, 0, 0, 0]
    assert marked["striped"] == marked["cat"] == marked["bouncing"] == [1, 0, 0, 0]
    assert marked["car"] == [0, 1, 0, 0] and marked["beach"] == [0, 0, 1, 1]
    assert marked["red"] == [0, 0, 1, 0] and marked["green"] == [0, 0, 0, 1]
    assert not about[1].any() and not about[0, :, len(words) :].any()


def test_a_new_text_encoder_tells_a_word_by_its_neighbours(tokenizer, monkeypatch):
    inputs = tokenizer(["a green cat under a red sky", "a red cat under a green sky"], return_tensors="pt")
    nouns = [inputs.tokens().index(word) for word in ("▁cat", "▁sky")]

    def told_apart() -> float:
        torch.manual_seed(0)
        with torch.no_grad():
            one, other = wan.build_text_encoder(len(tokenizer))(**inputs).last_hidden_state[:, nouns]
        return ((one - other).norm() / one.norm()).item()

    by_neighbours = told_apart()
    monkeypatch.setattr(wan, "NEIGHBOUR_BIAS", 0.0)
    assert by_neighbours > 1.5 * told_apart()


@pytest.fixture
def spoken(tokenizer) -> tuple[wan.Captions, dict[str, int]]:
    """Two captions of other looks, and where the words of the first one stand."""
    cats = [
        Phrase("a striped green cat bouncing slowly", 0),
        Phrase("at the beach", BACKDROP),
        Phrase("under red sky", SKY),
    ]
    cars = [
        Phrase("a blue car is spinning clockwise", 0),
        Phrase("in space", BACKDROP),
        Phrase("over pink ground", GROUND),
    ]
    captions = wan._tokens(tokenizer, [cats, cars])
    words = tokenizer.convert_ids_to_tokens(captions.tokens[0][: int(captions.mask[0].sum())].tolist())
    return captions, {word.strip("▁"): slot for slot, word in enumerate(words)}


def test_names_know_the_words_that_are_said_of_them(spoken):
    captions, slot = spoken
    said = {name: captions.said[0, slot[name]].nonzero().flatten().tolist() for name in ("cat", "bouncing", "beach")}
    assert said["cat"] == [slot["striped"], slot["green"]] and said["bouncing"] == [slot["slowly"]]
    assert said["beach"] == [slot["red"], slot["sky"]]  # "under" is hidden with them, but says nothing
    hidden = [word for word, place in slot.items() if not captions.stands[0, place]]
    assert sorted(hidden) == ["green", "red", "sky", "slowly", "striped", "under"]
    assert captions.role[0, [slot["green"], slot["slowly"], slot["sky"], slot["at"]]].tolist() == [0, 1, 2, -1]
    assert not captions.stands[:, -1].any()


@pytest.fixture(scope="module")
def meaning(tokenizer) -> torch.Tensor:
    return wan.meanings(tokenizer, 0)


def test_a_word_means_one_thing_and_a_colour_something_else_for_each_hue(tokenizer, meaning):
    assert torch.allclose(meaning.norm(dim=1), torch.tensor(wan.WORD_LENGTH))
    parts = [
        Phrase("a green striped cat with green", 0),
        Phrase("under a green sky", SKY),
        Phrase("over green", GROUND),
    ]
    captions = wan._tokens(tokenizer, [parts, [Phrase("green", NOWHERE)]])
    green = tokenizer.convert_tokens_to_ids("▁green")
    rows = [captions.meaning[0, slot].item() for slot in (captions.tokens[0] == green).nonzero().flatten()]
    assert len(set(rows)) == len(rows) == 4 and {row % len(tokenizer) for row in rows} == {green}
    near = torch.nn.functional.cosine_similarity(meaning[rows][:, None], meaning[rows][None], dim=-1)
    assert (near - torch.eye(4)).abs().amax() < 0.4


def test_opposites_are_opposite_and_colours_lie_on_their_circle(tokenizer, meaning):
    def alike(one: str, other: str, hue: int = 0) -> float:
        rows = [meaning[hue * len(tokenizer) + tokenizer.convert_tokens_to_ids(f"▁{word}")] for word in (one, other)]
        return torch.nn.functional.cosine_similarity(*rows, dim=0).item()

    assert abs(alike("slowly", "quickly")) < 0.25 and abs(alike("cat", "fish")) < 0.25
    low, high = (tokenizer.convert_tokens_to_ids(f"▁{word}") for word in ("slowly", "quickly"))
    assert 0.9 < (meaning[low] + meaning[high]).norm() / (meaning[low] - meaning[high]).norm() < 1.1
    farther = [alike("red", colour, hue=1) for colour in ("orange", "yellow", "green", "cyan")]
    assert farther == sorted(farther, reverse=True) and farther[0] > 0.8 and abs(farther[-1]) < 0.3


def test_reading_a_name_as_itself_and_what_is_said_of_it_costs_nothing(spoken, meaning):
    captions, slot = spoken
    alone = meaning[captions.meaning.long()]
    whole = alone + captions.said @ alone
    assert wan.reading_loss(whole, captions, meaning) < 1e-6 < 0.05 < wan.reading_loss(alone, captions, meaning)
    stray = whole.clone()
    stray[0, slot["at"]] += alone[0, slot["green"]]  # a word that nothing is said of takes up a look
    assert wan.reading_loss(stray, captions, meaning) > 0.01
    stray = whole.clone()
    stray[0, -1] += 1  # padding does not count
    assert wan.reading_loss(stray, captions, meaning) < 1e-6


def test_a_reader_learns_what_words_mean_and_resumes_to_the_same_weights(tokenizer, meaning, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    captions = wan._tokens(tokenizer, [phrases(scene, rng) for scene in scenes(200, TRAIN_SEED)])
    monkeypatch.setattr(wan, "cosine_rate", lambda *_, **__: 1.0)
    monkeypatch.setattr(wan, "READ_BATCH", 16)

    def taught(name: str, *stops: int) -> wan.Reader:
        for steps in stops:
            torch.manual_seed(0)
            project = wan.build_transformer(4).condition_embedder.text_embedder
            reader = wan.Reader(wan.build_text_encoder(len(tokenizer)), project)
            wan.learn_to_read(reader, captions, meaning, tmp_path / name, steps, 0)
        return reader

    def missed(reader: wan.Reader) -> float:
        with torch.no_grad():
            return wan.reading_loss(reader(captions.tokens, captions.mask), captions, meaning).item()

    first, whole, resumed = taught("first", 1), taught("whole", 30), taught("resumed", 11, 30)
    assert missed(whole) < 0.7 * missed(first)
    assert all(torch.equal(one, other) for one, other in zip(whole.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize("name", [True, False])
def test_what_is_misplaced_is_never_of_a_words_own_kind(spoken, monkeypatch, name):
    monkeypatch.setattr(wan, "MISPLACED", 1.0)
    captions, slot = spoken
    # A word as its role, 0 = none, and whether it is a name.
    whole = torch.nn.functional.one_hot(captions.role + 1 + 4 * (captions.stands > 0), 8).float()
    for which in (0.0, 0.5, 0.99):
        draws = torch.tensor([0.0, which, 0.0 if name else 1.0, 1.0]).expand(2, wan.TOKENS, 4)
        given = wan.misplaced(whole, captions, draws, 1)
        names, looks = given[..., 4:], given[..., :4]
        given, other = (names, looks) if name else (looks, names)
        assert not other.any()
        for word, role in (("cat", 0), ("bouncing", 1), ("beach", 2)):
            assert given[0, slot[word], role + 1] == 0 and given[0, slot[word]].sum() > 0
        assert given[0, slot["a"]].argmax() == int(which * 3) + 1
        assert not given[captions.mask == 0].any()
    monkeypatch.setattr(wan, "MISPLACED", 0.0)
    assert not wan.misplaced(whole, captions, draws, 1).any()


def test_workers_misplace_what_one_would(tokenizer):
    rng = np.random.default_rng(0)
    captions = wan._tokens(tokenizer, [phrases(scene, rng) for scene in scenes(8, TRAIN_SEED)])
    whole, draws = torch.randn(8, wan.TOKENS, 6), torch.rand(8, wan.TOKENS, 4)
    given = wan.misplaced(whole, captions, draws, wan.DONOR)
    assert given.any()
    for rank in range(2):
        part = wan.Captions(*(each[rank::2] for each in captions))
        shared = wan.misplaced(whole[rank::2], part, draws[rank::2], wan.DONOR // 2)
        assert torch.allclose(shared, given[rank::2], atol=1e-6)


def test_half_of_the_captions_are_blurred_by_at_most_so_much():
    lengths = wan.blur(400, torch.Generator().manual_seed(0)).norm(dim=-1)
    assert 0.4 < (lengths.amax(1) == 0).float().mean() < 0.6
    assert 0.8 * wan.BLUR < lengths.amax() < 1.3 * wan.BLUR


def test_looking_at_the_words_of_a_place_costs_nothing_and_past_them_much():
    about = torch.zeros(1, 4, 5)
    about[0, 0, 1], about[0, 3, 3] = 1, 1  # word 1 says what the actor is, word 3 the sky
    regions = torch.zeros(1, 4, 1, 1, 2)
    regions[0, 0, 0, 0, 0] = regions[0, 3, 0, 0, 1] = 1  # the actor is in the first of two places
    own = wan._own_words(regions, about)
    assert own[0].tolist() == [[0, 1, 0, 0, 0], [0, 0, 0, 1, 0]]
    assert wan._looks_past(own, own).abs() < 0.03
    assert wan._looks_past(own.flip(1), own) > 3
    assert wan._looks_past(own, torch.zeros_like(own)) == 0  # nothing described, nothing to look at


def test_a_subject_weighs_more_the_clearer_it_can_be_seen():
    error, covered = torch.zeros(2, 3, 4, 2, 2), torch.zeros(2, 1, 4, 2, 2)
    covered[..., 0, 0] = 1
    error[..., 0, 0] = 1.0
    at_once = {sigma: wan.velocity_loss(error, covered, torch.full((2,), sigma)).item() for sigma in (0.0, 0.5, 1.0)}
    plain = error.square().mean().item()
    assert at_once[0.0] == pytest.approx(wan.SUBJECT_WEIGHT * plain)
    assert at_once[1.0] == pytest.approx(plain) and plain < at_once[0.5] < at_once[0.0]


def test_an_error_that_flickers_costs_more_than_one_that_stays():
    stays, covered, noise = torch.ones(1, 3, 4, 2, 2), torch.zeros(1, 1, 4, 2, 2), torch.ones(1)
    flickers = stays * torch.tensor([1.0, -1, 1, -1]).view(1, 1, 4, 1, 1)
    assert wan.velocity_loss(stays, covered, noise).item() == pytest.approx(1)
    clear = torch.zeros(1)
    assert wan.velocity_loss(flickers, covered, clear).item() == pytest.approx(1 + 4 * 3 / 4)
    assert wan.velocity_loss(flickers, covered, noise).item() == pytest.approx(1 + wan.CHANGE_WEIGHT * 4 * 3 / 4)
    still = wan.velocity_loss(stays[:, :, :1], covered[:, :, :1], noise)
    assert still.item() == pytest.approx(1)


def test_twins_look_alike_and_their_captions_differ_in_how_they_move_alone():
    manners = {"slowly": "quickly", "right": "left", "clockwise": "counterclockwise", "above": "below"}
    manners |= {"a little": "widely"}
    swap = manners | {other: one for one, other in manners.items()}
    cast = scenes(200, TRAIN_SEED)
    casts = cast, [scene.twin() for scene in cast]
    texts = [[caption(scene, np.random.default_rng(i)) for i, scene in enumerate(each)] for each in casts]
    for one, other in zip(*texts, strict=True):
        assert re.sub("|".join(swap), lambda found: swap[found.group()], one) == other
    assert sum(one != other for one, other in zip(*texts, strict=True)) > 80
    for one, other in zip(*casts, strict=True):
        assert one.still() == other.still()


def test_hard_scenes_differ_in_nothing_but_what_moves_how():
    for number, scene in enumerate(scenes(50, TRAIN_SEED)):
        hard = wan._hard(scene, number)
        assert hard.still() == scene.still() and hard == wan._hard(scene, number)
        assert {actor.motion.word for actor in hard.actors} <= {*wan.HARD}


@pytest.mark.parametrize(("motion", "ways"), wan.DIRECTIONS.items())
def test_a_path_is_read_to_go_where_its_caption_says(motion, ways):
    for seed in range(20):
        scene = sample_scene(np.random.default_rng(seed), motion=motion)
        goes = wan.travel(trajectory(scene)[0], motion)
        assert f" {ways[1 if goes > 0 else -1]}" in caption(scene, np.random.default_rng(0), detail=1.0)


@needs_zoo
def test_words_tell_the_shipped_backbone_which_way_to_slide(monkeypatch):
    backbone = Backbone.open(ZOO / "wan", text_slots=wan.TEXT_SLOTS[0])
    assert wan.told(backbone, "sliding", count=8) > 0.1
    monkeypatch.setattr(wan, "caption", lambda scene, rng, detail: "a cat sliding")
    assert wan.told(backbone, "sliding", count=8) == 0


def test_a_checkpoint_brings_back_weights_moments_and_step(tmp_path: Path):
    def fresh() -> tuple[torch.nn.Linear, Muon]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(5, 4)
        return layer, Muon(layer.parameters())

    def advance(layer: torch.nn.Linear, optimizer: Muon, steps: range) -> None:
        for step in steps:
            x = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            (layer(x) - x[:, :4]).square().mean().backward()
            optimizer.step()

    whole, optimizer = fresh()
    advance(whole, optimizer, range(6))
    part, optimizer = fresh()
    advance(part, optimizer, range(3))
    save_checkpoint(tmp_path / "c.safetensors", 3, {"layer": part}, optimizer)
    resumed, optimizer = fresh()
    first = load_checkpoint(tmp_path / "c.safetensors", {"layer": resumed}, optimizer)
    advance(resumed, optimizer, range(first, 6))
    assert first == 3 and torch.equal(resumed.weight, whole.weight) and torch.equal(resumed.bias, whole.bias)


def test_matrices_of_one_shape_take_the_steps_that_each_would_take_alone():
    def fresh() -> list[torch.nn.Parameter]:
        draw = torch.Generator().manual_seed(0)
        return [torch.nn.Parameter(torch.randn(6, 4, generator=draw)) for _ in range(3)]

    together, alone = fresh(), fresh()
    optimizers = [Muon(together), *(Muon([matrix]) for matrix in alone)]
    for step in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad()
        for matrices in (together, alone):
            sum((number * matrix - step).square().sum() for number, matrix in enumerate(matrices, start=1)).backward()
        for optimizer in optimizers:
            optimizer.step()
    for one, other, start in zip(together, alone, fresh(), strict=True):
        assert torch.allclose(one, other, atol=1e-3) and not torch.allclose(one, start, atol=1e-2)


def test_progress_tells_the_mean_of_what_it_was_given_and_keeps_no_graph(capsys):
    progress, weight = Progress("a training", 2, every=3600), torch.ones((), requires_grad=True)
    progress.update(1, loss=2 * weight, other=1.0)
    assert not progress._sums["loss"][0].requires_grad and not capsys.readouterr().err
    progress.update(2, loss=4 * weight, other=2.0)
    assert capsys.readouterr().err.startswith("a training 2/2 loss 3 other 1.5 ")


def test_many_items_are_worked_on_in_parallel_and_come_in_order():
    assert list(in_parallel(str, range(1200))) == [str(number) for number in range(1200)]


def test_a_pool_is_rendered_once_and_kept_whole(tmp_path: Path):
    pool = clip_pool(tmp_path / "clips.npy", 3, TRAIN_SEED)
    assert np.array_equal(pool, np.stack([render(scene) for scene in scenes(3, TRAIN_SEED)]))
    written = (tmp_path / "clips.npy").stat().st_mtime_ns
    assert np.array_equal(clip_pool(tmp_path / "clips.npy", 3, TRAIN_SEED), pool)
    assert (tmp_path / "clips.npy").stat().st_mtime_ns == written and len(list(tmp_path.iterdir())) == 1


def test_the_backbone_trains_from_stills_and_clips_and_resumes_to_the_same_weights(fitted, tmp_path, monkeypatch):
    small = {"WIDTH": 48, "BLOCKS": 1, "FFN": 48, "TEXT_WIDTH": 32, "STILLS": 8, "CLIPS": 4, "CHECKPOINT_EVERY": 2}
    small |= {"TWINS": 2, "STILL_BATCH": {"cpu": 4}, "CLIP_BATCH": {"cpu": 3}, "STILL_SHARE": 0.1, "READ_BATCH": 4}
    for name, value in small.items():
        monkeypatch.setattr(wan, name, value)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda *_, **__: None)  # a minute, for what takes a second
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def trained(name: str, *stops: int) -> Path:
        copy.deepcopy(fitted).half().save_pretrained(tmp_path / name / "vae")
        for steps in stops:
            wan.train(tmp_path / name, workdir=tmp_path / f"{name}_work", read_steps=3, steps=steps)
        return tmp_path / name

    monkeypatch.setattr(wan, "cosine_rate", lambda *_, **__: 1.0)  # else a run that is to end sooner learns otherwise
    whole, resumed = trained("whole", 9), trained("resumed", 3, 9)  # the ninth step takes frames of clips
    for part in ("transformer/diffusion_pytorch_model", "text_encoder/model"):
        one, other = (load_file(folder / f"{part}.safetensors") for folder in (whole, resumed))
        assert all(torch.equal(one[key], other[key]) for key in one)
    clip = wan._generate(WanPipeline.from_pretrained(whole), ["a cat at the beach"], steps=2, seed=0)
    assert clip.shape == (1, 9, 48, 48, 3) and clip.std() > 0


WORKERS = """
import sys, torch
from safetensors.torch import save_file
from bico.zoo.common import average_gradients, join_workers

rank, workers = join_workers()
torch.manual_seed(0)
layer, batch = torch.nn.Linear(5, 4), torch.randn(8, 5)
layer(batch[rank::workers]).square().mean().backward()
average_gradients(layer, workers)
if rank == 0:
    save_file({"weight": layer.weight.grad, "bias": layer.bias.grad}, sys.argv[1])
"""


def test_two_workers_find_the_gradient_of_one(tmp_path: Path):
    (tmp_path / "step.py").write_text(WORKERS)
    alone, torchrun = [sys.executable], [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    found = []
    for name, start in {"one": alone, "two": [*torchrun, "--standalone"]}.items():
        subprocess.run([*start, tmp_path / "step.py", tmp_path / name], check=True, capture_output=True, cwd=ROOT)
        found.append(load_file(tmp_path / name))
    for key in ("weight", "bias"):
        assert torch.allclose(found[0][key], found[1][key], atol=1e-7)


def test_muon_takes_matrices_inside_and_adam_all_else(tokenizer):
    trainee = torch.nn.ModuleDict(
        {"transformer": wan.build_transformer(4), "text_encoder": wan.build_text_encoder(len(tokenizer))}
    )
    optimizer = muon(trainee, trainee["transformer"].blocks, trainee["text_encoder"].encoder.block)
    matrices, plain = ({id(p) for p in group["params"]} for group in optimizer.param_groups)
    names = {id(p): name for name, p in trainee.named_parameters()}
    assert all(".weight" in names[p] for p in matrices)
    assert {names[p] for p in plain} >= {"text_encoder.shared.weight", "transformer.proj_out.weight"}
    assert len(matrices) + len(plain) == len(list(trainee.parameters())) and not matrices & plain


# --- scorers --------------------------------------------------------------------------------------------------------


def test_two_views_of_an_instance_show_it_in_two_scenes_with_the_same_hues(monkeypatch):
    monkeypatch.setattr(dino, "SMALLEST_CROP", 1.0)  # whole frames
    monkeypatch.setattr(dino, "degrade", lambda frames, noise: frames)
    pool = np.zeros((3, 2 * dino.VIEWS, 48, 48, 3), np.uint8)
    pool += np.uint8([10, 100, 200])  # a colour of three different channels
    pool += np.arange(dino.VIEWS, dtype=np.uint8).repeat(2)[:, None, None, None]  # and a scene's own shade
    centres, chosen = np.full((3, 2 * dino.VIEWS, 2), 0.5), np.arange(3).repeat(20)
    one, other = dino._views(pool, centres, chosen, np.random.default_rng(0))
    colours = [(view.mean((2, 3)) + 1) * 127.5 for view in (one, other)]
    apart = (colours[0] - colours[1]).round()
    assert (apart == apart[:, :1]).all() and (apart != 0).all(), "the same order of channels, never the same scene"
    assert len({tuple(colour.argsort().tolist()) for colour in colours[0]}) == 6


def test_the_scorers_train_and_resume_to_the_same_weights(tmp_path: Path, monkeypatch):
    for module, pool, batch in ((clip, 12, 4), (dino, 48, 2)):
        monkeypatch.setattr(module, "POOL", pool)
        monkeypatch.setattr(module, "BATCH", batch)
        monkeypatch.setattr(module, "cosine_rate", lambda *_, **__: 1.0)
        monkeypatch.setattr(module, "CHECKPOINT_EVERY", 2)

        def trained(name: str, *stops: int, module=module) -> dict[str, torch.Tensor]:
            folder = tmp_path / module.__name__ / name
            for steps in stops:
                module.train(folder / "out", workdir=folder, steps=steps)
            return load_file(next((folder / "out").glob("*.safetensors")))

        whole, resumed = trained("whole", 4), trained("resumed", 2, 4)
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)
