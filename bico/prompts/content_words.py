"""The content words of a text: all words except function words. Inflections of a word count as the same."""

from __future__ import annotations

import re

from bico.prompts.text import UNSPACED

DETERMINERS = "a an the this that these those some any each every another both all no not such"
PRONOUNS = (
    "i me my mine you your yours he him himself his she her herself hers it its itself we us our ours they them "
    "themselves their theirs who whom whose which what something someone"
)
CONJUNCTIONS = "and or but nor so yet if as than while when where because before after until since though although"
PREPOSITIONS = (
    "of in on at by for from to into onto with without within over under above below behind beside between through "
    "across along around against about toward towards upon off out up down near during like via per amid among inside "
    "outside"
)
AUXILIARIES = (
    "am is are was were be been being do does did doing have has had having can could will would shall should may "
    "might must"
)
ADVERBS = "there here then very too also just only"
ENDINGS = "s t"  # the endings of "dog's" and "isn't"
FUNCTION_WORDS = frozenset(
    " ".join((DETERMINERS, PRONOUNS, CONJUNCTIONS, PREPOSITIONS, AUXILIARIES, ADVERBS, ENDINGS)).split()
)


def stems(text: str) -> dict[str, str]:
    """Stem -> word, in lower case, for each word of a text in order; in Chinese and Japanese for each character."""
    return {_stem(word): word for word in re.findall(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+", text.lower())}


def content_words(phrase: str) -> dict[str, str]:
    """The same for only the content words; for all words if a phrase has no content words."""
    words = stems(phrase)
    return {stem: word for stem, word in words.items() if word not in FUNCTION_WORDS} or words


def _stem(word: str) -> str:
    """An English word without -s, -es, -ed or -ing: "rais" for "raises", "raise" and "raising", "carry" for "carries",
    "carried" and "carrying".

    It uses no dictionary: "held" and "hold" have different stems.
    """
    word = re.sub(r"(?<=..)ie[sd]?$", "y", word)  # "movie", too, which is like "movies"
    for endings in (("es", "s"), ("ing", "ed")):
        ending = next((each for each in endings if word.endswith(each) and len(word) >= len(each) + 3), "")
        word = word.removesuffix(ending)
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word.rstrip("e") or word
