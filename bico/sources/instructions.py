"""What the VLM is asked, word for word, and the templates that stand in for its captions.

The instructions are single tokens of the Toybox's VLM: one that is edited needs a new training of that model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bico.config.benchmark import Kind

Concepts = dict[str, list[str]]
"""Words under "spatial" and, for a video, "temporal"."""

CONCEPTS: dict[Kind, str] = {
    "image": (
        "Name the visual concepts of this image: objects, colours, style and lighting. "
        'Answer with JSON only, in the form {"spatial": ["...", "..."]}: at most four concepts, '
        "each a concrete word or two, the main object first."
    ),
    "video": (
        "Name the concepts of this video: spatial ones (objects, colours, style, lighting) and temporal ones "
        "(motion, speed, transitions, change of viewpoint). "
        'Answer with JSON only, in the form {"spatial": ["...", "..."], "temporal": ["..."]}: at most four spatial '
        "and two temporal concepts, each a concrete word or two, the main object first."
    ),
}
# A look that a caption names is one that the concept's own word need not carry.
CAPTION: dict[Kind, str] = {
    "image": (
        "Describe this image in one sentence of at most 25 words. Choose your own wording and order, but use each of "
        "these concepts exactly as it is written, and leave all other colours, patterns and sizes unsaid:"
    ),
    "video": (
        "Describe this video and what moves in it in one sentence of at most 25 words. Choose your own wording and "
        "order, but use each of these concepts exactly as it is written, and leave all other colours, patterns, sizes "
        "and ways of moving unsaid:"
    ),
}

# What stands in for a caption that lost its words in every attempt.
TEMPLATES = ("a picture of {}", "{}, seen together", "this shows {}", "a view with {}")


def caption_prompt(concepts: Concepts) -> str:
    """The request for one caption: for a video when there are temporal concepts, else for an image or a frame."""
    instruction = CAPTION["video" if "temporal" in concepts else "image"]
    return f"{instruction}\n{json.dumps(concepts, ensure_ascii=False)}"


def template(words: Sequence[str], position: int) -> str:
    """A caption that holds the words: positions take the templates in turn."""
    listed = ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0]
    return TEMPLATES[position % len(TEMPLATES)].format(listed)
