"""A Qwen2.5-VL that answers prompts about images and videos.

Every answer has a seed of its own: its random numbers do not depend on which other answers are written beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

from bico.config.settings import ConceptSettings
from bico.media.frames import spread
from bico.models.wan.components import moved

MAX_FRAMES = 16  # frames of a clip that the VLM looks at, evenly spaced; Qwen itself looks at two a second
# Bounds on memory, no answer depends on them: answers written at the same time, and what they look at in all (3.8 GB of
# keys and values in Qwen2.5-VL-7B).
MAX_ROWS = 32
MAX_TOKENS = 65_536


class Vlm:
    """A Qwen2.5-VL folder, opened once for any number of sources (the 7B model and the Toybox's small one alike)."""

    def __init__(self, folder: Path, *, device: str | None = None) -> None:
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.float32 if self.device == "cpu" else torch.bfloat16
        self.processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        self.processor.tokenizer.padding_side = "left"
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=dtype, local_files_only=True)
        self.model = moved(model, self.device).eval()

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
    """argmax(logits + Gumbel noise) is a draw from softmax(logits); each row draws from a generator of its own."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        uniform = torch.stack([torch.rand(scores.shape[-1], generator=g) for g in self.generators])
        left = torch.isfinite(scores).nonzero(as_tuple=True)  # the few tokens that are
        noise = -torch.log(-torch.log(uniform[tuple(each.cpu() for each in left)].clamp(1e-20, 1 - 1e-7)))
        return scores.index_put(left, noise.to(scores), accumulate=True)
