"""The training of the text-to-video model, at small size."""

import re
from collections.abc import Iterable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ZOO, needs_zoo
from diffusers import WanPipeline
from safetensors.torch import load_file

from bico.models.wan.backbone import Backbone
from bico.toybox import captions as grammar
from bico.toybox.captions import BACKDROP, DIRECTIONS, EVERYWHERE, GROUND, NOWHERE, SKY, Phrase, caption, phrases
from bico.toybox.render import trajectory
from bico.toybox.world import sample_motion, sample_scene
from bico.zoo import training, vae
from bico.zoo.data import TRAIN_SEED, scenes
from bico.zoo.muon import muon
from bico.zoo.wan import evaluate, lean, scale, settings
from bico.zoo.wan.augmentation import blur, misplaced
from bico.zoo.wan.captions import Captions, tokenize
from bico.zoo.wan.flow_matching import velocity_loss
from bico.zoo.wan.pool import with_hard_motions
from bico.zoo.wan.text_encoder import Reader, build_text_encoder, train_text_encoder
from bico.zoo.wan.tokenizer import build_tokenizer, sample_texts
from bico.zoo.wan.train import train
from bico.zoo.wan.transformer import Trainee, attention_loss, build_transformer, own_words
from bico.zoo.wan.words import Words, quiet_directions


@pytest.fixture(scope="module")
def tokenizer():
    rng = np.random.default_rng(0)
    return build_tokenizer([caption(scene, rng) for scene in scenes(2000, TRAIN_SEED)])


def test_known_words_are_one_token_and_any_text_comes_back(tokenizer):
    assert tokenizer.tokenize("A striped cat, bouncing") == ["▁a", "▁striped", "▁cat", ",", "▁bouncing"]
    for text in ("an astronaut at the beach", "café 東京", "50% (off)!"):
        ids = tokenizer(text).input_ids
        assert ids[-1] == tokenizer.eos_token_id and tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_the_longest_caption_leaves_a_slot_of_padding():
    tokenizer = build_tokenizer(sample_texts(0))

    def longest(*groups: Iterable[str]) -> int:
        return sum(max(len(tokenizer(text).input_ids) - 1 for text in group) for group in groups)

    rng = np.random.default_rng(0)
    moving = [sample_motion(rng) for _ in range(2000)]
    links = [*grammar.VERBS, *grammar.LINKS]
    acts = {f"{motion.word} {grammar._manner(motion, rng, detail=1.0)}" for motion in moving}
    # A motion that comes first has a comma instead of a link, which is no longer.
    actor = longest(["one striped yellow cat with yellow"], links, acts)
    places = [f"{place} under an orange sky over orange ground" for each in grammar.PLACES.values() for place in each]
    before = longest(
        grammar.CLAUSES + grammar.MEDIA + tuple(text for e in grammar.STYLE_PHRASES.values() for text in e)
    )
    lights = [text for each in grammar.LIGHT_PHRASES.values() for text in each]
    whole = (
        before + settings.ACTORS * actor + longest(grammar.JOINTS, places, [","], lights, grammar.TAILS) + 1
    )  # end-of-sequence
    assert whole < settings.TOKENS


def test_one_weighted_slot_stands_for_all_padding(tokenizer):
    torch.manual_seed(0)
    transformer, plain = build_transformer(4), build_transformer(4)
    plain.load_state_dict(transformer.state_dict())
    reader = Reader(build_text_encoder(len(tokenizer)), transformer.condition_embedder.text_embedder)
    trainee = Trainee(transformer)
    tokens = tokenizer(["a cat", "a robot sliding in space"], padding="max_length", max_length=12, return_tensors="pt")
    noisy, mask = torch.randn(2, 4, 3, 6, 6), tokens.attention_mask.float()
    with torch.no_grad():
        own, padding = torch.zeros(2, 3 * 6 * 6, 12), reader.project(torch.zeros(1, settings.TEXT_WIDTH))
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
    tokens, mask, about, *_ = tokenize(tokenizer, [parts, []])
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
            one, other = build_text_encoder(len(tokenizer))(**inputs).last_hidden_state[:, nouns]
        return ((one - other).norm() / one.norm()).item()

    by_neighbours = told_apart()
    monkeypatch.setattr(settings, "NEIGHBOUR_BIAS", 0.0)
    assert by_neighbours > 1.5 * told_apart()


