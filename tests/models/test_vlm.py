"""The Toybox's VLMs: untrained ones through the library's own classes, and those that ship."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from transformers import Qwen2VLImageProcessor, Qwen2VLVideoProcessor

from bico.config.benchmark import KeyWords
from bico.config.settings import ConceptSettings
from bico.core.errors import InputError
from bico.models import vlm
from bico.models.vlm import Vlm
from bico.sources import concepts
from bico.sources.instructions import SHORT, question_about
from bico.toybox import world
from bico.toybox.captions import COLOURS
from bico.toybox.render import render
from bico.zoo.data import HELD_OUT_SEED, scenes
from bico.zoo.vlm.answers import sample_texts
from bico.zoo.vlm.model import build
from bico.zoo.vlm.questions import with_questions

SHIPPED = ROOT / "data/toybox/zoo/vlm"
JUDGE = ROOT / "data/toybox/zoo/vqa"
FPS = world.FPS
needs_zoo = pytest.mark.skipif(not SHIPPED.exists(), reason="needs data/toybox/zoo/vlm")


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vlm")
    build(folder, sample_texts(200), seed=0)
    return Vlm(folder, device="cpu")


@pytest.fixture(scope="module")
def unsure(untrained, tmp_path_factory):
    """An untrained judge."""
    folder = tmp_path_factory.mktemp("vqa")
    with_questions(Path(untrained.model.name_or_path), folder, seed=0)
    return Vlm(folder, device="cpu")


@pytest.fixture(scope="module")
def judge():
    return Vlm(JUDGE, device="cpu")


@pytest.fixture(scope="module")
def shipped():
    return Vlm(SHIPPED, device="cpu")


@pytest.fixture(scope="module")
def clip():
    return render(scenes(1, HELD_OUT_SEED)[0])


def settings_of(**changes):
    """Settings of the Toybox's VLM."""
    return ConceptSettings(**{"instructions": "short", "look": "encoded"} | changes)


def noise(frames, height=48, width=48, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8)


def test_the_tokenizer_reads_and_writes_any_text_and_knows_each_instruction_as_one_token(untrained):
    tokenizer = untrained.processor.tokenizer
    for text in ["a striped cat", 'né "∞" {}\t~', "XyZ 0123456789"]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    for instruction in [*SHORT.concepts.values(), *SHORT.caption.values()]:
        assert len(tokenizer(instruction)["input_ids"]) == 1


def test_frames_and_clips_keep_their_size(untrained, clip):
    image = untrained.inputs([clip[:1]], [untrained.chat("hi", still=True)], FPS, "encoded")
    video = untrained.inputs([clip], [untrained.chat("hi", still=False)], FPS, "encoded")
    assert image["image_grid_thw"].tolist() == [[1, 8, 8]]
    assert video["video_grid_thw"].tolist() == [[5, 8, 8]] and video["second_per_grid_ts"].tolist() == [0.25]


def test_long_clips_are_thinned_out_at_their_own_speed(untrained):
    video = untrained.inputs([noise(81)], [untrained.chat("hi", still=False)], 15, "encoded")
    assert video["video_grid_thw"].tolist() == [[8, 8, 8]]
    assert video["second_per_grid_ts"].tolist() == pytest.approx([2 * 81 / 16 / 15])


def test_the_role_stands_before_the_question_and_only_where_there_is_one(untrained):
    assert untrained.chat("hi", still=True).startswith("<|im_start|>user\n")
    assert untrained.chat("hi", still=True, system="Be exact.").startswith(
        "<|im_start|>system\nBe exact.<|im_end|>\n<|im_start|>user\n<|vision_start|>"
    )


@pytest.fixture
def full_size(untrained, monkeypatch):
    """With the processors of Qwen2.5-VL as its library makes them: 14 pixels a patch, four patches a token."""
    monkeypatch.setattr(untrained.processor, "image_processor", Qwen2VLImageProcessor())
    monkeypatch.setattr(untrained.processor, "video_processor", Qwen2VLVideoProcessor())
    return untrained


@pytest.mark.parametrize(
    ("height", "width", "patches"), [(480, 832, [34, 60]), (1080, 1920, [52, 94]), (100, 100, [32, 32])]
)
def test_an_original_is_seen_in_its_own_size_between_256_and_1280_tokens(full_size, height, width, patches):
    image = full_size.inputs([noise(1, height, width)], [full_size.chat("hi", still=True)], 15, "original")
    assert image["image_grid_thw"].tolist() == [[1, *patches]]


