"""Concepts and captions, with a scripted VLM in place of a model."""

import json

import numpy as np
import pytest

from bico.config.benchmark import KeyWords
from bico.config.settings import ConceptSettings
from bico.core.errors import InputError
from bico.sources import concepts, instructions

IMAGE, CLIP = np.zeros((1, 8, 8, 3), np.uint8), np.zeros((5, 8, 8, 3), np.uint8)
SETTINGS = ConceptSettings(captions=4, attempts=3)


class ScriptedVlm:
    """Answers from a function of (prompt, seed), and keeps what it was asked."""

    def __init__(self, reply):
        self.reply, self.calls = reply, []

    def answer(self, media, prompt, seeds, settings, fps):
        self.calls.append((media, prompt, list(seeds)))
        return [self.reply(prompt, seed) for seed in seeds]


def describes(words):
    """A VLM that knows these concepts and puts all words it is asked for into each caption."""

    def reply(prompt, seed):
        if prompt in instructions.CONCEPTS.values():
            return json.dumps(words)
        asked = json.loads(prompt.splitlines()[-1])
        return f'"A {" ".join(word for group in asked.values() for word in group)}, number {seed}.\n"'

    return ScriptedVlm(reply)


def test_an_image_gets_concepts_and_captions():
    found = concepts.extract(IMAGE, "image", SETTINGS, describes({"spatial": ["orange cat", "beach"]}), fps=8)
    assert (found["spatial"], found["temporal"]) == (["orange cat", "beach"], [])
    assert len(found["captions"]) == 4 and found["frame_captions"] == []
    assert all(text.startswith("A orange cat beach, number") and text.endswith(".") for text in found["captions"])
    assert found["counts"] == {"asked": 4, "rejected": 0, "template": 0, "distinct": 4, "invalid_json": 0}


def test_a_videos_frames_are_captioned_one_by_one_without_its_motion():
    vlm = describes({"spatial": ["ball"], "temporal": ["bouncing"]})
    clip = np.arange(5, dtype=np.uint8)[:, None, None, None] + CLIP
    found = concepts.extract(clip, "video", SETTINGS, vlm, fps=8)
    assert all("bouncing" in text for text in found["captions"])
    assert len(found["frame_captions"]) == 5 and not any("bouncing" in text for text in found["frame_captions"])
    looked_at = vlm.calls[-1][0]
    assert [frames.shape[0] for frames in looked_at] == [1] * 5
    assert [frames[0, 0, 0, 0] for frames in looked_at] == found["frame_indices"] == [0, 1, 2, 3, 4]


def test_fewer_frame_captions_look_at_frames_from_first_to_last():
    settings = ConceptSettings(captions=1, frame_captions=3)
    found = concepts.extract(CLIP, "video", settings, describes({"spatial": ["ball"], "temporal": []}), fps=8)
    assert found["frame_indices"] == [0, 2, 4] and len(found["frame_captions"]) == 3


def test_every_caption_has_a_seed_of_its_own_that_depends_on_the_settings():
    def seeds(seed):
        vlm = describes({"spatial": ["ball"], "temporal": ["bouncing"]})
        concepts.extract(CLIP, "video", SETTINGS.model_copy(update={"seed": seed}), vlm, fps=8)
        return [seed for _, _, asked in vlm.calls[1:] for seed in asked]

    assert len(set(seeds(0))) == len(seeds(0)) == 9
    assert seeds(0) == seeds(0) and not set(seeds(0)) & set(seeds(1))


def test_words_given_by_hand_are_not_asked_for():
    vlm = describes(None)
    words = KeyWords(spatial=["copper mushroom"], temporal=["wobbling"])
    found = concepts.extract(CLIP, "video", SETTINGS, vlm, fps=8, key_words=words)
    assert (found["spatial"], found["temporal"]) == (["copper mushroom"], ["wobbling"])
    assert not any(prompt in instructions.CONCEPTS.values() for _, prompt, _ in vlm.calls)
    assert all(concepts.holds(text, ["copper mushroom", "wobbling"]) for text in found["captions"])


def test_invalid_json_is_asked_for_again_with_a_seed():
    answers = iter(["a cat at the beach", '{"spatial": "cat"}', '{"spatial": ["cat"]}'])
    vlm = ScriptedVlm(lambda prompt, seed: next(answers, "a cat"))
    found = concepts.extract(IMAGE, "image", SETTINGS, vlm, fps=8)
    assert found["spatial"] == ["cat"] and found["counts"]["invalid_json"] == 2
    first, second, third = (seeds[0] for _, _, seeds in vlm.calls[:3])
    assert first is None and second != third  # greedy decoding would only repeat itself


