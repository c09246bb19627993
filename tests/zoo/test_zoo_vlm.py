"""The training of the Toybox's VLM, against the library's own arithmetic and at small size."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, ZOO, needs_zoo

from bico.config.reading import load
from bico.models.vlm import Vlm
from bico.sources import concepts
from bico.sources.instructions import SHORT, question_about
from bico.toybox import world
from bico.toybox.captions import key_words
from bico.toybox.render import render
from bico.toybox.scenes import scene_of
from bico.toybox.words import MOTIONS, SUBJECTS
from bico.zoo import training
from bico.zoo.data import HELD_OUT_SEED, scenes
from bico.zoo.vlm import answers, evaluate, questions, sight, train
from bico.zoo.vlm.model import build
from bico.zoo.vlm.vision import patches, see


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vlm")
    build(folder, answers.sample_texts(200), seed=0)
    return Vlm(folder, device="cpu")


def noise(frames, height=48, width=48, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8)


def test_examples_ask_what_the_benchmark_asks():
    scene = scenes(1, HELD_OUT_SEED)[0]
    rng = np.random.default_rng(0)
    for moving in (False, True):
        for prompt, answer in (answers.example(scene, rng, moving=moving, caption_share=0.5) for _ in range(60)):
            if prompt == SHORT.concepts["video" if moving else "image"]:
                assert concepts.parse_concepts(answer, "video" if moving else "image") is not None
            else:
                asked = json.loads(prompt.splitlines()[-1])
                assert ("temporal" in asked) == moving
                assert concepts.holds(answer, [word for group in asked.values() for word in group])


@pytest.mark.parametrize(("module", "stage"), [(sight, "sight_loss"), (answers, "loss_of")])
def test_training_resumes_to_the_same_bytes(tmp_path, monkeypatch, module, stage):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setitem(answers.FROM_SCRATCH.scenes, "cpu", 6)
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 1)
    answers.opened.cache_clear()
    monkeypatch.setattr(train, "sample_texts", lambda: ["a striped cat spinning at the beach"])

    def trained(name):
        train.train(tmp_path / name / "vlm", workdir=tmp_path / name / "work", sight_steps=2, steps=2)
        return (tmp_path / name / "vlm/model.safetensors").read_bytes()

    whole = trained("whole")
    calls, loss = [], getattr(module, stage)

    def stopped(*args):
        calls.append(None)
        if len(calls) == (2 if stage == "sight_loss" else 3):  # in the second step
            raise KeyboardInterrupt
        return loss(*args)

    monkeypatch.setattr(module, stage, stopped)
    with pytest.raises(KeyboardInterrupt):
        trained("broken")
    assert not (tmp_path / "broken/vlm").exists()
    assert trained("broken") == whole


@pytest.mark.parametrize("frames", [1, 2, 9])
def test_training_sees_what_the_librarys_processor_and_tower_see(untrained, frames, monkeypatch):
    media = [noise(frames, seed=seed) for seed in range(3)]
    inputs = untrained.inputs(media, [untrained.chat("hi", still=frames == 1)] * 3, world.FPS, "encoded")
    values = next(value for key, value in inputs.items() if key.startswith("pixel_values"))
    grid = next(value for key, value in inputs.items() if key.endswith("grid_thw"))
    media = torch.from_numpy(np.stack(media))
    assert torch.allclose(patches(media).flatten(0, 1), values, atol=1e-5)
    tower = copy.deepcopy(untrained.model.model.visual).double()  # in float32 both round by some 1e-5
    monkeypatch.setattr("bico.zoo.vlm.vision.patches", lambda frames: patches(frames).double())
    expected = tower(values.double(), grid_thw=grid).pooler_output.unflatten(0, (3, -1))
    assert torch.allclose(see(tower, media), expected, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 9])
def test_the_loss_is_the_librarys_own(untrained, frames):
    """Padded on the other side, and with places of tokens that are the library's."""
    still, media = frames == 1, [noise(frames, seed=seed) for seed in range(3)]
    dialogues = [(SHORT.concepts["image"], "short"), ("a prompt", "an answer that is longer"), ("né {", "}")]
    texts = [untrained.chat(prompt, still=still) + answer + "<|im_end|>" for prompt, answer in dialogues]
    inputs = untrained.inputs(media, texts, world.FPS, "encoded")
    turn = inputs["input_ids"] == untrained.processor.tokenizer.convert_tokens_to_ids("<|im_start|>")
    expected = untrained.model(**inputs, labels=inputs["input_ids"].masked_fill(turn.cumsum(1) < 2, -100)).loss
    ids = answers.tokens(untrained, dialogues, still=still)
    assert ids.shape[1] % 16 == 0
    assert torch.allclose(answers.loss_of(untrained, torch.from_numpy(np.stack(media)), ids), expected, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 9])
def test_several_questions_about_one_clip_have_the_loss_of_each_alone(untrained, frames):
    media = torch.from_numpy(np.stack([noise(frames, seed=seed) for seed in range(2)]))
    dialogues = [("a prompt", "yes"), ("another", "no!"), ("a third", "yes"), ("a fourth", "no!")]
    ids = answers.tokens(untrained, dialogues, still=frames == 1)
    repeated = answers.loss_of(untrained, media.repeat_interleave(2, dim=0), ids)
    assert torch.allclose(answers.loss_of(untrained, media, ids), repeated, atol=1e-6)