@pytest.mark.parametrize(("fps", "pairs", "seconds"), [(24, 7, 0.5), (15, 11, 0.5), (8, 21, 0.5), (2, 41, 1.0)])
def test_an_original_clip_is_seen_at_four_frames_a_second_of_its_own_time(full_size, fps, pairs, seconds):
    video = full_size.inputs([noise(81, 112, 224)], [full_size.chat("hi", still=False)], fps, "original")
    assert video["video_grid_thw"][0, 0] == pairs and video["second_per_grid_ts"].tolist() == [seconds]


def test_the_processor_is_told_which_frames_of_the_file_it_sees_and_their_true_rate(untrained, monkeypatch):
    class Processor:
        image_processor = Qwen2VLImageProcessor()

        def __call__(self, **given):
            self.given = given

    processor = Processor()
    monkeypatch.setattr(untrained, "processor", processor)
    untrained.inputs([noise(81, 112, 224)], ["hi"], 24, "original")
    (metadata,), (clip,) = processor.given["video_metadata"], processor.given["videos"]
    assert metadata["fps"] == 24 and metadata["frames_indices"] == list(range(0, 81, 6))
    assert clip.shape == (14, 112, 224, 3)


def test_a_slow_clip_of_full_size_is_shown_smaller_than_would_fill_the_memory(full_size):
    video = full_size.inputs([noise(81, 720, 1280)], [full_size.chat("hi", still=False)], 4, "original")
    tokens = int(video["video_grid_thw"].prod()) // 4
    assert video["video_grid_thw"][0, 0] == 41 and 0.8 * vlm.CLIP_TOKENS < tokens <= vlm.CLIP_TOKENS


def test_stills_that_are_read_at_the_same_time_are_bounded(untrained, clip, monkeypatch):
    settings, batches = settings_of(max_new_tokens=4), []
    prompt = SHORT.caption_prompt({"spatial": ["cat"]})
    stills = [clip[index : index + 1] for index in range(4)]
    tokens = untrained.inputs(stills[:1], [untrained.chat(prompt, still=True)], FPS, "encoded")["input_ids"].shape[1]
    together = untrained.answer(stills, prompt, [1, 2, 3, 4], settings, FPS)
    generate = untrained._generate
    monkeypatch.setattr(untrained, "_generate", lambda i, seeds, s: batches.append(len(seeds)) or generate(i, seeds, s))
    monkeypatch.setattr(vlm, "READ_TOKENS", 3 * tokens)
    assert untrained.answer(stills, prompt, [1, 2, 3, 4], settings, FPS) == together and batches == [3, 1]


def test_greedy_answers_are_those_of_the_librarys_own_generate(untrained, clip):
    settings = settings_of(max_new_tokens=12)
    inputs = untrained.inputs([clip], [untrained.chat(SHORT.concepts["video"], still=False)], FPS, "encoded")
    ids = untrained.model.generate(**inputs, do_sample=False, max_new_tokens=12)
    expected = untrained.processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert untrained.answer([clip], SHORT.concepts["video"], [None], settings, FPS) == [expected]


def test_a_seed_gives_the_same_caption_alone_and_among_others(untrained, clip):
    settings = settings_of(max_new_tokens=12)
    prompt = SHORT.caption_prompt({"spatial": ["cat"], "temporal": ["spinning"]})
    many = untrained.answer([clip], prompt, [1, 2, 3, 4], settings, FPS)
    assert untrained.answer([clip], prompt, [3], settings, FPS) == [many[2]]
    assert len(set(many)) == 4


def test_no_penalty_keeps_a_caption_from_repeating_the_words_of_its_prompt(untrained, clip, monkeypatch):
    """Qwen2.5's own settings have one."""
    settings = settings_of(max_new_tokens=12)
    prompt = SHORT.caption_prompt({"spatial": ["cat"], "temporal": ["spinning"]})
    free = untrained.answer([clip], prompt, [1, 2], settings, FPS)
    monkeypatch.setattr(untrained.model.generation_config, "repetition_penalty", 5.0)
    assert untrained.answer([clip], prompt, [1, 2], settings, FPS) == free


def test_what_is_looked_at_bounds_how_many_answers_are_written_at_a_time(untrained, clip, monkeypatch):
    settings = settings_of(max_new_tokens=12)
    prompt = SHORT.caption_prompt({"spatial": ["cat"], "temporal": ["spinning"]})
    together, batches = untrained.answer([clip], prompt, [1, 2, 3], settings, FPS), []
    tokens = untrained.inputs([clip], [untrained.chat(prompt, still=False)], FPS, "encoded")["input_ids"].shape[1]
    generate = untrained._generate
    monkeypatch.setattr(untrained, "_generate", lambda i, seeds, s: batches.append(len(seeds)) or generate(i, seeds, s))
    monkeypatch.setattr(vlm, "HELD_TOKENS", 2 * tokens)
    assert untrained.answer([clip], prompt, [1, 2, 3], settings, FPS) == together and batches == [2, 1]
    monkeypatch.setattr(vlm, "HELD_TOKENS", 1)
    assert untrained.answer([clip], prompt, [1, 2, 3], settings, FPS) == together and batches[2:] == [1, 1, 1]


