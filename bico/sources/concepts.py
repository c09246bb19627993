"""The VLM: what is in a source (concepts), and many sentences that say so (diversified captions).

BiCo's Diversify-and-Absorb Mechanism, the first half: a Qwen2.5-VL looks at the source and names its spatial and
temporal concepts as JSON; from that JSON and the media it writes captions that vary in everything but the concept
words, and say nothing more of how these look and move. Whole words are checked in every caption; a caption that lost
one is asked for again, and at last a template holds the words.

Every caption has a seed of its own, derived from (`settings.seed`, set, position, attempt): the random numbers of one
caption do not depend on which other captions are written beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bico.core.errors import InputError

if TYPE_CHECKING:
    import torch
    from transformers import BatchFeature

    from bico.config.schema import ConceptSettings, Config, KeyWords, Kind

Concepts = dict[str, list[str]]

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

MAX_FRAMES = 16  # frames of a clip that the VLM looks at, evenly spaced; Qwen itself looks at two a second
LONGEST = 60  # words of a caption; a VLM that was asked for 25 and goes on and on is not describing
# Bounds on memory, no answer depends on them: answers written at the same time, and what they look at in all (3.8 GB of
# keys and values in Qwen2.5-VL-7B).
MAX_ROWS = 32
MAX_TOKENS = 65_536


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


def caption_prompt(concepts: Concepts) -> str:
    """The request for one caption: for a video when there are temporal concepts, else for an image or a frame."""
    instruction = CAPTION["video" if "temporal" in concepts else "image"]
    return f"{instruction}\n{json.dumps(concepts, ensure_ascii=False)}"


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


def template(words: Sequence[str], position: int) -> str:
    listed = ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0]
    return TEMPLATES[position % len(TEMPLATES)].format(listed)


def caption_seed(seed: int, group: int, position: int, attempt: int) -> int:
    """One seed of 32 bits for one attempt at one caption."""
    return int(np.random.SeedSequence([seed, group, position, attempt]).generate_state(1)[0])


def spread(total: int, count: int) -> list[int]:
    """`count` positions evenly over `total` frames, the first and the last among them; all of them if fewer exist."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()


# --- asking ---------------------------------------------------------------------------------------------------------


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


def concepts_path(config: Config, source: str) -> Path:
    """Where the concepts and captions of a source stand."""
    return config.results / "concepts" / f"{source}.json"


def unnamed(config: Config) -> Iterator[tuple[str, str, str]]:
    """(case, source, word) of each bound word of which no caption of its source names even a part: little is learned
    under it. Sources without captions, which no row has learned, are left out."""
    for case_id, case in config.cases.items():
        for source, words in case.bind.items():
            path = concepts_path(config, source)
            if not path.exists():
                continue
            captions = json.loads(path.read_text(encoding="utf-8"))["captions"]
            named = set(re.findall(r"\w+", " ".join(captions).lower()))
            lost = (word for word in words if named.isdisjoint(re.findall(r"\w+", word.lower())))
            yield from ((case_id, source, word) for word in lost)


