"""Concepts and captions, with a scripted VLM in place of a model."""

import hashlib
import json
import re

import numpy as np
import pytest

from bico.config.benchmark import KeyWords
from bico.config.settings import ConceptSettings
from bico.core.errors import InputError
from bico.sources import concepts
from bico.sources.instructions import INSTRUCTIONS, PAPER, SHORT, template

IMAGE, CLIP = np.zeros((1, 8, 8, 3), np.uint8), np.zeros((5, 8, 8, 3), np.uint8)
SETTINGS = ConceptSettings(captions=4, attempts=3)
CONCEPT_REQUESTS = [text for each in INSTRUCTIONS.values() for text in each.concepts.values()]


class ScriptedVlm:
    """Answers from a function of (prompt, seed), and keeps what it was asked."""

    def __init__(self, reply):
        self.reply, self.calls = reply, []

    def answer(self, media, prompt, seeds, settings, fps, system=None):
        self.calls.append((media, prompt, list(seeds)))
        self.system = system
        return [self.reply(prompt, seed) for seed in seeds]


def describes(words):
    """A VLM that knows these concepts and puts all words it is asked for into each caption."""

    def reply(prompt, seed):
        if prompt in CONCEPT_REQUESTS:
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
    assert not any(prompt in CONCEPT_REQUESTS for _, prompt, _ in vlm.calls)
    assert all(concepts.holds(text, ["copper mushroom", "wobbling"]) for text in found["captions"])


def test_a_motion_given_by_hand_leaves_the_other_words_to_the_vlm():
    """`--temporal ball.mp4=bouncing`, as in the README, without a word for how the ball looks."""
    vlm = describes({"spatial": ["ball"], "temporal": ["rolling"]})
    found = concepts.extract(CLIP, "video", SETTINGS, vlm, fps=8, key_words=KeyWords(temporal=["bouncing"]))
    assert (found["spatial"], found["temporal"]) == (["ball"], ["bouncing"])
    with pytest.raises(ValueError, match="expected words under 'spatial', 'temporal' or both"):
        KeyWords()


def test_a_look_given_by_hand_leaves_the_motion_to_the_vlm_unless_there_is_none():
    for temporal, expected in ((None, ["rolling"]), ([], [])):
        vlm = describes({"spatial": ["sphere"], "temporal": ["rolling"]})
        words = KeyWords(spatial=["ball"], temporal=temporal)
        found = concepts.extract(CLIP, "video", SETTINGS, vlm, fps=8, key_words=words)
        assert (found["spatial"], found["temporal"]) == (["ball"], expected)


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
    assert found["captions"][3] == template(["cat", "beach"], 3) == "a view with cat and beach"
    assert found["counts"] == {"asked": 7, "rejected": 4, "template": 1, "distinct": 2, "invalid_json": 0}


def test_a_frame_whose_caption_lost_a_word_is_looked_at_again():
    asked = {}

    def reply(prompt, seed):
        position = asked.setdefault(seed, len(asked))
        return "a kite" if position in (2, 4) else f"a ball, {position}"  # 0: the clip's own; then frames 0 to 4

    vlm, settings = ScriptedVlm(reply), ConceptSettings(captions=1, attempts=2)
    clip = np.arange(5, dtype=np.uint8)[:, None, None, None] + CLIP
    words = KeyWords(spatial=["ball"], temporal=[])
    found = concepts.extract(clip, "video", settings, vlm, fps=8, key_words=words)
    assert [frames[0, 0, 0, 0] for frames in vlm.calls[-1][0]] == [1, 3]
    assert found["frame_captions"] == [f"a ball, {position}" for position in (1, 6, 3, 7, 5)]
    assert found["counts"]["distinct"] == 6  # of the clip and of its frames


def test_a_caption_that_finds_no_end_is_asked_for_again():
    endless = ScriptedVlm(lambda prompt, seed: "a cat and " * 100 + "a cat")
    found = concepts.extract(IMAGE, "image", SETTINGS, endless, fps=8, key_words=KeyWords(spatial=["cat"]))
    assert found["counts"]["rejected"] == 12 and found["captions"][0] == template(["cat"], 0)


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
        ("一只猫在海滩上跳", ["猫", "海滩"], True),
    ],
)
def test_words_must_stand_there_verbatim_as_whole_words(caption, words, held):
    assert concepts.holds(caption, words) is held


