from itertools import pairwise

import pytest
import tiny
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from bico.core.errors import InputError
from bico.prompts.slots import mentions, token_offsets
from bico.prompts.text import clean
from bico.prompts.words import bound_slots, spans, swapped

TOKENIZER = tiny.tokenizer()


def pieces(prompt: str, bindings: dict[str, list[str]]) -> dict[str, list[str]]:
    """The tokens that each source owns."""
    tokens = TOKENIZER.convert_ids_to_tokens(TOKENIZER(clean(prompt)).input_ids)
    owned = bound_slots(TOKENIZER, prompt, bindings, tiny.TEXT_SLOTS)
    return {source: [tokens[slot] for slot in slots] for source, slots in owned.items()}


@pytest.mark.parametrize(
    "text",
    [
        "a cat",
        "  a \t cat\n\nat  the beach ",
        "fish &amp;amp; chips",
        "it\u2019s caf\u00c3\u00a9 &lt;3",
        "\u3000a\u00a0cat",
        "",
    ],
)
def test_prompts_are_cleaned_as_wan_cleans_them(text: str) -> None:
    assert clean(text) == prompt_clean(text)


def test_a_word_owns_all_of_its_tokens_and_no_other() -> None:
    bindings = {"image": ["cat"], "clip": ["bouncing"]}
    assert pieces("a cat bouncing at the beach", bindings) == {"image": ["▁cat"], "clip": ["▁bounc", "ing"]}


def test_first_and_last_words_leave_the_end_of_sequence_alone() -> None:
    assert pieces("cat at the beach", {"a": ["cat"], "b": ["beach"]}) == {"a": ["▁cat"], "b": ["▁beach"]}


def test_punctuation_stays_outside() -> None:
    assert pieces("the cat, bouncing.", {"a": ["cat"], "b": ["bouncing"]}) == {"a": ["▁cat"], "b": ["▁bounc", "ing"]}


def test_a_lone_space_token_belongs_to_nobody() -> None:
    assert pieces("a robot", {"a": ["robot"]}) == {"a": list("robot")}


def test_spans_refer_to_the_cleaned_prompt() -> None:
    assert pieces("  a   cat &amp; a car ", {"a": ["cat"], "b": ["car"]}) == {"a": ["▁cat"], "b": ["▁car"]}


def test_a_phrase_owns_the_tokens_between_its_words() -> None:
    assert pieces("a striped cat at the beach", {"a": ["striped cat"]}) == {"a": ["▁strip", "ed", "▁cat"]}


def test_the_nth_binding_of_a_repeated_word_is_its_nth_occurrence() -> None:
    found = spans("a cat and a cat and a cat", {"one": ["cat"], "two": ["cat", "cat"]})
    assert found == {"one": [(2, 5)], "two": [(12, 15), (22, 25)]}


def test_a_phrase_may_begin_and_end_with_punctuation() -> None:
    assert spans("a robot, at the beach.", {"a": ["a", ", at the beach."]}) == {"a": [(0, 1), (7, 22)]}


def test_words_of_chinese_and_japanese_are_found_without_spaces() -> None:
    assert spans("一只猫在海滩上跳", {"a": ["猫"], "b": ["海滩", "跳"]}) == {"a": [(2, 3)], "b": [(4, 6), (7, 8)]}
    assert spans("ビーチで跳ねる猫", {"a": ["猫"], "b": ["跳ねる"]}) == {"a": [(7, 8)], "b": [(4, 7)]}
    assert spans("一只cat在跳", {"a": ["cat"]}) == {"a": [(2, 5)]}
    assert swapped("一只猫在海滩上跳", {"猫": "狗"}) == ("一只狗在海滩上跳", ["一只", "在海滩上跳"])
    with pytest.raises(InputError, match="is not in the prompt"):
        spans("一群cats在跳", {"a": ["cat"]})


def test_a_phrase_keeps_its_words_from_a_shorter_binding() -> None:
    assert spans("a striped cat and a cat", {"a": ["cat"], "b": ["striped cat"]}) == {"a": [(20, 23)], "b": [(2, 13)]}