@pytest.fixture
def spoken(tokenizer) -> tuple[Captions, dict[str, int]]:
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
    captions = tokenize(tokenizer, [cats, cars])
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
def words(tokenizer) -> Words:
    torch.manual_seed(0)
    return Words.drawn(tokenizer, quiet_directions(build_transformer(4)), 0)


@pytest.fixture(scope="module")
def meaning(words) -> torch.Tensor:
    return words.meaning


def test_a_word_means_one_thing_and_a_colour_something_else_for_each_hue(tokenizer, meaning):
    assert torch.allclose(meaning.norm(dim=1), torch.tensor(settings.WORD_LENGTH))
    parts = [
        Phrase("a green striped cat with green", 0),
        Phrase("under a green sky", SKY),
        Phrase("over green", GROUND),
    ]
    captions = tokenize(tokenizer, [parts, [Phrase("green", NOWHERE)]])
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


def test_reading_a_name_as_itself_and_what_is_said_of_it_costs_nothing(spoken, words, meaning):
    captions, slot = spoken
    alone = meaning[captions.meaning.long()]
    whole = alone + captions.said @ alone
    missed = partial(words.missed, captions=captions, lean=0.0)
    assert missed(whole) < 1e-6 < 0.05 < missed(alone)
    stray = whole.clone()
    stray[0, slot["at"]] += alone[0, slot["green"]]  # a word that nothing is said of takes up a look
    assert missed(stray) > 0.01
    stray = whole.clone()
    stray[0, -1] += 1  # padding does not count
    assert missed(stray) < 1e-6


def test_a_word_leans_on_the_others_of_its_sentence_by_the_length_that_is_set(tokenizer, words, meaning):
    def leaned(text: str, word: str) -> torch.Tensor:
        captions = tokenize(tokenizer, [[Phrase(text, NOWHERE)]])
        token = tokenizer.convert_tokens_to_ids(f"▁{word}")
        return words.targets(captions, 0.5)[captions.tokens == token][0] - meaning[token]

    one, again, now = (leaned(text, "cat") for text in ("a cat at the beach", "a cat at the beach again", "now, a cat"))
    for part in (one, again, now):
        assert part.norm() == pytest.approx(0.5 * settings.WORD_LENGTH, rel=1e-4)
    assert min((one - again).norm(), (one - now).norm(), (again - now).norm()) > 0.2 * one.norm()
    assert torch.allclose(leaned("cat", "cat"), leaned("fish", "fish"), atol=1e-5)  # what the others say, not itself


def test_words_lean_where_the_blocks_hear_least():
    torch.manual_seed(0)
    transformer = build_transformer(4)
    for block in transformer.blocks:
        for layer in (block.attn2.to_k, block.attn2.to_v):
            layer.weight.data[:, : settings.LEAN_DIRECTIONS] *= 1e-3  # deaf to the first directions
    quiet = quiet_directions(transformer)
    assert torch.allclose(quiet @ quiet.mT, torch.eye(settings.LEAN_DIRECTIONS), atol=1e-5)
    assert quiet[:, : settings.LEAN_DIRECTIONS].square().sum() > 0.99 * settings.LEAN_DIRECTIONS


def test_known_words_keep_their_places_in_a_larger_vocabulary(tokenizer, words, tmp_path):
    larger = build_tokenizer([*sample_texts(0)[:2000], "a zebra and a yak at a beach"])
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    words.save(tmp_path)
    grown = Words.open(tmp_path).grown(larger)
    for word in ("cat", "red", "slowly"):
        new, old = (each.convert_tokens_to_ids(f"▁{word}") for each in (larger, tokenizer))
        assert torch.allclose(grown.meaning[new :: len(larger)], words.meaning[old :: len(tokenizer)], atol=1e-3)
        assert torch.allclose(grown.leaning[new], words.leaning[old], atol=3e-3)
    zebra = larger.convert_tokens_to_ids("▁zebra")
    known = words.meaning[: len(tokenizer)]
    assert torch.nn.functional.cosine_similarity(grown.meaning[zebra][None], known).abs().max() < 0.4
    inside = words.leaning.mT @ torch.linalg.pinv(words.leaning.mT)  # the new word leans where the others do
    assert torch.allclose(inside @ grown.leaning[zebra], grown.leaning[zebra], atol=0.05)


