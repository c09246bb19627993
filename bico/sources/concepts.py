"""The concepts of a source, and many sentences that contain them (diversified captions).

This is the first half of BiCo's Diversify-and-Absorb Mechanism. A VLM names the spatial and temporal concepts of the
source as JSON. From that JSON and the media it writes captions that vary in everything except the concept words. Every
caption is checked for these as whole words. A caption that lacks one is requested again, and after the last attempt a
template replaces it.

Every caption has its own seed, derived from (`settings.seed`, set, position, attempt), so its random numbers do not
depend on the other captions of a batch.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bico.core.errors import InputError
from bico.media.frames import spread
from bico.prompts.text import clean, whole
from bico.sources.instructions import INSTRUCTIONS, Concepts, Instructions, template

if TYPE_CHECKING:
    from bico.config.benchmark import KeyWords, Kind
    from bico.config.settings import ConceptSettings


log = logging.getLogger("bico")


class Writer(Protocol):
    """The interface of a VLM that `extract` needs: one answer for each seed."""

    def answer(
        self,
        media: Sequence[np.ndarray],
        prompt: str,
        seeds: Sequence[int | None],
        settings: ConceptSettings,
        fps: float,
        system: str | None = None,
    ) -> list[str]: ...


def parse_concepts(text: str, kind: Kind) -> Concepts | None:
    """The concepts in an answer, also within a code fence; None if it is not the requested JSON.

    It must have lists of words: "spatial" for an image, "spatial" and "temporal" for a video. Only "temporal" may be
    empty, because a clip can be still.
    """
    try:
        found, _ = json.JSONDecoder().raw_decode(text[text.index("{") :])
        concepts = {key: [" ".join(word.split()) for word in found[key]] for key in keys(kind)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    lists = all(isinstance(found[key], list) and all(words) for key, words in concepts.items())
    if not lists or not concepts["spatial"]:
        return None
    return {key: list(dict.fromkeys(words)) for key, words in concepts.items()}


def keys(kind: Kind) -> tuple[str, ...]:
    return ("spatial", "temporal") if kind == "video" else ("spatial",)


def holds(caption: str, words: Iterable[str]) -> bool:
    """Whether the caption contains every word verbatim, as whole words; upper and lower case count as the same.

    Both are compared as the text encoder reads them, so kinds of apostrophes and of umlauts count as the same.
    """
    read = clean(caption)
    return all(re.search(whole(clean(word)), read, re.IGNORECASE) for word in words)


MARKER = re.compile(r"(?:(?:[-*•]|\d+[.)])\s+)?(?:\**caption(?: \d+)?\**:\**\s*)?", re.IGNORECASE)
"""A bullet or a number, and a label, before a caption: "- ", "2. ", "Caption: ", "**Caption 3:** "."""
INTRODUCTION = re.compile(r"(?:here|sure|certainly|of course)\b[^:]*:", re.IGNORECASE)
"""An introduction, as in "Here is a caption: ..."."""
QUOTED = re.compile(r"""(["'])((?:(?!\1).|(?<=\w)\1(?=\w))+)\1|“([^“”]+)”""", re.DOTALL)
"""A text within one pair of quotes: "'A dog's ball'" matches, "'Open' and 'closed'" does not."""


def parse_caption(text: str) -> str | None:
    """The caption in an answer, on one line, without the bullet, number, label or quotes that some models put there.

    None if the answer has several lines or an introduction, because then one could only guess which part is the
    caption.
    """
    text = _unquoted(text.strip("` \n"))
    if len([line for line in text.splitlines() if line.strip()]) > 1 or INTRODUCTION.match(text):
        return None
    return " ".join(_unquoted(MARKER.sub("", text, count=1)).split())


def _unquoted(text: str) -> str:
    found = QUOTED.fullmatch(text)
    return (found[2] or found[3]).strip() if found else text


def caption_seed(seed: int, group: int, position: int, attempt: int) -> int:
    """One seed of 32 bits for one attempt at one caption."""
    return int(np.random.SeedSequence([seed, group, position, attempt]).generate_state(1)[0])


@dataclass
class Interview:
    """Questions about one source, and counts of the answers."""

    vlm: Writer
    settings: ConceptSettings
    fps: float
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("asked", "rejected", "template", "invalid_json"), 0)
    )

    @property
    def instructions(self) -> Instructions:
        return INSTRUCTIONS[self.settings.instructions]

    def concepts(self, frames: np.ndarray, kind: Kind) -> Concepts:
        """The concepts by greedy decoding. After an invalid answer they are sampled, because greedy decoding would
        repeat it."""
        text = ""
        for attempt in range(self.settings.attempts):
            seed = caption_seed(self.settings.seed, 0, 0, attempt) if attempt else None
            text = self._answers([frames], self.instructions.concepts[kind], [seed])[0]
            if (concepts := parse_concepts(text, kind)) is not None:
                return concepts
            self.counts["invalid_json"] += 1
        raise InputError(
            f"no valid JSON of concepts from the VLM in {self.settings.attempts} attempts (the last: {text[:80]!r}): "
            f"expected lists of words under {' and '.join(keys(kind))}; name the words yourself under the source's "
            "'concepts'"
        )

    def captions(self, media: Sequence[np.ndarray], concepts: Concepts, number: int, group: int) -> list[str]:
        """`number` captions that hold all words of `concepts`, about the one or the `number` entries of `media`.

        Captions that lack a word, do not end, or come with other text are requested again, up to `attempts` times in
        all; then a template replaces them. `group` gives different sets of captions different seeds.
        """
        words = [word for entries in concepts.values() for word in entries]
        captions = [template(words, position) for position in range(number)]
        missing = list(range(number))
        for attempt in range(self.settings.attempts):
            looks = media if len(media) == 1 else [media[position] for position in missing]
            seeds = [caption_seed(self.settings.seed, group, position, attempt) for position in missing]
            answers = self._answers(looks, self.instructions.caption_prompt(concepts), seeds)
            texts = dict(zip(missing, map(parse_caption, answers), strict=True))
            good = {position: text for position, text in texts.items() if text and self._accepts(text, words)}
            for position, text in good.items():
                captions[position] = text
            self.counts["asked"] += len(missing)
            self.counts["rejected"] += len(missing) - len(good)
            missing = [position for position in missing if position not in good]
            if not missing:
                break
        self.counts["template"] += len(missing)
        return captions

    def _accepts(self, caption: str, words: Sequence[str]) -> bool:
        return holds(caption, words) and len(caption.split()) <= self.instructions.longest

    def _answers(self, media: Sequence[np.ndarray], prompt: str, seeds: Sequence[int | None]) -> list[str]:
        return self.vlm.answer(media, prompt, seeds, self.settings, self.fps, self.instructions.system)