@pytest.mark.parametrize("position", range(5))
def test_templates_hold_their_words(position):
    words = ["orange cat", "beach", "bouncing"]
    assert concepts.holds(template(words, position), words)


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


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("- A beagle at the beach.", "A beagle at the beach."),
        ("1. A beagle at the beach.", "A beagle at the beach."),
        ("Caption: A beagle at the beach.", "A beagle at the beach."),
        ('**Caption 2:** "A beagle at the beach."', "A beagle at the beach."),
        ("'A dog's ball at the\u00a0 beach.'\n", "A dog's ball at the beach."),
        ("“A beagle at the beach.”", "A beagle at the beach."),
        ("```\nA beagle at the beach.\n```", "A beagle at the beach."),
        ('Here is a caption: "A beagle at the beach."', None),
        ("Sure! A caption of this image:\nA beagle at the beach.", None),
        ("- A beagle at the beach.\n- A beagle by the sea.\n- A beagle on sand.", None),
        ("A beagle at the beach.\n\nIt uses all key concepts.", None),
    ],
)
def test_only_the_caption_of_an_answer_counts(answer, caption):
    assert concepts.parse_caption(answer) == caption


@pytest.mark.parametrize(
    "caption",
    [
        'A neon sign reads: "Open."',
        '"Open" says one sign, and the other one says "closed"',
        "3 dogs - all of them beagles - rest at 2.5 metres from a wall: one sleeps.",
        "A captioned photograph: a beagle at the beach",
        "Surely a beagle: it digs.",
    ],
)
def test_a_caption_keeps_its_own_quotes_numbers_and_colons(caption):
    assert concepts.parse_caption(caption) == caption


def test_an_answer_that_is_more_than_a_caption_is_asked_for_again():
    answers = iter(["- a cat\n- the cat\n- cats and a cat"] * 2)
    vlm = ScriptedVlm(lambda prompt, seed: next(answers, "- a cat"))
    settings = ConceptSettings(captions=2)
    found = concepts.extract(IMAGE, "image", settings, vlm, fps=8, key_words=KeyWords(spatial=["cat"]))
    assert found["captions"] == ["a cat", "a cat"] and found["counts"]["rejected"] == 2


def test_prompts_show_the_words_as_json():
    for each in INSTRUCTIONS.values():
        prompt = each.caption_prompt({"spatial": ["café"], "temporal": ["spinning"]})
        assert prompt == each.caption["video"] + '\n{"spatial": ["café"], "temporal": ["spinning"]}'
        assert each.caption_prompt({"spatial": ["cat"]}).startswith(each.caption["image"])


def test_what_the_toyboxs_vlm_is_asked_is_what_it_was_taught():
    """Each text is one token of its vocabulary: another byte is a question that it has never seen."""
    texts = [*SHORT.concepts.values(), *SHORT.caption.values(), SHORT.caption_prompt({"spatial": ["café"]})]
    texts.append(SHORT.caption_prompt({"spatial": ["a"], "temporal": ["b"]}))
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    assert digest == "ce562b8da1e8735a050ee2ac2f8096800d20b1924eb7844a4d57e22c1b28dadf" and SHORT.system is None


@pytest.mark.parametrize("kind", ["image", "video"])
def test_the_papers_instructions_show_by_example_what_is_wanted(kind):
    example = PAPER.concepts[kind].splitlines()[-1]
    assert concepts.parse_concepts(example, kind) is not None
    assert len([word for group in concepts.parse_concepts(example, kind).values() for word in group]) == 6
    given = PAPER.caption[kind].split("key concepts were ")[1]
    words = [word for group in concepts.parse_concepts(given, kind).values() for word in group]
    shown = re.findall(r'one was "(.*?)"|answer was "(.*?)"', given)
    captions = [one or other for one, other in shown]
    assert len(captions) == 3 and all(concepts.holds(caption, words) for caption in captions)
    assert all(10 < len(caption.split()) <= 30 for caption in captions)
    assert not re.search(r"^\W", PAPER.caption[kind], re.MULTILINE)  # a list would be answered with a list