def test_no_valid_json_at_all_is_a_readable_error():
    with pytest.raises(InputError, match=r"no valid JSON of concepts.*'no idea'.*spatial and temporal.*'concepts'"):
        concepts.extract(CLIP, "video", SETTINGS, ScriptedVlm(lambda prompt, seed: "no idea"), fps=8)


def test_captions_that_lose_a_word_are_asked_for_again_and_then_come_from_a_template():
    asked = {}

    def reply(prompt, seed):
        position = asked.setdefault(seed, len(asked))
        return "a cat at the beach" if position in (0, 1, 4) else "a kitten by the sea"  # 4: caption 2, second attempt

    found = concepts.extract(
        IMAGE, "image", SETTINGS, ScriptedVlm(reply), fps=8, key_words=KeyWords(spatial=["cat", "beach"])
    )
    assert found["captions"][:3] == ["a cat at the beach"] * 3
    assert found["captions"][3] == instructions.template(["cat", "beach"], 3) == "a view with cat and beach"
    assert found["counts"] == {"asked": 7, "rejected": 4, "template": 1, "distinct": 2, "invalid_json": 0}


def test_a_frame_whose_caption_lost_a_word_is_looked_at_again():
    asked = {}

    def reply(prompt, seed):
        position = asked.setdefault(seed, len(asked))
        return "a kite" if position in (2, 4) else f"a ball, {position}"  # 0: the clip's own; then frames 0 to 4

    vlm, settings = ScriptedVlm(reply), ConceptSettings(captions=1, attempts=2)
    clip = np.arange(5, dtype=np.uint8)[:, None, None, None] + CLIP
    found = concepts.extract(clip, "video", settings, vlm, fps=8, key_words=KeyWords(spatial=["ball"]))
    assert [frames[0, 0, 0, 0] for frames in vlm.calls[-1][0]] == [1, 3]
    assert found["frame_captions"] == [f"a ball, {position}" for position in (1, 6, 3, 7, 5)]
    assert found["counts"]["distinct"] == 6  # of the clip and of its frames


def test_a_caption_that_finds_no_end_is_asked_for_again():
    endless = ScriptedVlm(lambda prompt, seed: "a cat and " * 100 + "a cat")
    found = concepts.extract(IMAGE, "image", SETTINGS, endless, fps=8, key_words=KeyWords(spatial=["cat"]))
    assert found["counts"]["rejected"] == 12 and found["captions"][0] == instructions.template(["cat"], 0)


@pytest.mark.parametrize(
    ("caption", "words", "held"),
    [
        ("A cat, bouncing.", ["cat", "bouncing"], True),
        ("Cat at dawn", ["cat"], True),
        ("a caterpillar", ["cat"], False),
        ("cats at the beach", ["cat"], False),
        ("an orange cat", ["orange cat"], True),
        ("an orange and white cat", ["orange cat"], False),
        ("a T-shirt (red)", ["T-shirt", "(red)"], True),
    ],
)
def test_words_must_stand_there_verbatim_as_whole_words(caption, words, held):
    assert concepts.holds(caption, words) is held


@pytest.mark.parametrize("position", range(5))
def test_templates_hold_their_words(position):
    words = ["orange cat", "beach", "bouncing"]
    assert concepts.holds(instructions.template(words, position), words)


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ('{"spatial": ["cat"]}', "image", {"spatial": ["cat"]}),
        ('Sure!\n```json\n{"spatial": ["cat"], "temporal": ["fast  turn"]}\n```', "video",
         {"spatial": ["cat"], "temporal": ["fast turn"]}),
        ('{"spatial": ["cat", "cat"], "temporal": []}', "video", {"spatial": ["cat"], "temporal": []}),
        ('{"spatial": ["cat"], "temporal": ["fast"], "mood": 3}', "image", {"spatial": ["cat"]}),
        ('{"spatial": ["cat"]}', "video", None),
        ('{"spatial": []}', "image", None),
        ('{"spatial": [""]}', "image", None),
        ('{"spatial": [3]}', "image", None),
        ('{"spatial": "cat"}', "image", None),
        ('{"spatial": ["cat"', "image", None),
        ("[1]", "image", None),
    ],
)  # fmt: skip
def test_only_the_json_that_was_asked_for_counts(text, kind, expected):
    assert concepts.parse_concepts(text, kind) == expected


def test_prompts_show_the_words_as_json():
    prompt = instructions.caption_prompt({"spatial": ["café"], "temporal": ["spinning"]})
    assert prompt == instructions.CAPTION["video"] + '\n{"spatial": ["café"], "temporal": ["spinning"]}'
    assert instructions.caption_prompt({"spatial": ["cat"]}).startswith(instructions.CAPTION["image"])