def test_a_reader_learns_what_words_mean_and_resumes_to_the_same_weights(tokenizer, words, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    captions = tokenize(tokenizer, [phrases(scene, rng) for scene in scenes(200, TRAIN_SEED)])
    monkeypatch.setattr(training, "cosine_rate", lambda *_: 1.0)
    monkeypatch.setattr(settings, "TEXT_BATCH", 16)

    def taught(name: str, *stops: int) -> Reader:
        for steps in stops:
            torch.manual_seed(0)
            project = build_transformer(4).condition_embedder.text_embedder
            reader = Reader(build_text_encoder(len(tokenizer)), project)
            train_text_encoder(reader, captions, words, 0.5, tmp_path / name, steps, 0)
        return reader

    def missed(reader: Reader) -> float:
        with torch.no_grad():
            return words.missed(reader(captions.tokens, captions.mask), captions, 0.5).item()

    first, whole, resumed = taught("first", 1), taught("whole", 30), taught("resumed", 11, 30)
    assert missed(whole) < 0.7 * missed(first)
    assert all(torch.equal(one, other) for one, other in zip(whole.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize("name", [True, False])
def test_what_is_misplaced_is_never_of_a_words_own_kind(spoken, monkeypatch, name):
    monkeypatch.setattr(settings, "MISPLACED", 1.0)
    captions, slot = spoken
    # A word as its role, 0 = none, and whether it is a name.
    whole = torch.nn.functional.one_hot(captions.role + 1 + 4 * (captions.stands > 0), 8).float()
    for which in (0.0, 0.5, 0.99):
        draws = torch.tensor([0.0, which, 0.0 if name else 1.0, 1.0]).expand(2, settings.TOKENS, 4)
        given = misplaced(whole, captions, draws, 1)
        names, looks = given[..., 4:], given[..., :4]
        given, other = (names, looks) if name else (looks, names)
        assert not other.any()
        for word, role in (("cat", 0), ("bouncing", 1), ("beach", 2)):
            assert given[0, slot[word], role + 1] == 0 and given[0, slot[word]].sum() > 0
        assert given[0, slot["a"]].argmax() == int(which * 3) + 1
        assert not given[captions.mask == 0].any()
    monkeypatch.setattr(settings, "MISPLACED", 0.0)
    assert not misplaced(whole, captions, draws, 1).any()


def test_workers_misplace_what_one_would(tokenizer):
    rng = np.random.default_rng(0)
    captions = tokenize(tokenizer, [phrases(scene, rng) for scene in scenes(8, TRAIN_SEED)])
    whole, draws = torch.randn(8, settings.TOKENS, 6), torch.rand(8, settings.TOKENS, 4)
    given = misplaced(whole, captions, draws, settings.DONOR)
    assert given.any()
    for rank in range(2):
        part = Captions(*(each[rank::2] for each in captions))
        shared = misplaced(whole[rank::2], part, draws[rank::2], settings.DONOR // 2)
        assert torch.allclose(shared, given[rank::2], atol=1e-6)


def test_half_of_the_captions_are_blurred_by_at_most_so_much():
    lengths = blur(400, torch.Generator().manual_seed(0)).norm(dim=-1)
    assert 0.4 < (lengths.amax(1) == 0).float().mean() < 0.6
    assert 0.8 * settings.BLUR < lengths.amax() < 1.3 * settings.BLUR


def test_looking_at_the_words_of_a_place_costs_nothing_and_past_them_much():
    about = torch.zeros(1, 4, 5)
    about[0, 0, 1], about[0, 3, 3] = 1, 1  # word 1 says what the actor is, word 3 the sky
    regions = torch.zeros(1, 4, 1, 1, 2)
    regions[0, 0, 0, 0, 0] = regions[0, 3, 0, 0, 1] = 1  # the actor is in the first of two places
    own = own_words(regions, about)
    assert own[0].tolist() == [[0, 1, 0, 0, 0], [0, 0, 0, 1, 0]]
    assert attention_loss(own, own).abs() < 0.03
    assert attention_loss(own.flip(1), own) > 3
    assert attention_loss(own, torch.zeros_like(own)) == 0  # nothing described, nothing to look at


def test_a_subject_weighs_more_the_clearer_it_can_be_seen():
    error, covered = torch.zeros(2, 3, 4, 2, 2), torch.zeros(2, 1, 4, 2, 2)
    covered[..., 0, 0] = 1
    error[..., 0, 0] = 1.0
    at_once = {sigma: velocity_loss(error, covered, torch.full((2,), sigma)).item() for sigma in (0.0, 0.5, 1.0)}
    plain = error.square().mean().item()
    assert at_once[0.0] == pytest.approx(settings.SUBJECT_WEIGHT * plain)
    assert at_once[1.0] == pytest.approx(plain) and plain < at_once[0.5] < at_once[0.0]


def test_an_error_that_flickers_costs_more_than_one_that_stays():
    stays, covered, noise = torch.ones(1, 3, 4, 2, 2), torch.zeros(1, 1, 4, 2, 2), torch.ones(1)
    flickers = stays * torch.tensor([1.0, -1, 1, -1]).view(1, 1, 4, 1, 1)
    assert velocity_loss(stays, covered, noise).item() == pytest.approx(1)
    clear = torch.zeros(1)
    assert velocity_loss(flickers, covered, clear).item() == pytest.approx(1 + 4 * 3 / 4)
    assert velocity_loss(flickers, covered, noise).item() == pytest.approx(1 + settings.CHANGE_WEIGHT * 4 * 3 / 4)
    still = velocity_loss(stays[:, :, :1], covered[:, :, :1], noise)
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
        hard = with_hard_motions(scene, number)
        assert hard.still() == scene.still() and hard == with_hard_motions(scene, number)
        assert {actor.motion.word for actor in hard.actors} <= {*settings.HARD}


@pytest.mark.parametrize(("motion", "ways"), DIRECTIONS.items())
def test_a_path_is_read_to_go_where_its_caption_says(motion, ways):
    for seed in range(20):
        scene = sample_scene(np.random.default_rng(seed), motion=motion)
        goes = evaluate.travel(trajectory(scene)[0], motion)
        assert f" {ways[1 if goes > 0 else -1]}" in caption(scene, np.random.default_rng(0), detail=1.0)


def test_relative_variance_is_that_of_directions_around_their_mean():
    apart = torch.tensor([[3.0, 1.0, 0.0], [3.0, -1.0, 0.0], [3.0, 0.0, 1.0], [3.0, 0.0, -1.0]])
    assert evaluate.relative_variance(apart) == pytest.approx(1 / 9)
    assert evaluate.relative_variance(apart[:1].expand(4, -1)) == 0


@needs_zoo
def test_words_of_the_shipped_backbone_lean_on_their_sentence():
    backbone = Backbone.open(ZOO / "wan", text_slots=settings.TEXT_SLOTS[0])
    assert all(0.1 < share < 0.3 for share in evaluate.leans(backbone, count=5, captions=30).values())


@needs_zoo
def test_words_tell_the_shipped_backbone_which_way_to_slide(monkeypatch):
    backbone = Backbone.open(ZOO / "wan", text_slots=settings.TEXT_SLOTS[0])
    assert evaluate.caption_effect(backbone, "sliding", count=8) > 0.1
    monkeypatch.setattr(evaluate, "caption", lambda scene, rng, detail: "a cat sliding")
    assert evaluate.caption_effect(backbone, "sliding", count=8) == 0


@pytest.fixture
def course(monkeypatch):
    """A training of seconds."""
    small = {"WIDTH": 48, "BLOCKS": 1, "FFN": 48, "TEXT_WIDTH": 32, "LEAN_DIRECTIONS": 8}
    small |= {"STILL_BATCH": {"cpu": 4}, "CLIP_BATCH": {"cpu": 3}, "TEXT_BATCH": 4}
    for name, value in small.items():
        monkeypatch.setattr(settings, name, value)
    monkeypatch.setattr(vae, "POOL", 60)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda *_, **__: None)  # a minute, for what takes a second
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return settings.Course(3, {"cpu": 9}, stills=8, clips=4, twins=2, still_share=0.1, peak=1.0)


def test_the_backbone_trains_from_stills_and_clips_and_resumes_to_the_same_weights(tmp_path, monkeypatch, course):
    def trained(name: str, *stops: int, start: Path | None = None) -> Path:
        vae.train(tmp_path / name / "vae", workdir=tmp_path)
        for steps in stops:
            work = tmp_path / f"{name}_work"
            train(tmp_path / name, workdir=work, start=start, course=course, steps=steps)
        return tmp_path / name

    monkeypatch.setattr(training, "cosine_rate", lambda *_: 1.0)  # else a run that is to end sooner learns otherwise
    whole, resumed = trained("whole", 9), trained("resumed", 3, 9)  # the ninth step takes frames of clips
    for part in ("transformer/diffusion_pytorch_model", "text_encoder/model"):
        one, other = (load_file(folder / f"{part}.safetensors") for folder in (whole, resumed))
        assert all(torch.equal(one[key], other[key]) for key in one)
    clip = evaluate._generate(WanPipeline.from_pretrained(whole), ["a cat at the beach"], steps=2, seed=0)
    assert clip.shape == (1, 9, 48, 48, 3) and clip.std() > 0
    before, after, other = (
        load_file(folder / "transformer/diffusion_pytorch_model.safetensors")["proj_out.weight"].float()
        for folder in (whole, trained("longer", 1, start=whole), trained("other", 1))
    )
    assert (after - before).norm() < 0.5 * (other - before).norm()  # it went on from where the first one stopped
    folders = [tmp_path / "lean_0", tmp_path / "lean_1"]
    for size, folder in enumerate(folders):  # in one work folder, where neither may find the other's checkpoint
        lean.train(folder, workdir=tmp_path / "lean_work", start=whole, lean=float(size), count=4, steps=2)
    backbones = [Backbone.open(folder, text_slots=64) for folder in (whole, *folders)]
    first, *others = (each.transformer.state_dict() for each in backbones)
    kept = [key for key in first if "text_embedder" not in key]
    assert kept and all(torch.equal(first[key], other[key]) for key in kept for other in others)
    contexts = [each.context(each.encode_prompts(["a cat", "a cat at the beach"])[0]) for each in backbones]
    assert not any(torch.equal(contexts[one], contexts[other]) for one, other in ((0, 1), (0, 2), (1, 2)))


def test_backbones_of_a_scale_differ_in_the_length_of_their_training_alone(tmp_path, monkeypatch, course):
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 2)
    vae.train(tmp_path / "wan" / "vae", workdir=tmp_path)
    train(tmp_path / "wan", workdir=tmp_path / "work", course=course, steps=1)
    scale.train(tmp_path / "scale", workdir=tmp_path / "work", start=tmp_path / "wan", course=course, steps=16)
    folders = [tmp_path / "wan", *(tmp_path / "scale" / steps for steps in ("2", "4", "8", "16"))]
    shipped, *scaled = (Backbone.open(folder, text_slots=64) for folder in folders)
    contexts = [each.context(each.encode_prompts(["a cat at the beach"])[0]) for each in (shipped, *scaled)]
    assert all(torch.equal(contexts[0], context) for context in contexts)
    weights = [each.transformer.state_dict()["proj_out.weight"] for each in scaled]
    assert not any(torch.equal(one, other) for one, other in pairwise(weights))
    assert sorted(path.name for path in (tmp_path / "scale").iterdir()) == ["16", "2", "4", "8"]


def test_muon_takes_matrices_inside_and_adam_all_else(tokenizer):
    trainee = torch.nn.ModuleDict(
        {"transformer": build_transformer(4), "text_encoder": build_text_encoder(len(tokenizer))}
    )
    optimizer = muon(trainee, trainee["transformer"].blocks, trainee["text_encoder"].encoder.block)
    matrices, plain = ({id(p) for p in group["params"]} for group in optimizer.param_groups)
    names = {id(p): name for name, p in trainee.named_parameters()}
    assert all(".weight" in names[p] for p in matrices)
    assert {names[p] for p in plain} >= {"text_encoder.shared.weight", "transformer.proj_out.weight"}
    assert len(matrices) + len(plain) == len(list(trainee.parameters())) and not matrices & plain
