"""Which words of a bound phrase say what is seen."""

import pytest
import yaml
from conftest import ROOT

from bico.prompts.content_words import FUNCTION_WORDS, content_words, stems


def words(phrase: str) -> list[str]:
    return list(content_words(phrase).values())


def test_every_phrase_of_the_paper_keeps_what_says_something():
    cases = yaml.safe_load((ROOT / "config" / "paper.yaml").read_text())["cases"]
    phrases = [phrase for case in cases.values() for bound in case["bind"].values() for phrase in bound]
    assert len(phrases) == 44
    for phrase in phrases:
        said = words(phrase)
        assert said and not FUNCTION_WORDS & set(said)
        # Of the words that are left out, none is longer than "something".
        assert all(len(word) <= 9 for word in set(stems(phrase).values()) - set(said))
    assert words("A beagle dog wearing a collar") == ["beagle", "dog", "wearing", "collar"]
    assert words("sits on dirt, nibbling on something while bathed in sunlight") == [
        "sits", "dirt", "nibbling", "bathed", "sunlight"
    ]  # fmt: skip
    assert words("at a bar, surrounded by a cityscape visible through a large window") == [
        "bar", "surrounded", "cityscape", "visible", "large", "window"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "forms",
    ["flaps flapping flapped", "raise raises raising raised", "mix mixes mixing", "sit sits sitting", "dress dresses",
     "eye eyes", "glide glides gliding", "dog Dogs dog's", "tree trees", "building buildings",
     "carry carries carried carrying", "fly flies flying", "baby babies", "butterfly butterflies", "movie movies",
     "tie ties"],
)  # fmt: skip
def test_inflections_of_a_word_count_as_the_same(forms):
    assert len({next(iter(stems(form))) for form in forms.split()}) == 1


@pytest.mark.parametrize(
    "two", ["red bed", "wing king", "cat car", "stand sand", "glass grass", "running ruins", "sky ski"]
)
def test_other_words_do_not(two):
    assert len(stems(two)) == 2


def test_characters_of_chinese_count_one_by_one():
    assert set(content_words("海滩")) <= set(stems("一只猫在海滩上跳")) and "狗" not in stems("一只猫")


def test_of_a_phrase_without_content_words_all_words_count():
    assert words("in it") == ["in", "it"]
