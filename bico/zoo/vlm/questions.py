"""The training of the Toybox's judge: a VLM that answers whether an image or a clip shows what a phrase says.

    python -m bico.zoo vqa FOLDER     five minutes on one core, and as long to render its scenes

It fine-tunes a trained VLM, whose vision tower does not change. Half of the questions have the answer yes. A false
phrase takes its wrong word from another scene. So each word occurs about equally often with either answer, and a guess
is right half the time. The parts of the question and both answers become tokens of the vocabulary, which keeps prompts
short. An edited question needs a new training; a test fails until then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import cast

import numpy as np
import torch
from tokenizers import AddedToken

from bico.core.fingerprints import folder_digest
from bico.models.vlm import Vlm
from bico.sources.instructions import question_about
from bico.toybox.captions import LIGHT_PHRASES, PLACES, STYLE_PHRASES, key_words
from bico.toybox.words import LIGHTS, MOTIONS, SCENES, STYLES, SUBJECTS
from bico.toybox.world import NUM_FRAMES, Scene, sample_training_scene
from bico.zoo.checkpoints import own_folder
from bico.zoo.vlm.answers import Course, Lesson, draw_media, opened, tokens, train_scene
from bico.zoo.vlm.train import teach

QUESTIONS = 8  # about each frame and clip; half of them have the answer yes
STILL_SHARE = 0.15  # share of clips in which nothing moves
LENGTHS = {1: 0.6, 2: 0.25, 5: 0.15}  # most words of a phrase: share of the phrases
BARE_SHARE = 0.67  # share of single words without article or preposition, whose tokens the VLM has rarely seen


def train(
    out: Path,
    *,
    workdir: Path,
    start: Path = Path("data/toybox/zoo/vlm"),
    seed: int = 0,
    steps: int | None = None,
) -> None:
    """Saves the folder `out`; resumes from the checkpoint in `workdir`.

    Args:
        start: folder of the trained VLM that learns to answer yes or no.
        steps: by default those for the device.
    """
    own = own_folder(workdir, {"start": folder_digest(start), "seed": seed})
    if not (own / "vlm" / "config.json").exists():
        with_questions(start, own / "vlm", seed)
    teach(own, out, COURSE, seed=seed, sight_steps=0, steps=steps)


def with_questions(start: Path, folder: Path, seed: int) -> None:
    """Saves a copy of a VLM whose tokenizer has tokens for the parts of a question and for the answers.

    A word after a quotation mark is another token than after a space. It starts with the embedding of the latter, which
    the VLM knows from captions; without this most subjects in quotation marks are not learned in this time.
    """
    vlm = Vlm(start, device="cpu")
    parts = [part for still in (True, False) for part in question_about("\0", still).split("\0")]
    answers = [AddedToken(answer, single_word=True) for answer in ("yes", "no")]
    vlm.processor.tokenizer.add_tokens([*dict.fromkeys(parts), *answers])
    torch.manual_seed(seed)
    vlm.model.resize_token_embeddings(len(vlm.processor.tokenizer), mean_resizing=False)
    words = SUBJECTS + SCENES + MOTIONS + STYLES + LIGHTS
    both = [vlm.processor.tokenizer([word, f" {word}"])["input_ids"] for word in words]
    embeddings = cast("torch.Tensor", vlm.model.get_input_embeddings().weight).data
    for quoted, spaced in both:
        if len(quoted) == len(spaced) == 1:
            embeddings[quoted] = embeddings[spaced]
    vlm.model.save_pretrained(folder)
    vlm.processor.save_pretrained(folder)


def examples(scene: Scene, rng: np.random.Generator, *, still: bool) -> list[tuple[str, str]]:
    """Questions about an image or a clip of a scene, in which nothing may move, each with its answer."""
    kinds = ((true_phrase, "yes"), (false_phrase, "no")) * (QUESTIONS // 2)
    return [(question_about(say(scene, rng), still=still), answer) for say, answer in kinds]


def true_phrase(scene: Scene, rng: np.random.Generator) -> str:
    """A phrase that a scene shows."""
    own = _words(scene, rng)
    return phrase({role: own[role] for role in _roles(own, rng)}, rng)


def false_phrase(scene: Scene, rng: np.random.Generator) -> str:
    """A phrase with at least one word that a scene lacks. The word is from another scene; each of the other words is
    from either scene.
    """
    own, shown = _words(scene, rng), {word for group in key_words(scene).values() for word in group}
    while True:
        other = _words(sample_training_scene(rng), rng)
        roles = _roles(other, rng)
        if lacking := [role for role in roles if other[role] not in shown]:
            kept = {role: own[role] for role in roles if role in own and rng.random() < 0.5}
            wrong = str(rng.choice(lacking))
            return phrase({role: other[role] for role in roles} | kept | {wrong: other[wrong]}, rng)


def phrase(words: Mapping[str, str], rng: np.random.Generator) -> str:
    """These words (role -> word) as cases bind them, or as a prompt says them."""
    if len(words) == 1 and rng.random() < BARE_SHARE:
        return next(iter(words.values()))
    said = {
        "style": lambda word: STYLE_PHRASES[word][0] if len(words) > 1 else STYLE_PHRASES[word][0].removesuffix(" of"),
        "subject": lambda word: f"a {word}",
        "motion": str,
        "scene": lambda word: str(rng.choice(PLACES[word])),
        "light": lambda word: str(rng.choice(LIGHT_PHRASES[word])),
    }
    return " ".join(say(words[role]) for role, say in said.items() if role in words)


def _words(scene: Scene, rng: np.random.Generator) -> dict[str, str]:
    """role -> word, of one of the subjects of a scene."""
    return replace(scene, actors=(scene.actors[rng.integers(len(scene.actors))],)).words()


def _roles(words: Mapping[str, str], rng: np.random.Generator) -> list[str]:
    """The roles that a phrase names."""
    most = rng.choice(list(LENGTHS), p=list(LENGTHS.values()))
    return rng.choice(list(words), size=min(most, len(words)), replace=False).tolist()


def lesson(folder: Path, count: int, size: int, seed: int, step: int) -> Lesson:
    """The batch of a step, from `count` training scenes; `folder` holds the tokenizer."""
    frames, times, clips, rng = draw_media(count, size, seed, step)
    moves = rng.random(len(clips)) >= STILL_SHARE
    clip_times = np.where(moves[:, None], np.arange(NUM_FRAMES), rng.integers(NUM_FRAMES, size=(len(clips), 1)))

    def about(shown: Iterable[Scene], still: bool) -> np.ndarray:
        asked = chain.from_iterable(examples(scene, rng, still=still) for scene in shown)
        return tokens(opened(folder), list(asked), still=still)

    images = [train_scene(i).still() for i in frames.tolist()]
    films = [train_scene(i) if m else train_scene(i).still() for i, m in zip(clips.tolist(), moves, strict=True)]
    return Lesson(frames, times, about(images, still=True), clips, clip_times, about(films, still=False))


COURSE = Course(
    {"cpu": 6_000, "cuda": 60_000},
    {"cpu": 16, "cuda": 256},
    {"cpu": 500, "cuda": 500},
    sight_kept=1.0,
    peak=1.0,
    write=lesson,
)
