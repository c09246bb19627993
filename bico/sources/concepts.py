"""The concepts of a source, and many sentences that say so (diversified captions).

BiCo's Diversify-and-Absorb Mechanism, the first half: a VLM looks at the source and names its spatial and temporal
concepts as JSON; from that JSON and the media it writes captions that vary in everything but the concept words, and say
nothing more of how these look and move. Whole words are checked in every caption; a caption that lost one is asked for
again, and at last a template holds the words.

Every caption has a seed of its own, derived from (`settings.seed`, set, position, attempt): the random numbers of one
caption do not depend on which other captions are written beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bico.core.errors import InputError
from bico.media.frames import spread
from bico.sources.instructions import CONCEPTS, Concepts, caption_prompt, template

if TYPE_CHECKING:
    from bico.config.benchmark import KeyWords, Kind
    from bico.config.settings import ConceptSettings

LONGEST = 60  # words of a caption; a VLM that was asked for 25 and goes on and on is not describing


class Writer(Protocol):
    """What `extract` needs of a VLM: one answer for each seed."""

    def answer(
        self,
        media: Sequence[np.ndarray],
        prompt: str,
        seeds: Sequence[int | None],
        settings: ConceptSettings,
        fps: float,
    ) -> list[str]: ...


def parse_concepts(text: str, kind: Kind) -> Concepts | None:
    """The concepts in an answer, also from inside a code fence; None when it is not the JSON that was asked for.

    Needed: lists of words, "spatial" for an image, "spatial" and "temporal" for a video. Only "temporal" may be empty:
    a clip can stand still.
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
    """Whether every word stands in the caption verbatim, as whole words; upper and lower case count as the same."""
    return all(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", caption, re.IGNORECASE) for word in words)


def caption_seed(seed: int, group: int, position: int, attempt: int) -> int:
    """One seed of 32 bits for one attempt at one caption."""
    return int(np.random.SeedSequence([seed, group, position, attempt]).generate_state(1)[0])


@dataclass
class Interview:
    """Questions about one source, and counts of how they were answered."""

    vlm: Writer
    settings: ConceptSettings
    fps: float
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("asked", "rejected", "template", "invalid_json"), 0)
    )

    def concepts(self, frames: np.ndarray, kind: Kind) -> Concepts:
        """By greedy decoding; after an invalid answer with a seed, as greedy decoding would repeat itself."""
        text = ""
        for attempt in range(self.settings.attempts):
            seed = caption_seed(self.settings.seed, 0, 0, attempt) if attempt else None
            text = self.vlm.answer([frames], CONCEPTS[kind], [seed], self.settings, self.fps)[0]
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

        Captions that lose a word, or find no end, are asked for again, `attempts` times in all, and then come from a
        template. `group` keeps the seeds of different sets of captions apart.
        """
        words = [word for entries in concepts.values() for word in entries]
        captions = [template(words, position) for position in range(number)]
        missing = list(range(number))
        for attempt in range(self.settings.attempts):
            looks = media if len(media) == 1 else [media[position] for position in missing]
            seeds = [caption_seed(self.settings.seed, group, position, attempt) for position in missing]
            answers = self.vlm.answer(looks, caption_prompt(concepts), seeds, self.settings, self.fps)
            texts = dict(zip(missing, map(_sentence, answers), strict=True))
            good = {p: text for p, text in texts.items() if holds(text, words) and len(text.split()) <= LONGEST}
            for position, text in good.items():
                captions[position] = text
            self.counts["asked"] += len(missing)
            self.counts["rejected"] += len(missing) - len(good)
            missing = [position for position in missing if position not in good]
            if not missing:
                break
        self.counts["template"] += len(missing)
        return captions


def _sentence(text: str) -> str:
    """An answer on one line, without the quotes that some models put around it."""
    return " ".join(text.split()).strip("\"'` ")


def extract(
    frames: np.ndarray,
    kind: Kind,
    settings: ConceptSettings,
    vlm: Writer,
    *,
    fps: float,
    key_words: KeyWords | None = None,
) -> dict[str, Any]:
    """Concepts and captions of one source, ready for the file of its concepts.

    Args:
        frames: uint8 [T, H, W, 3]; T = 1 for an image.
        fps: frames per second of `frames`.
        key_words: concepts given by hand; only captions are asked for then.

    Returns:
        {"kind", "spatial", "temporal", "captions" [N], "frame_captions" [F], "frame_indices" [F], "counts"}; for an
        image "temporal" and the frame lists are empty. Counts: captions asked for, rejected (a word was missing),
        taken from a template, distinct ones among all captions, and answers of concepts that were no valid JSON.

    Raises:
        InputError: no valid JSON after `settings.attempts` answers.
    """
    interview = Interview(vlm, settings, fps)
    if key_words is None:
        concepts = interview.concepts(frames, kind)
    else:
        concepts = {key: list(getattr(key_words, key)) for key in keys(kind)}
    indices = spread(len(frames), settings.frame_captions or len(frames)) if kind == "video" else []
    captions = interview.captions([frames], concepts, settings.captions, group=1)
    frame_captions = []
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
    }