def extract(
    frames: np.ndarray,
    kind: Kind,
    settings: ConceptSettings,
    vlm: Writer,
    *,
    fps: float,
    key_words: KeyWords | None = None,
) -> dict[str, Any]:
    """Concepts and captions of one source, ready for `concepts_path`.

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


# --- the model ------------------------------------------------------------------------------------------------------


class Vlm:
    """A Qwen2.5-VL folder, opened once for any number of sources (the 7B model and the Toybox's small one alike)."""

    def __init__(self, folder: Path, *, device: str | None = None) -> None:
        import torch
        from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.float32 if self.device == "cpu" else torch.bfloat16
        self.processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        self.processor.tokenizer.padding_side = "left"
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=dtype, local_files_only=True)
        self.model = model.to(self.device).eval()

    def answer(
        self,
        media: Sequence[np.ndarray],
        prompt: str,
        seeds: Sequence[int | None],
        settings: ConceptSettings,
        fps: float,
    ) -> list[str]:
        """One answer for each seed (None: greedy decoding).

        Args:
            media: uint8 [T, H, W, 3] each; either one that all answers look at, or one for each seed. T = 1 is shown as
                an image, more frames as a video of which at most `MAX_FRAMES` are looked at.
        """
        text = self.chat(prompt, still=len(media[0]) == 1)
        first = self.inputs(media[:1], [text], fps)
        at_a_time = min(MAX_ROWS, max(1, MAX_TOKENS // first["input_ids"].shape[1]))
        answers = []
        for start in range(0, len(seeds), at_a_time):
            rows = slice(start, start + at_a_time)
            inputs = first if len(media) == 1 else self.inputs(media[rows], [text] * len(media[rows]), fps)
            answers += self._generate(inputs.to(self.device), seeds[rows], settings)
        return answers

    def chat(self, prompt: str, *, still: bool) -> str:
        """The prompt as the model expects it: after the image or video, in the chat template."""
        content = [{"type": "image" if still else "video"}, {"type": "text", "text": prompt}]
        return self.processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )

    def inputs(self, media: Sequence[np.ndarray], texts: list[str], fps: float) -> BatchFeature:
        """The processor's tensors for texts (see `chat`) about media that are all images or all videos."""
        from PIL import Image

        if len(media[0]) == 1:
            images = [Image.fromarray(frames[0]) for frames in media]
            return self.processor(text=texts, images=images, padding=True, return_tensors="pt")
        clips = [frames[spread(len(frames), MAX_FRAMES)] for frames in media]
        metadata = [
            {"total_num_frames": len(frames), "fps": fps, "frames_indices": spread(len(frames), MAX_FRAMES)}
            for frames in media
        ]
        return self.processor(
            text=texts, videos=clips, video_metadata=metadata, do_sample_frames=False, padding=True, return_tensors="pt"
        )

    def _generate(self, inputs: BatchFeature, seeds: Sequence[int | None], settings: ConceptSettings) -> list[str]:
        """Reads the media and the prompt once, then writes all answers from copies of that state."""
        import torch
        from transformers import DynamicCache, LogitsProcessorList

        cache = DynamicCache(config=self.model.config.get_text_config())
        prompt = {key: inputs[key] for key in ("input_ids", "attention_mask")}
        cut = {"mm_token_type_ids"} & inputs.keys() | prompt.keys()
        with torch.inference_mode():
            start = {key: value[:, :-1] if key in cut else value for key, value in inputs.items()}
            self.model(**start, past_key_values=cache, use_cache=True, logits_to_keep=1)
            copies = len(seeds) // len(prompt["input_ids"])
            cache.batch_repeat_interleave(copies)
            ids = self.model.generate(
                **{key: value.repeat_interleave(copies, dim=0) for key, value in prompt.items()},
                past_key_values=cache,
                logits_processor=LogitsProcessorList(_sampling(seeds, settings)),
                do_sample=False,
                max_new_tokens=settings.max_new_tokens,
            )
        written = ids[:, prompt["input_ids"].shape[1] :]
        return self.processor.batch_decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _sampling(seeds: Sequence[int | None], settings: ConceptSettings) -> list[Callable]:
    """Logits processors after which the largest logit is a sample: temperature, top-k, top-p, then Gumbel noise."""
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    if seeds[0] is None:
        return []
    return [
        TemperatureLogitsWarper(settings.temperature),
        TopKLogitsWarper(settings.top_k),
        TopPLogitsWarper(settings.top_p),
        _GumbelNoise(seeds),
    ]


class _GumbelNoise:
    """argmax(logits + Gumbel noise) is a draw from softmax(logits); each row draws from a generator of its own."""

    def __init__(self, seeds: Sequence[int]) -> None:
        import torch

        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        import torch

        uniform = torch.stack([torch.rand(scores.shape[-1], generator=g) for g in self.generators])
        left = torch.isfinite(scores).nonzero(as_tuple=True)  # the few tokens that are
        noise = -torch.log(-torch.log(uniform[tuple(each.cpu() for each in left)].clamp(1e-20, 1 - 1e-7)))
        return scores.index_put(left, noise.to(scores), accumulate=True)
