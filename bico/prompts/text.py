"""Cleans a prompt as Wan's text encoder does, finds words in it, and spells an answer."""

import html
import re

import ftfy

UNSPACED = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Characters of Chinese and Japanese, which have no spaces between words, for the brackets of a pattern."""


def clean(text: str) -> str:
    """The text as Wan's text encoder reads it: mojibake repaired, HTML entities resolved, single spaces."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split())


def whole(phrase: str) -> str:
    """A pattern that finds a phrase as whole words: next to an edge that is a letter or digit there is no other one.

    In Chinese and Japanese words can end anywhere, so "猫" is found in "一只猫在跑".
    """
    edge = rf"[^\W{UNSPACED}]"
    before = rf"(?<!{edge})" if re.match(edge, phrase) else ""
    after = rf"(?!{edge})" if re.search(rf"{edge}\Z", phrase) else ""
    return before + re.escape(phrase) + after


def has_word(text: str) -> bool:
    """Whether a text has a letter or a digit, so that it is more than punctuation."""
    return bool(re.search(r"[^\W_]", text))


def casings(word: str) -> list[str]:
    """A word in lower case, with a capital, and in capitals: how a VLM may begin an answer."""
    return [word, word.capitalize(), word.upper()]