def extract(
    frames: np.ndarray,
    kind: Kind,
    settings: ConceptSettings,
    vlm: Writer,
    *,
    fps: float,
    key_words: KeyWords | None = None,
    others: Sequence[np.ndarray] = (),
) -> dict[str, Any]:
    """Concepts and captions of one source, ready for the file of its concepts.

    Args:
        frames: uint8 [T, H, W, 3] of any size; T = 1 for an image, else the frames that training reads.
        fps: frames per second of `frames`.
        key_words: concepts given by hand. The VLM names the others. If none are left, it is only asked for captions.
        others: further photographs of the same subject, uint8 [1, H, W, 3] each. For key words see `agreed`. Captions
            are divided among all photographs; each gets at least one.

    Returns:
        {"kind", "spatial", "temporal", "captions" [N], "frame_captions" [F], "frame_indices" [F], "counts"}; for an
        image "temporal" and the frame lists are empty. Counts: captions that were requested, rejected (a word or the
        end was missing, or there was other text), or taken from a template; distinct captions; and answers with invalid
        JSON of concepts. With several photographs also "caption_photos" [N], the number from 0 of the photograph that
        each caption describes.

    Raises:
        InputError: no valid JSON after `settings.attempts` answers.
    """
    interview = Interview(vlm, settings, fps)
    given = key_words.model_dump(exclude_none=True) if key_words else {}
    photos = [frames, *others]
    all_given = given.keys() >= set(keys(kind))
    named = given if all_given else agreed([interview.concepts(photo, kind) for photo in photos]) | given
    concepts = {key: named[key] for key in keys(kind)}
    indices = spread(len(frames), settings.frame_captions or len(frames)) if kind == "video" else []
    caption_photos = sorted(number % len(photos) for number in range(max(settings.captions, len(photos))))
    captions, frame_captions = [], []
    for number, photo in enumerate(photos):
        group = 1 + number + (number > 0)  # group 2 belongs to frames
        captions += interview.captions([photo], concepts, caption_photos.count(number), group)
    if indices:
        stills, spatial = [frames[index][None] for index in indices], {"spatial": concepts["spatial"]}
        frame_captions = interview.captions(stills, spatial, len(indices), group=2)
    return {
        "kind": kind,
        "spatial": concepts["spatial"],
        "temporal": concepts.get("temporal", []),
        "captions": captions,
        "frame_captions": frame_captions,
        "frame_indices": indices,
        "counts": {**interview.counts, "distinct": len(set(captions + frame_captions))},
        **({"caption_photos": caption_photos} if others else {}),
    }


def agreed(found: Sequence[Concepts]) -> Concepts:
    """The concepts of a source with several photographs: the words that are found in more than half of them.

    If there is no such word, it is those of the first photograph. Upper and lower case count as the same.
    """
    if len(found) == 1:
        return found[0]
    words, times = {}, Counter()
    for concepts in found:
        spelled = {word.casefold(): word for word in concepts["spatial"]}
        words = words | spelled | words  # in the order, and the spelling, of the first photograph that has them
        times.update(spelled.keys())
    shared = [word for key, word in words.items() if times[key] > len(found) / 2]
    counts = ", ".join(f"{word} ({times[key]})" for key, word in words.items())
    log.info("key words of %d photographs, with the number of photographs: %s", len(found), counts)
    if not shared:
        log.warning("notice: no key word is found in more than half of the photographs: those of the first are used")
    return {"spatial": shared or found[0]["spatial"]}