def test_the_papers_instructions_give_a_role_and_take_long_captions():
    caption = "a cat " + "in the warm light of the evening " * 20  # 142 words
    vlm = ScriptedVlm(lambda prompt, seed: caption)
    for instructions, taken in (("paper", caption.strip()), ("short", template(["cat"], 0))):
        settings = SETTINGS.model_copy(update={"instructions": instructions})
        found = concepts.extract(IMAGE, "image", settings, vlm, fps=8, key_words=KeyWords(spatial=["cat"]))
        assert found["captions"][0] == taken and vlm.system == INSTRUCTIONS[instructions].system
    assert PAPER.system


def photographs(number):
    """Pictures of different sizes and greys."""
    return [np.full((1, 8 + index, 8, 3), index, np.uint8) for index in range(number)]


def captioned(found, vlm):
    """Grey of the photograph that the VLM was shown for each caption, as `caption_photos` has it."""
    shown = [(media[0][0, 0, 0, 0], len(seeds)) for media, prompt, seeds in vlm.calls if prompt not in CONCEPT_REQUESTS]
    return [int(grey) for grey, count in shown for _ in range(count)]


@pytest.mark.parametrize(("captions", "expected"), [(4, [0, 0, 1, 2]), (1, [0, 1, 2]), (7, [0, 0, 0, 1, 1, 2, 2])])
def test_captions_are_divided_among_photographs(captions, expected):
    vlm, (first, *others) = describes({"spatial": ["cat"]}), photographs(3)
    settings = SETTINGS.model_copy(update={"captions": captions})
    found = concepts.extract(first, "image", settings, vlm, fps=8, others=others)
    assert found["caption_photos"] == expected == captioned(found, vlm)
    assert len(found["captions"]) == len(set(found["captions"])) == len(expected)  # each by a seed of its own


def test_the_captions_of_the_first_photograph_are_those_that_it_has_alone():
    (first, *others), alone = photographs(2), SETTINGS.model_copy(update={"captions": 2})
    one = concepts.extract(first, "image", alone, describes({"spatial": ["cat"]}), fps=8)
    two = concepts.extract(first, "image", SETTINGS, describes({"spatial": ["cat"]}), fps=8, others=others)
    assert two["captions"][:2] == one["captions"] and "caption_photos" not in one


@pytest.mark.parametrize(
    ("named", "expected", "noticed"),
    [
        ([["grass", "Cat"], ["cat", "sofa"], ["cat", "grass"]], ["grass", "Cat"], False),
        ([["cat", "sofa"], ["cat", "grass"]], ["cat"], False),
        ([["cat", "sofa"], ["kitten"], ["pet"]], ["cat", "sofa"], True),
    ],
)
def test_key_words_of_photographs_are_those_of_most_or_of_the_first(caplog, named, expected, noticed):
    caplog.set_level("INFO")
    answers, vlm = iter(named), describes(None)
    reply = vlm.reply
    vlm.reply = lambda prompt, seed: (
        json.dumps({"spatial": next(answers)}) if prompt in CONCEPT_REQUESTS else reply(prompt, seed)
    )
    first, *others = photographs(len(named))
    found = concepts.extract(first, "image", SETTINGS, vlm, fps=8, others=others)
    assert found["spatial"] == expected and all(concepts.holds(text, expected) for text in found["captions"])
    assert caplog.messages[0].startswith(f"key words of {len(named)} photographs, with the number of photographs: ")
    assert [message for message in caplog.messages if message.startswith("notice: no key word")] == (
        ["notice: no key word is found in more than half of the photographs: those of the first are used"] * noticed
    )


def test_key_words_by_hand_are_asked_of_no_photograph():
    first, *others = photographs(2)
    vlm = describes(None)
    found = concepts.extract(first, "image", SETTINGS, vlm, fps=8, key_words=KeyWords(spatial=["cat"]), others=others)
    assert found["spatial"] == ["cat"] and not [1 for _, prompt, _ in vlm.calls if prompt in CONCEPT_REQUESTS]