@pytest.mark.parametrize(
    ("prompt", "bindings", "message"),
    [
        ("a cat at the beach", {"a": ["dog"]}, "'dog' (bound to a) is not in the prompt"),
        ("cats at the beach", {"a": ["cat"]}, "'cat' (bound to a) is not in the prompt"),
        ("a cat", {"a": ["cat"], "b": ["cat"]}, "'cat' (bound to b) is bound already"),
        ("a robot at a video of a robot", {"a": ["video"]}, "tokens, at most"),
    ],
)
def test_prompts_that_cannot_be_bound_are_refused(prompt: str, bindings: dict, message: str) -> None:
    with pytest.raises(InputError) as error:
        bound_slots(TOKENIZER, prompt, bindings, text_slots=12)
    assert message in str(error.value)


def test_one_token_cannot_serve_two_sources() -> None:
    glued = tiny.tokenizer()
    glued.add_tokens(["cat-car"])
    with pytest.raises(InputError, match="'cat-car' is one token and bound twice"):
        bound_slots(glued, "a cat-car", {"a": ["cat"], "b": ["car"]}, tiny.TEXT_SLOTS)


def test_offsets_end_with_end_of_sequence() -> None:
    assert token_offsets(TOKENIZER, "a cat", tiny.TEXT_SLOTS) == [(0, 1), (1, 5), (0, 0)]


def test_mentions_are_found_wherever_a_word_stands() -> None:
    text = "Cat, a striped car and the cat"
    assert (
        mentions(TOKENIZER, text, "cat", tiny.TEXT_SLOTS)
        == bound_slots(TOKENIZER, text, {"all": ["Cat", "cat"]}, tiny.TEXT_SLOTS)["all"]
    )
    assert mentions(TOKENIZER, text, "beach", tiny.TEXT_SLOTS) == []


def test_mentions_beyond_the_slots_are_none() -> None:
    """The pipeline cuts there; a caption that a VLM wrote is nobody's mistake."""
    text = "a cat and " * 100
    found = mentions(TOKENIZER, text, "cat", tiny.TEXT_SLOTS)
    assert found and max(found) < tiny.TEXT_SLOTS - 1
    assert found == [slot for slot in mentions(TOKENIZER, text, "cat", 200) if slot < tiny.TEXT_SLOTS - 1]


def test_a_prompt_may_fill_all_slots() -> None:
    assert len(token_offsets(TOKENIZER, "a cat", 3)) == 3
    with pytest.raises(InputError, match="3 tokens, at most 2"):
        token_offsets(TOKENIZER, "a cat", 2)


def test_a_lone_space_token_belongs_to_nobody_where_the_tokenizer_puts_it_in() -> None:
    """Wan's tokenizer splits at spaces and then puts "▁" before each word, so there it has a place in the word."""
    sentencepiece = tiny.tokenizer()
    puts_in = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    sentencepiece.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(puts_in)
    prompt = "robot at a video"
    tokens = sentencepiece(prompt).tokens()
    assert tokens[:2] == ["▁", "r"]
    owned = bound_slots(sentencepiece, prompt, {"a": ["robot"], "b": ["video"]}, tiny.TEXT_SLOTS)
    assert [tokens[slot] for slot in owned["a"]] == list("robot")
    assert [tokens[slot] for slot in owned["b"]] == ["▁video"]
    assert [tokens[slot] for slot in mentions(sentencepiece, prompt, "robot", tiny.TEXT_SLOTS)] == list("robot")


@given(st.lists(st.sampled_from(["a", "cat", "cats", "blue-cat", "café", "(cat)", "cat's"]), min_size=1), st.data())
def test_words_of_any_prompt_are_found_each_in_a_place_of_its_own(words, data):
    owners = data.draw(st.lists(st.sampled_from(["first", "second", None]), min_size=len(words), max_size=len(words)))
    bind = {name: [word for word, owner in zip(words, owners, strict=True) if owner == name] for name in owners if name}
    prompt = "  ".join(words)
    found = spans(prompt, bind)
    text = clean(prompt)
    assert {name: sorted(text[start:end] for start, end in held) for name, held in found.items()} == {
        name: sorted(bound) for name, bound in bind.items()
    }
    held = sorted(span for owned in found.values() for span in owned)
    assert all(end <= start for (_, end), (start, _) in pairwise(held))
