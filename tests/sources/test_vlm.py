"""The Toybox's VLM: an untrained one through the library's own classes, and the one that ships."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT

from bico.config.schema import ConceptSettings, KeyWords
from bico.sources import concepts
from bico.toybox import world
from bico.toybox.captions import COLOURS
from bico.toybox.render import render
from bico.zoo import vlm as zoo_vlm
from bico.zoo.common import HELD_OUT_SEED, scenes

SHIPPED = ROOT / "data/toybox/zoo/vlm"
FPS = world.FPS
needs_zoo = pytest.mark.skipif(not SHIPPED.exists(), reason="needs data/toybox/zoo/vlm: run 'bico zoo vlm'")


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vlm")
    zoo_vlm.build(folder, zoo_vlm.sample_texts(200), seed=0)
    return concepts.Vlm(folder, device="cpu")


@pytest.fixture(scope="module")
def shipped():
    return concepts.Vlm(SHIPPED, device="cpu")


@pytest.fixture(scope="module")
def clip():
    return render(scenes(1, HELD_OUT_SEED)[0])


def noise(frames, height=48, width=48, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8)


def test_the_tokenizer_reads_and_writes_any_text_and_knows_each_instruction_as_one_token(untrained):
    tokenizer = untrained.processor.tokenizer
    for text in ["a striped cat", 'né "∞" {}\t~', "XyZ 0123456789"]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    for instruction in [*concepts.CONCEPTS.values(), *concepts.CAPTION.values()]:
        assert len(tokenizer(instruction)["input_ids"]) == 1


def test_frames_and_clips_keep_their_size(untrained, clip):
    image = untrained.inputs([clip[:1]], [untrained.chat("hi", still=True)], FPS)
    video = untrained.inputs([clip], [untrained.chat("hi", still=False)], FPS)
    assert image["image_grid_thw"].tolist() == [[1, 8, 8]]
    assert video["video_grid_thw"].tolist() == [[5, 8, 8]] and video["second_per_grid_ts"].tolist() == [0.25]


def test_long_clips_are_thinned_out_at_their_own_speed(untrained):
    video = untrained.inputs([noise(81)], [untrained.chat("hi", still=False)], 15)
    assert video["video_grid_thw"].tolist() == [[8, 8, 8]]
    assert video["second_per_grid_ts"].tolist() == pytest.approx([2 * 81 / 16 / 15])


def test_greedy_answers_are_those_of_the_librarys_own_generate(untrained, clip):
    settings = ConceptSettings(max_new_tokens=12)
    inputs = untrained.inputs([clip], [untrained.chat(concepts.CONCEPTS["video"], still=False)], FPS)
    ids = untrained.model.generate(**inputs, do_sample=False, max_new_tokens=12)
    expected = untrained.processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert untrained.answer([clip], concepts.CONCEPTS["video"], [None], settings, FPS) == [expected]


def test_a_seed_gives_the_same_caption_alone_and_among_others(untrained, clip):
    settings = ConceptSettings(max_new_tokens=12)
    prompt = concepts.caption_prompt({"spatial": ["cat"], "temporal": ["spinning"]})
    many = untrained.answer([clip], prompt, [1, 2, 3, 4], settings, FPS)
    assert untrained.answer([clip], prompt, [3], settings, FPS) == [many[2]]
    assert len(set(many)) == 4


def test_what_is_looked_at_bounds_how_many_answers_are_written_at_a_time(untrained, clip, monkeypatch):
    settings = ConceptSettings(max_new_tokens=12)
    prompt = concepts.caption_prompt({"spatial": ["cat"], "temporal": ["spinning"]})
    together, batches = untrained.answer([clip], prompt, [1, 2, 3], settings, FPS), []
    tokens = untrained.inputs([clip], [untrained.chat(prompt, still=False)], FPS)["input_ids"].shape[1]
    generate = untrained._generate
    monkeypatch.setattr(untrained, "_generate", lambda i, seeds, s: batches.append(len(seeds)) or generate(i, seeds, s))
    monkeypatch.setattr(concepts, "MAX_TOKENS", 2 * tokens)
    assert untrained.answer([clip], prompt, [1, 2, 3], settings, FPS) == together and batches == [2, 1]
    monkeypatch.setattr(concepts, "MAX_TOKENS", 1)
    assert untrained.answer([clip], prompt, [1, 2, 3], settings, FPS) == together and batches[2:] == [1, 1, 1]


def test_sampling_follows_the_models_probabilities():
    settings = ConceptSettings(temperature=1.0, top_k=3, top_p=1.0)
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(4000, 4)
    for processor in concepts._sampling(range(4000), settings):
        logits = processor(None, logits)
    shares = torch.bincount(logits.argmax(1), minlength=4) / 4000
    assert shares.tolist() == pytest.approx([0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0], abs=0.03)


def test_an_untrained_model_still_yields_captions_that_hold_the_words(untrained, clip):
    settings = ConceptSettings(captions=3, attempts=2, max_new_tokens=8)
    words = KeyWords(spatial=["cat", "beach"], temporal=["spinning"])
    found = concepts.extract(clip, "video", settings, untrained, fps=FPS, key_words=words)
    assert all(concepts.holds(text, ["cat", "beach", "spinning"]) for text in found["captions"])
    assert len(found["frame_captions"]) == 9
    assert found["counts"]["template"] == 12 and found["counts"]["rejected"] == found["counts"]["asked"] == 24


def test_examples_ask_what_the_benchmark_asks():
    scene = scenes(1, HELD_OUT_SEED)[0]
    rng = np.random.default_rng(0)
    for moving in (False, True):
        for prompt, answer in (zoo_vlm.example(scene, rng, moving=moving) for _ in range(60)):
            if prompt == concepts.CONCEPTS["video" if moving else "image"]:
                assert concepts.parse_concepts(answer, "video" if moving else "image") is not None
            else:
                asked = json.loads(prompt.splitlines()[-1])
                assert ("temporal" in asked) == moving
                assert concepts.holds(answer, [word for group in asked.values() for word in group])


@pytest.mark.parametrize("stage", ["sight_loss", "loss_of"])
def test_training_resumes_to_the_same_bytes(tmp_path, monkeypatch, stage):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setitem(zoo_vlm.POOL, "cpu", 6)
    monkeypatch.setattr(zoo_vlm, "CHECKPOINT_EVERY", 1)
    zoo_vlm._opened.cache_clear()
    monkeypatch.setattr(zoo_vlm, "sample_texts", lambda: ["a striped cat spinning at the beach"])

    def train(name):
        zoo_vlm.train(tmp_path / name / "vlm", workdir=tmp_path / name / "work", sight_steps=2, steps=2)
        return (tmp_path / name / "vlm/model.safetensors").read_bytes()

    whole = train("whole")
    calls, loss = [], getattr(zoo_vlm, stage)

    def stopped(*args):
        calls.append(None)
        if len(calls) == (2 if stage == "sight_loss" else 3):  # in the second step
            raise KeyboardInterrupt
        return loss(*args)

    monkeypatch.setattr(zoo_vlm, stage, stopped)
    with pytest.raises(KeyboardInterrupt):
        train("broken")
    assert not (tmp_path / "broken/vlm").exists()
    assert train("broken") == whole


@pytest.mark.parametrize("frames", [1, 2, 9])
def test_training_sees_what_the_librarys_processor_and_tower_see(untrained, frames):
    media = [noise(frames, seed=seed) for seed in range(3)]
    inputs = untrained.inputs(media, [untrained.chat("hi", still=frames == 1)] * 3, FPS)
    values = next(value for key, value in inputs.items() if key.startswith("pixel_values"))
    grid = next(value for key, value in inputs.items() if key.endswith("grid_thw"))
    media = torch.from_numpy(np.stack(media))
    assert torch.allclose(zoo_vlm.patches(media).flatten(0, 1), values, atol=1e-5)
    tower = untrained.model.model.visual
    expected = tower(values, grid_thw=grid).pooler_output.unflatten(0, (3, -1))
    assert torch.allclose(zoo_vlm.see(tower, media), expected, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 9])
def test_the_loss_is_the_librarys_own(untrained, frames):
    """Padded on the other side, and with places of tokens that are the library's."""
    still, media = frames == 1, [noise(frames, seed=seed) for seed in range(3)]
    dialogues = [(concepts.CONCEPTS["image"], "short"), ("a prompt", "an answer that is longer"), ("né {", "}")]
    texts = [untrained.chat(prompt, still=still) + answer + "<|im_end|>" for prompt, answer in dialogues]
    inputs = untrained.inputs(media, texts, FPS)
    turn = inputs["input_ids"] == untrained.processor.tokenizer.convert_tokens_to_ids("<|im_start|>")
    expected = untrained.model(**inputs, labels=inputs["input_ids"].masked_fill(turn.cumsum(1) < 2, -100)).loss
    ids = zoo_vlm.tokens(untrained, dialogues, still=still)
    assert ids.shape[1] % 16 == 0
    assert torch.allclose(zoo_vlm.loss_of(untrained, torch.from_numpy(np.stack(media)), ids), expected, atol=1e-5)


