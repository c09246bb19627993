"""The exact instructions and questions to the VLM, and the templates that replace captions.

There are two sets of instructions. `paper` asks what the authors ask, in words of our own: a list of any number of
brief concepts, then captions of one complete and expressive but concise sentence, each with examples. `short` asks for
few words and short captions, for the Toybox's VLM. Its texts are single tokens of that model, so an edited text needs a
new training of the VLM.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bico.config.benchmark import Kind

Concepts = dict[str, list[str]]
"""Words under "spatial" and, for a video, "temporal"."""


@dataclass(frozen=True)
class Instructions:
    """Instructions to a VLM about an image or a video, and the length that an answer may have.

    Attributes:
        concepts: the request for key concepts.
        caption: the request for one caption, up to the key concepts.
        longest: number of words of the longest caption that is accepted.
        system: the system prompt before either request; None = that of the chat template.
    """

    concepts: Mapping[Kind, str]
    caption: Mapping[Kind, str]
    longest: int
    system: str | None = None

    def caption_prompt(self, concepts: Concepts) -> str:
        """The request for one caption: of a video if there are temporal concepts, otherwise of an image or a frame."""
        request = self.caption["video" if "temporal" in concepts else "image"]
        return f"{request}\n{json.dumps(concepts, ensure_ascii=False)}"


SHORT = Instructions(
    concepts={
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
    },
    # If a caption named a look, the word of the concept would not have to learn it.
    caption={
        "image": (
            "Describe this image in one sentence of at most 25 words. Choose your own wording and order, but use each "
            "of these concepts exactly as it is written, and leave all other colours, patterns and sizes unsaid:"
        ),
        "video": (
            "Describe this video and what moves in it in one sentence of at most 25 words. Choose your own wording and "
            "order, but use each of these concepts exactly as it is written, and leave all other colours, patterns, "
            "sizes and ways of moving unsaid:"
        ),
    },
    longest=60,  # a VLM that was asked for 25 words and writes many more is not describing
)

PAPER = Instructions(
    system=(
        "You prepare training data for a text-to-video model. You look closely, name what is there in few and concrete "
        "words, and answer with nothing but what you were asked for, in the form that you were asked for."
    ),
    concepts={
        "image": (
            "Name the visual concepts that make up this image: objects and beings, colours, style and light. Each "
            "concept is one concrete word or a short phrase. Keep the list short and exact, and leave out vague words "
            'that fit any picture, such as "background". The main object comes first. Answer with JSON only, in the '
            'form {"spatial": ["...", "..."]}.\n'
            "An example, for a photograph of a bicycle at a door:\n"
            '{"spatial": ["old bicycle", "wicker basket", "blue door", "cobblestones", "photograph", '
            '"soft morning light"]}'
        ),
        "video": (
            "Name the concepts that make up this video. Spatial ones say how it looks: objects and beings, colours, "
            "style and light. Temporal ones say what changes: motion and its speed, transitions, and changes of "
            "viewpoint. Each concept is one concrete word or a short phrase. Keep both lists short and exact, and "
            'leave out vague words that fit any video, such as "background". The main object comes first. Answer with '
            'JSON only, in the form {"spatial": ["...", "..."], "temporal": ["...", "..."]}.\n'
            "An example, for a clip of a kite over a shore:\n"
            '{"spatial": ["red kite", "long tail", "beach", "evening light"], '
            '"temporal": ["soaring", "slow pan"]}'
        ),
    },
    # The examples are in one paragraph, because the VLM would answer a list of them with a list.
    caption={
        "image": (
            "Describe this image in one sentence: complete and expressive, but concise, and true to what is seen. Use "
            "each of the key concepts below exactly as it is written, letter for letter. All else is yours to vary: "
            "the order, the verbs, the rhythm, the point of view. Answer with that one sentence alone.\n"
            "Of another image, the key concepts were "
            '{"spatial": ["old bicycle", "blue door", "cobblestones", "soft morning light"]}. '
            'One good answer was "An old bicycle leans against a blue door, and its shadow lies long on the '
            'cobblestones in soft morning light." Another one was "In soft morning light, the cobblestones lead up to '
            'a blue door where an old bicycle waits for its rider." A third one was "Beside a blue door whose paint is '
            'peeling, an old bicycle rests on worn cobblestones in soft morning light."\n'
            "The key concepts of this image:"
        ),
        "video": (
            "Describe this video and what moves in it in one sentence: complete and expressive, but concise, and true "
            "to what is seen. Use each of the key concepts below exactly as it is written, letter for letter. All else "
            "is yours to vary: the order, the verbs, the rhythm, the point of view. Answer with that one sentence "
            "alone.\n"
            "Of another video, the key concepts were "
            '{"spatial": ["red kite", "beach", "evening light"], "temporal": ["soaring", "slow pan"]}. '
            'One good answer was "A red kite is soaring over a wide beach while a slow pan follows it through the '
            'evening light." Another one was "In a slow pan along the beach, the camera stays with a red kite that is '
            'soaring ever higher into the evening light." A third one was "Evening light spreads over an empty beach, '
            'and a slow pan discovers a red kite soaring against the wind."\n'
            "The key concepts of this video:"
        ),
    },
    longest=150,  # about 220 tokens of the 512 text slots; the list of concepts may have any length
)

INSTRUCTIONS = {"paper": PAPER, "short": SHORT}


def question_about(phrase: str, still: bool) -> str:
    """The question of VQAScore (Lin et al. 2024, https://arxiv.org/abs/2404.01291): whether an image or a video shows
    what the phrase says. An edited question needs a new training of the Toybox's judge.
    """
    return f'Does this {"image" if still else "video"} show "{phrase}"? Please answer yes or no.'


# Templates that replace a caption which lacked a word in every attempt.
TEMPLATES = ("a picture of {}", "{}, seen together", "this shows {}", "a view with {}")


def template(words: Sequence[str], position: int) -> str:
    """A caption that contains the words. The templates are used in turn by position."""
    listed = ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0]
    return TEMPLATES[position % len(TEMPLATES)].format(listed)
