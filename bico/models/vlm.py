"""A Qwen2.5-VL that answers prompts about images and videos, or says how probable the answer "yes" is.

Every answer has its own seed, so its random numbers do not depend on other answers of the same batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoProcessor,
    BatchFeature,
    DynamicCache,
    LogitsProcessorList,
    Qwen2_5_VLForConditionalGeneration,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from bico.config.settings import ConceptSettings, Look
from bico.core.errors import InputError
from bico.media.frames import every, spread
from bico.models.wan.components import moved
from bico.models.weights import one_line, open_whole
from bico.prompts.text import casings

# What the VLM sees. A vision token shows 28 x 28 pixels of a picture, or of two frames of a video.
ENCODED_FRAMES = 16  # most frames of a clip, evenly spaced, if `look` is "encoded"
ORIGINAL_FPS = 4.0  # frames per second of a clip, if `look` is "original"; as in the authors' code
TOKENS = (256, 1280)  # fewest and most tokens of a picture, or of two frames, there; as in the authors' code
CLIP_TOKENS = 16_384  # most tokens of a whole clip: more than 24 frames of full size are scaled down

# Bounds on memory; no answer depends on them. A GPU of 24 GB (25.8e9 bytes) has to hold Qwen2.5-VL-7B, 16.6 GB in
# bfloat16, and 57 kB of keys and values for each token (28 layers, 4 heads of 128). Reading takes most besides: 165 kB
# for each token, most of it three activations of 18,944 numbers in the language model's MLP (114 kB), four of 3,584
# numbers around it (29 kB), and the pixels in float32 (19 kB). The vision tower, which is through by then, takes less.
MAX_ROWS = 32  # answers that are generated at the same time
HELD_TOKENS = 65_536  # tokens in all copies of the clip or picture of a batch of answers: 3.8 GB of keys and values
READ_TOKENS = 24_576  # tokens of pictures that are read at the same time: 4.1 GB, and 1.4 GB of keys and values


class Vlm:
    """A Qwen2.5-VL folder, opened once for any number of sources (the 7B model or the Toybox's small one).

    Raises InputError, one line, if the folder is incomplete.
    """

    def __init__(self, folder: Path, *, device: str | None = None) -> None:
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.float32 if self.device == "cpu" else torch.bfloat16
        with one_line(folder):
            self.processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        self.processor.tokenizer.padding_side = "left"
        options = {"dtype": dtype, "local_files_only": True, "ignore_mismatched_sizes": True}
        model = open_whole(Qwen2_5_VLForConditionalGeneration.from_pretrained, folder, **options)
        self.model: Qwen2_5_VLForConditionalGeneration = moved(model, self.device).eval()

    def answer(
        self,
        media: Sequence[np.ndarray],
        prompt: str,
        seeds: Sequence[int | None],
        settings: ConceptSettings,
        fps: float,
        system: str | None = None,
    ) -> list[str]:
        """One answer for each seed (None: greedy decoding).

        Args:
            media: uint8 [T, H, W, 3] each; either one for all answers, or one for each seed. T = 1 is shown as an
                image. More frames are shown as a video, of which some frames are used (`settings.look`).
            fps: frames per second of a video.
            system: the system prompt; None = that of the chat template.
        """
        text = self.chat(prompt, still=len(media[0]) == 1, system=system)
        first = self.inputs(media[:1], [text], fps, settings.look)
        bound = HELD_TOKENS if len(media) == 1 else READ_TOKENS
        at_a_time = min(MAX_ROWS, max(1, bound // first["input_ids"].shape[1]))
        answers = []
        for start in range(0, len(seeds), at_a_time):
            rows = slice(start, start + at_a_time)
            inputs = (
                first if len(media) == 1 else self.inputs(media[rows], [text] * len(media[rows]), fps, settings.look)
            )
            answers += self._generate(inputs.to(self.device), seeds[rows], settings)
        return answers

    def yes(self, media: Sequence[np.ndarray], questions: Sequence[str], fps: float, look: Look) -> list[float]:
        """The probability in 0..1 that an answer begins with "yes", given that it begins with "yes" or "no".

        This is VQAScore (Lin et al. 2024, https://arxiv.org/abs/2404.01291), except that VQAScore is the probability
        of "Yes" among all tokens. Each word stands for all of its casings that are single tokens of the tokenizer:
        "Yes", "yes" and "YES" for Qwen2.5-VL.

        Args:
            media: uint8 [T, H, W, 3] each, one for each question. T = 1 is shown as an image. Successive questions
                about the same array share one reading of it.
            questions: as `bico.sources.instructions.question_about` words them.
            fps: frames per second of a video.

        Returns:
            One probability for each question.

        Raises:
            InputError: the tokenizer has no single token for "yes", or none for "no".
        """
        answers = []
        for _, same in groupby(range(len(media)), key=lambda index: id(media[index])):
            first, *others = same
            answers += self._yes(media[first], [questions[index] for index in (first, *others)], fps, look)
        return answers

    def _yes(self, frames: np.ndarray, questions: Sequence[str], fps: float, look: Look) -> list[float]:
        """`yes` for all questions about one image or video, which is read once for as many as memory allows."""
        # Logits of about 20 in bfloat16 are an eighth apart, which is three points of a probability near one half.
        heads = [self.model.lm_head.weight[self._casings(word)].float() for word in ("yes", "no")]
        before, after = self.chat("\0", still=len(frames) == 1).split("\0")
        seen = self.inputs([frames], [before], fps, look).to(self.device)
        at_a_time = max(1, HELD_TOKENS // seen["input_ids"].shape[1])
        answers = []
        with torch.inference_mode():
            for start in range(0, len(questions), at_a_time):
                texts = [question + after for question in questions[start : start + at_a_time]]
                cache = DynamicCache(config=self.model.config.get_text_config())
                self.model.model(**seen, past_key_values=cache, use_cache=True)
                cache.batch_repeat_interleave(len(texts))
                # Padding on the right needs no mask, because no token attends to a later one.
                asked = self.processor.tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
                asked = asked.to(self.device)
                read = self.model.model(asked["input_ids"], past_key_values=cache, use_cache=True).last_hidden_state
                ends = asked["attention_mask"].sum(dim=1) - 1
                last = read[torch.arange(len(texts), device=read.device), ends].float()
                of_yes, of_no = ((last @ head.T).logsumexp(1) for head in heads)
                answers += (of_yes - of_no).sigmoid().tolist()
        return answers

    def _casings(self, word: str) -> list[int]:
        """The tokens that are a casing of the word."""
        ids = self.processor.tokenizer(casings(word))["input_ids"]
        if tokens := [row[0] for row in ids if len(row) == 1]:
            return tokens
        raise InputError(
            f"{self.model.name_or_path}: the tokenizer has no token for '{word}': expected a VLM that answers yes or "
            "no; set models.vqa"
        )

    def chat(self, prompt: str, *, still: bool, system: str | None = None) -> str:
        """The prompt as the model expects it: after the image or video, in the chat template."""
        content = [{"type": "image" if still else "video"}, {"type": "text", "text": prompt}]
        role = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
        return self.processor.apply_chat_template(
            [*role, {"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )

    def inputs(self, media: Sequence[np.ndarray], texts: list[str], fps: float, look: Look) -> BatchFeature:
        """The processor's tensors for texts (see `chat`) about media of one length, all images or all videos."""
        common = {"text": texts, "padding": True, "return_tensors": "pt"}
        if len(media[0]) == 1:
            images = [Image.fromarray(frames[0]) for frames in media]
            return self.processor(images=images, **common, **self._size(1, look))
        total = len(media[0])
        shown = spread(total, ENCODED_FRAMES)
        if look == "original":
            step = max(1.0, fps / ORIGINAL_FPS)
            shown = every(total, step)
            # The processor computes times from this number. They are exact with the number of frames that the shown
            # ones represent. A slightly wrong number could give the first two pairs of frames the same time, because
            # the model rounds down.
            total = len(shown) * step
        return self.processor(
            videos=[frames[shown] for frames in media],
            video_metadata=[{"total_num_frames": total, "fps": fps, "frames_indices": shown}] * len(media),
            do_sample_frames=False,
            **common,
            **self._size(len(shown), look),
        )

    def _size(self, frames: int, look: Look) -> dict[str, dict[str, int]]:
        """The smallest and largest number of pixels of a resized frame, where they differ from the processor's own."""
        if look == "encoded":
            return {}
        least, most = TOKENS
        most = max(least, min(most, CLIP_TOKENS // -(-frames // 2)))
        pixels = (self.processor.image_processor.patch_size * self.processor.image_processor.merge_size) ** 2
        return {"size": {"shortest_edge": least * pixels, "longest_edge": most * pixels}}

    def _generate(self, inputs: BatchFeature, seeds: Sequence[int | None], settings: ConceptSettings) -> list[str]:
        """Reads the media and the prompt once, then writes all answers from copies of that state."""
        cache = DynamicCache(config=self.model.config.get_text_config())
        prompt = {key: inputs[key] for key in ("input_ids", "attention_mask")}
        cut = {"mm_token_type_ids"} & inputs.keys() | prompt.keys()
        with torch.inference_mode():
            start = {key: value[:, :-1] if key in cut else value for key, value in inputs.items()}
            self.model(**start, past_key_values=cache, use_cache=True, logits_to_keep=1)
            copies = len(seeds) // len(prompt["input_ids"])
            cache.batch_repeat_interleave(copies)
            ids = self.model.generate(  # pyright: ignore[reportAttributeAccessIssue]  # its `self` fits no model
                **{key: value.repeat_interleave(copies, dim=0) for key, value in prompt.items()},
                past_key_values=cache,
                logits_processor=LogitsProcessorList(_sampling(seeds, settings)),
                # A caption has to repeat the key words of its prompt, and Qwen2.5's own penalty is on these, too.
                repetition_penalty=self.model.generation_config.repetition_penalty if seeds[0] is None else 1.0,
                do_sample=False,
                max_new_tokens=settings.max_new_tokens,
            )
        written = ids[:, prompt["input_ids"].shape[1] :]
        return self.processor.batch_decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _sampling(seeds: Sequence[int | None], settings: ConceptSettings) -> list[Callable]:
    """Logits processors after which the largest logit is a sample: temperature, top-k, top-p, then Gumbel noise."""
    if seeds[0] is None:
        return []
    return [
        TemperatureLogitsWarper(settings.temperature),
        TopKLogitsWarper(settings.top_k),
        TopPLogitsWarper(settings.top_p),
        _GumbelNoise(cast("Sequence[int]", seeds)),
    ]


class _GumbelNoise:
    """argmax(logits + Gumbel noise) is a draw from softmax(logits). Each row draws from its own generator."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        uniform = torch.stack([torch.rand(scores.shape[-1], generator=g) for g in self.generators])
        left = torch.isfinite(scores).nonzero(as_tuple=True)  # the few tokens that are
        noise = -torch.log(-torch.log(uniform[tuple(each.cpu() for each in left)].clamp(1e-20, 1 - 1e-7)))
        return scores.index_put(left, noise.to(scores), accumulate=True)