@pytest.mark.parametrize(
    ("settings", "drawn"),
    [({}, {0, 1, 2}), ({"top_p": 0.7}, {0, 1}), ({"top_k": 2, "top_p": 1.0}, {0, 1}), ({"temperature": 0.01}, {0})],
)
def test_captions_draw_from_the_most_probable_words_alone(settings, drawn):
    scores = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05])).expand(200, -1)
    for processor in vlm._sampling(range(200), settings_of(**{"temperature": 1.0, "top_p": 0.9} | settings)):
        scores = processor(None, scores)
    assert set(scores.argmax(dim=1).tolist()) == drawn


def test_sampling_follows_the_models_probabilities():
    settings = settings_of(temperature=1.0, top_k=3, top_p=1.0)
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(4000, 4)
    for processor in vlm._sampling(range(4000), settings):
        logits = processor(None, logits)
    shares = torch.bincount(logits.argmax(1), minlength=4) / 4000
    assert shares.tolist() == pytest.approx([0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0], abs=0.03)


def test_an_untrained_model_still_yields_captions_that_hold_the_words(untrained, clip):
    settings = settings_of(captions=3, attempts=2, max_new_tokens=8)
    words = KeyWords(spatial=["cat", "beach"], temporal=["spinning"])
    found = concepts.extract(clip, "video", settings, untrained, fps=FPS, key_words=words)
    assert all(concepts.holds(text, ["cat", "beach", "spinning"]) for text in found["captions"])
    assert len(found["frame_captions"]) == 9
    assert found["counts"]["template"] == 12 and found["counts"]["rejected"] == found["counts"]["asked"] == 24


PHRASES = ("a cat", "bouncing at the beach", "x")


def asked(frames):
    return [question_about(phrase, still=frames == 1) for phrase in PHRASES]


@pytest.mark.parametrize("frames", [1, 9])
def test_the_probability_of_yes_is_that_of_the_librarys_own_pass(unsure, frames):
    media = [noise(frames, seed=seed) for seed in range(3)]
    yes, no = unsure.processor.tokenizer.convert_tokens_to_ids(["yes", "no"])
    expected = []
    for each, question in zip(media, asked(frames), strict=True):
        inputs = unsure.inputs([each], [unsure.chat(question, still=frames == 1)], FPS, "encoded")
        logits = unsure.model(**inputs).logits[0, -1]
        expected.append((logits[yes] - logits[no]).sigmoid().item())
    found = unsure.yes(media, asked(frames), FPS, "encoded")
    assert found == pytest.approx(expected, abs=1e-4)
    assert all(0 <= chance <= 1 for chance in found) and max(found) - min(found) > 0.01


@pytest.mark.parametrize(("bound", "readings"), [(vlm.HELD_TOKENS, 1), (1, 3)])
def test_questions_about_a_clip_share_a_reading_as_far_as_memory_allows(unsure, clip, monkeypatch, bound, readings):
    alone = [unsure.yes([clip], [question], FPS, "encoded")[0] for question in asked(9)]
    read, seen = unsure.model.model.visual.forward, []
    monkeypatch.setattr(unsure.model.model.visual, "forward", lambda *a, **k: seen.append(None) or read(*a, **k))
    monkeypatch.setattr(vlm, "HELD_TOKENS", bound)
    assert unsure.yes([clip] * 3, asked(9), FPS, "encoded") == pytest.approx(alone, abs=1e-4)
    assert len(seen) == readings


def test_every_casing_that_is_a_token_counts_as_yes(unsure, tmp_path, clip):
    before = unsure.yes([clip], asked(9)[:1], FPS, "encoded")[0]
    unsure.processor.save_pretrained(tmp_path)
    unsure.model.save_pretrained(tmp_path)
    both = Vlm(tmp_path, device="cpu")
    both.processor.tokenizer.add_tokens(["Yes"])
    both.model.resize_token_embeddings(len(both.processor.tokenizer), mean_resizing=False)
    yes, capital = both.processor.tokenizer.convert_tokens_to_ids(["yes", "Yes"])
    with torch.no_grad():
        both.model.get_input_embeddings().weight[capital] = both.model.get_input_embeddings().weight[yes]
    odds = 2 * before / (1 - before)  # two tokens with the logit of one
    assert both.yes([clip], asked(9)[:1], FPS, "encoded")[0] == pytest.approx(odds / (1 + odds), abs=1e-4)


