"""The untrained VLM: its tokenizer, sizes and processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from bico.sources.instructions import SHORT
from bico.toybox.world import SIZE
from bico.zoo.vlm.vision import MERGE, PATCH

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}"
    "{% else %}<|vision_start|><|{{ part.type }}_pad|><|vision_end|>{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer(corpus: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE, so that any text can be read and written; the instructions are tokens of their own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_tokens([*SHORT.concepts.values(), *SHORT.caption.values()])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL[1:]),
        padding_side="left",
        model_max_length=1024,
    )


def build(folder: Path, corpus: list[str], seed: int) -> None:
    """Saves an untrained model and its processor; the tokenizer is trained on `corpus`."""
    tokenizer = build_tokenizer(corpus)
    config = _config(tokenizer)
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(**_ends(tokenizer))
    model.save_pretrained(folder)
    patches: dict[str, Any] = {"patch_size": PATCH, "merge_size": MERGE, "temporal_patch_size": 2}
    size = {"shortest_edge": SIZE**2 // 2, "longest_edge": SIZE**2}
    Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(size=size, **patches),
        tokenizer,
        Qwen2VLVideoProcessor(size=size, cap_pixels_per_frame=False, **patches),
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)


def _ends(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}


def _config(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    token = {name: cast(int, tokenizer.convert_tokens_to_ids(name)) for name in SPECIAL}
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 160,
            "intermediate_size": 320,
            "num_hidden_layers": 3,
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
            "max_position_embeddings": 1024,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [6, 5, 5]},
            "initializer_range": 0.05,
            "bos_token_id": None,
            **_ends(tokenizer),
        },
        vision_config={
            "depth": 4,
            "hidden_size": 160,
            "intermediate_size": 400,
            "num_heads": 5,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "window_size": SIZE,
            "fullatt_block_indexes": [0, 1, 2, 3],
            "out_hidden_size": 160,
            "rope_parameters": {"rope_type": "axial", "rope_theta": 100.0},  # a grid of 8 x 8 needs no slow waves
            "initializer_range": 0.08,
        },
        image_token_id=token["<|image_pad|>"],
        video_token_id=token["<|video_pad|>"],
        vision_start_token_id=token["<|vision_start|>"],
        vision_end_token_id=token["<|vision_end|>"],
        tie_word_embeddings=True,
    )