@pytest.mark.parametrize("still", [False, True])
@pytest.mark.parametrize("moves", [False, True])
def test_half_of_the_questions_are_true_and_none_is_answered_wrongly(still, moves):
    rng = np.random.default_rng(0)
    for scene in scenes(40, HELD_OUT_SEED):
        shown = scene if moves else scene.still()
        there = {word for group in key_words(shown).values() for word in group}
        asked = questions.examples(shown, rng, still=still)
        assert [answer for _, answer in asked].count("yes") == len(asked) / 2
        for prompt, answer in asked:
            phrase = prompt.split('"')[1]
            assert prompt == question_about(phrase, still)
            named = {word for group in evaluate.KINDS.values() for word in group if word in phrase}
            assert named and (named <= there) == (answer == "yes")


def test_a_judge_is_asked_each_word_as_often_about_a_scene_that_lacks_it():
    asked = evaluate.single_words(scenes(60, HELD_OUT_SEED), MOTIONS)
    true, false = (sorted(word for _, word, answer in asked if answer == which) for which in (True, False))
    assert true == false and len(set(true)) == len(MOTIONS)


def test_in_some_clips_of_a_lesson_nothing_moves(untrained):
    part = questions.lesson(Path(untrained.model.name_or_path), 60, 40, 0, 0)
    still = (part.clip_times == part.clip_times[:, :1]).all(axis=1)
    assert 0 < still.sum() < 10 and (part.clip_times[~still] == np.arange(9)).all()
    assert len(part.about_clips) == questions.QUESTIONS * len(part.clips)


def test_sight_sees_each_actor_where_it_is():
    scene = world.sample_scene(np.random.default_rng(3), subject="robot", motion="spinning", actors=2)
    known = {key: torch.from_numpy(value)[None] for key, value in sight.sights(scene).items()}
    images, clips = (sight.at(known, *torch.tensor([[0], [4], [move]])) for move in (0, 1))
    here = clips["subjects"][0] == 1 + SUBJECTS.index("robot")
    words = {0, *(1 + SUBJECTS.index(actor.word) for actor in scene.actors)}
    assert here.any() and set(clips["subjects"].flatten().tolist()) == words
    now, after = torch.from_numpy(sight.facts(scene)[0, 4:6, :5])
    assert torch.equal(clips["facts"][0, here, :10], torch.cat([now, after]).expand(here.sum(), -1))
    assert torch.equal(images["facts"][0, here, 5:10], images["facts"][0, here, :5])
    assert (clips["motions"][0, here] == 1 + MOTIONS.index("spinning")).all() and not images["motions"].any()
    assert not clips["facts"][clips["subjects"] == 0].any()


@pytest.mark.parametrize("write", [answers.FROM_SCRATCH.write, questions.lesson])
def test_a_lesson_depends_on_its_step_alone(untrained, write):
    folder = Path(untrained.model.name_or_path)
    first, other, again = (write(folder, 20, 8, 0, step) for step in (3, 4, 3))
    assert all(np.array_equal(*both) for both in zip(first, again, strict=True))
    assert not np.array_equal(first.about_clips, other.about_clips)
    assert len(first.frames) == len(first.clips) == 4 and len(first.about_frames) % 4 == 0


def test_a_judge_resumes_to_the_same_bytes_and_leaves_its_teacher_alone(untrained, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setitem(questions.COURSE.scenes, "cpu", 6)
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 1)
    start = Path(untrained.model.name_or_path)
    before = (start / "model.safetensors").read_bytes()

    def trained(name):
        questions.train(tmp_path / name / "vqa", workdir=tmp_path / name / "work", start=start, steps=2)
        return (tmp_path / name / "vqa/model.safetensors").read_bytes()

    whole = trained("whole")
    saved = training.save_checkpoint

    def stopped(*args):
        saved(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_checkpoint", stopped)
    with pytest.raises(KeyboardInterrupt):
        trained("broken")
    monkeypatch.setattr(training, "save_checkpoint", saved)
    assert trained("broken") == whole and (start / "model.safetensors").read_bytes() == before


@needs_zoo
def test_the_shipped_judge_is_right_nine_times_of_ten():
    figures = evaluate.evaluate_yes(ZOO / "vqa", count=60)
    kinds = ("subject", "scene", "motion", "image_subject", "image_scene", "still_motion")
    assert min(figures[kind] for kind in kinds) >= 0.9, figures
    assert min(area for measure, area in figures.items() if "auc_" in measure) >= 0.95, figures


@needs_zoo
@pytest.mark.parametrize("source", ["robot_city", "mushroom_sliding"])
def test_a_source_gets_captions_that_differ(source):
    config = load(ROOT / "config" / "toybox.yaml")
    entry = config.sources[source]
    frames = render(scene_of(entry), num_frames=9 if entry.kind == "video" else 1)
    asked = config.concepts.model_copy(update={"frame_captions": 1})
    written = concepts.extract(frames, entry.kind, asked, Vlm(ZOO / "vlm"), fps=world.FPS)
    assert len(written["captions"]) == 60 and len(set(written["captions"])) >= 40
