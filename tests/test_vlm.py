"""The Toybox's VLM: an untrained one through the library's own classes, and the one that ships."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bico import concepts
from bico.config import ConceptSettings, KeyWords
from bico.toybox import world
from bico.toybox.captions import COLOURS
from bico.toybox.render import render
from bico.toybox.zoo import vlm as zoo_vlm
from bico.toybox.zoo.common import HELD_OUT_SEED, scenes

SHIPPED = Path(__file__).parents[1] / "data/toybox/zoo/vlm"
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
    assert image["image_grid_thw"].tolist() == [[1, 6, 6]]
    assert video["video_grid_thw"].tolist() == [[5, 6, 6]] and video["second_per_grid_ts"].tolist() == [0.25]


def test_long_clips_are_thinned_out_at_their_own_speed(untrained):
    video = untrained.inputs([noise(81)], [untrained.chat("hi", still=False)], 15)
    assert video["video_grid_thw"].tolist() == [[8, 6, 6]]
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
    monkeypatch.setattr(zoo_vlm, "POOL", 6)
    monkeypatch.setattr(zoo_vlm, "CHECKPOINT_EVERY", 1)
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


def test_a_quickened_tower_sees_the_same(untrained):
    quick = copy.deepcopy(untrained.model.model.visual)
    zoo_vlm.quicken(quick)
    pictures = untrained.processor.video_processor([noise(2, seed=seed) for seed in range(3)], return_tensors="pt")
    seen = [
        tower(pictures["pixel_values_videos"], grid_thw=pictures["video_grid_thw"]).pooler_output
        for tower in (untrained.model.model.visual, quick)
    ]
    assert torch.allclose(*seen, atol=1e-5)


def test_sight_sees_each_actor_where_it_is():
    scene = world.sample_scene(np.random.default_rng(3), subject="robot", motion="spinning")
    seen = zoo_vlm.sights(scene)
    assert set(np.unique(seen["subjects"])) == {0, 1 + world.SUBJECTS.index("robot")}
    size = 3 * scene.actors[0].size
    assert np.allclose(seen["facts"][seen["subjects"] > 0][:, 2], size)
    assert not seen["facts"][seen["subjects"] == 0].any()


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