def test_sight_sees_each_actor_where_it_is():
    scene = world.sample_scene(np.random.default_rng(3), subject="robot", motion="spinning", actors=2)
    known = {key: torch.from_numpy(value)[None] for key, value in zoo_vlm.sights(scene).items()}
    images, clips = (zoo_vlm.at(known, *torch.tensor([[0], [4], [move]])) for move in (0, 1))
    here = clips["subjects"][0] == 1 + world.SUBJECTS.index("robot")
    words = {0, *(1 + world.SUBJECTS.index(actor.word) for actor in scene.actors)}
    assert here.any() and set(clips["subjects"].flatten().tolist()) == words
    now, after = torch.from_numpy(zoo_vlm.facts(scene)[0, 4:6, :5])
    assert torch.equal(clips["facts"][0, here, :10], torch.cat([now, after]).expand(here.sum(), -1))
    assert torch.equal(images["facts"][0, here, 5:10], images["facts"][0, here, :5])
    assert (clips["motions"][0, here] == 1 + world.MOTIONS.index("spinning")).all() and not images["motions"].any()
    assert not clips["facts"][clips["subjects"] == 0].any()


def test_a_lesson_depends_on_its_step_alone(untrained):
    folder = Path(untrained.model.name_or_path)
    first, other, again = (zoo_vlm.lesson(folder, 20, 8, 0, step) for step in (3, 4, 3))
    assert all(np.array_equal(*both) for both in zip(first, again, strict=True))
    assert not np.array_equal(first.about_clips, other.about_clips)
    assert len(first.frames) == len(first.clips) == 4 and first.about_frames.shape[0] == 4