def test_a_vlm_without_a_token_for_yes_is_refused(untrained, clip):
    with pytest.raises(InputError, match=r"the tokenizer has no token for 'yes': .*; set models\.vqa$"):
        untrained.yes([clip], asked(9)[:1], FPS, "encoded")


@needs_zoo
def test_the_shipped_judge_was_trained_on_todays_question(judge):
    for still in (True, False):
        parts = judge.processor.tokenizer(question_about("\0", still).split("\0"))["input_ids"]
        assert [len(part) for part in parts] == [1, 1], "train the judge again ('python -m bico.zoo vqa')"


@needs_zoo
@pytest.mark.parametrize("frames", [1, 9])
def test_the_shipped_judge_says_yes_to_what_it_sees_and_no_to_the_rest(judge, frames):
    drawn = [
        world.sample_scene(np.random.default_rng(seed), subject=subject, scene=scene, motion=motion, moving=frames > 1)
        for seed, (subject, scene, motion) in enumerate(
            [("cat", "beach", "bouncing"), ("robot", "city", "spinning"), ("fish", "space", "growing")]
        )
    ]
    media = [render(scene, num_frames=frames) for scene in drawn]
    for role in ("subject", "scene", *(["motion"] if frames > 1 else [])):
        words = [scene.words()[role] for scene in drawn]
        for index, each in enumerate(media):
            chances = judge.yes([each] * 3, [question_about(word, still=frames == 1) for word in words], FPS, "encoded")
            assert all(0 <= chance <= 1 for chance in chances)
            assert chances[index] > 0.5 > max(chances[:index] + chances[index + 1 :])


@needs_zoo
def test_the_shipped_model_was_trained_on_todays_instructions(shipped):
    for instruction in [*SHORT.concepts.values(), *SHORT.caption.values()]:
        ids = shipped.processor.tokenizer(instruction)["input_ids"]
        assert len(ids) == 1, f"train the VLM again ('python -m bico.zoo vlm'), it has not seen: {instruction}"


@needs_zoo
@pytest.mark.parametrize("kind", ["image", "video"])
def test_the_shipped_model_gives_valid_json_on_renders_and_on_anything_else(shipped, kind):
    frames = 1 if kind == "image" else 9
    media = [render(scene)[:frames] for scene in scenes(16, HELD_OUT_SEED)]
    media += [noise(frames), np.zeros((frames, 48, 48, 3), np.uint8), np.full((frames, 48, 48, 3), 255, np.uint8)]
    settings = settings_of()
    answers = shipped.answer(media, SHORT.concepts[kind], [None] * len(media), settings, FPS)
    answers += shipped.answer([noise(frames, 90, 160)], SHORT.concepts[kind], [None], settings, FPS)
    assert all(concepts.parse_concepts(answer, kind) is not None for answer in answers)


@needs_zoo
def test_the_shipped_model_reads_subject_and_scene_and_writes_varied_captions(shipped):
    scene = world.sample_scene(np.random.default_rng(7), subject="cat", scene="beach", motion="bouncing")
    found = concepts.extract(render(scene), "video", settings_of(captions=20), shipped, fps=FPS)
    assert found["spatial"] == ["cat", "beach"] and found["temporal"] == ["bouncing"]
    assert found["counts"]["template"] <= 1
    for words in ("at the beach", "on a beach", "of a cat", "cat is bouncing"):
        assert 0 < sum(words in text for text in found["captions"]) < 20
    assert not any(colour in text for _, colour in COLOURS for text in found["captions"])


@needs_zoo
def test_photographs_give_valid_json(shipped):
    data = pytest.importorskip("skimage.data")
    settings = settings_of()
    for photo in (data.astronaut(), data.chelsea(), data.coffee()):
        for frames, kind in ((photo[None], "image"), (np.repeat(photo[None], 9, axis=0), "video")):
            answer = shipped.answer([frames], SHORT.concepts[kind], [None], settings, FPS)[0]
            assert concepts.parse_concepts(answer, kind) is not None


def test_an_answer_is_to_the_whole_request_and_to_media_as_the_settings_look_at_them(untrained, clip, monkeypatch):
    seen, inputs = [], untrained.inputs

    def watched(media, texts, fps, look):
        seen.append((texts, fps, look))
        return inputs(media, texts, fps, "encoded")

    monkeypatch.setattr(untrained, "inputs", watched)
    settings = settings_of(max_new_tokens=2, look="original")
    untrained.answer([clip], "hi", [1], settings, 24.0, "Be exact.")
    untrained.answer([clip[:1], clip[1:2]], "hi", [1, 2], settings, 24.0, "Be exact.")
    moving, still = (untrained.chat("hi", still=each, system="Be exact.") for each in (False, True))
    assert seen == [([moving], 24.0, "original"), ([still], 24.0, "original"), ([still] * 2, 24.0, "original")]