@needs_zoo
def test_the_shipped_model_was_trained_on_todays_instructions(shipped):
    for instruction in [*concepts.CONCEPTS.values(), *concepts.CAPTION.values()]:
        ids = shipped.processor.tokenizer(instruction)["input_ids"]
        assert len(ids) == 1, f"train the VLM again ('bico zoo vlm'), it has not seen: {instruction}"


@needs_zoo
@pytest.mark.parametrize("kind", ["image", "video"])
def test_the_shipped_model_gives_valid_json_on_renders_and_on_anything_else(shipped, kind):
    frames = 1 if kind == "image" else 9
    media = [render(scene)[:frames] for scene in scenes(16, HELD_OUT_SEED)]
    media += [noise(frames), np.zeros((frames, 48, 48, 3), np.uint8), np.full((frames, 48, 48, 3), 255, np.uint8)]
    settings = ConceptSettings()
    answers = shipped.answer(media, concepts.CONCEPTS[kind], [None] * len(media), settings, FPS)
    answers += shipped.answer([noise(frames, 90, 160)], concepts.CONCEPTS[kind], [None], settings, FPS)
    assert all(concepts.parse_concepts(answer, kind) is not None for answer in answers)


@needs_zoo
def test_the_shipped_model_reads_subject_and_scene_and_writes_varied_captions(shipped):
    scene = world.sample_scene(np.random.default_rng(7), subject="cat", scene="beach", motion="bouncing")
    found = concepts.extract(render(scene), "video", ConceptSettings(captions=20), shipped, fps=FPS)
    assert found["spatial"] == ["cat", "beach"] and found["temporal"] == ["bouncing"]
    assert found["counts"]["template"] <= 1
    for words in ("at the beach", "on a beach", "of a cat", "cat is bouncing"):
        assert 0 < sum(words in text for text in found["captions"]) < 20
    assert not any(colour in text for _, colour in COLOURS for text in found["captions"])


@needs_zoo
def test_photographs_give_valid_json(shipped):
    data = pytest.importorskip("skimage.data")
    settings = ConceptSettings()
    for photo in (data.astronaut(), data.chelsea(), data.coffee()):
        for frames, kind in ((photo[None], "image"), (np.repeat(photo[None], 9, axis=0), "video")):
            answer = shipped.answer([frames], concepts.CONCEPTS[kind], [None], settings, FPS)[0]
            assert concepts.parse_concepts(answer, kind) is not None
