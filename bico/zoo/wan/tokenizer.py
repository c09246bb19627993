"""The tokenizer of the text encoder."""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from tokenizers.decoders import ByteFallback, Fuse, Metaspace, Sequence
from transformers import PreTrainedTokenizerFast

from bico.toybox.captions import caption
from bico.zoo.data import TRAIN_SEED, scenes
from bico.zoo.wan import settings


def build_tokenizer(corpus: list[str]) -> PreTrainedTokenizerFast:
    """A SentencePiece-like unigram tokenizer as UMT5's: the captions' words whole, letters and bytes for other text."""
    words = Counter(word for text in corpus for word in re.findall(r"[a-z]+", text))
    total = sum(words.values())
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(f"▁{word}", math.log(count / total)) for word, count in sorted(words.items())]
    vocabulary += [(letter, -20.0) for letter in ["▁", *map(chr, range(33, 127))]]
    vocabulary += [(f"<0x{byte:02X}>", -30.0) for byte in range(256)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.decoder = Sequence([ByteFallback(), Metaspace(), Fuse()])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def sample_texts(seed: int) -> list[str]:
    """What the tokenizer learns from: captions of clips and of stills."""
    rng = np.random.default_rng(seed)
    drawn = scenes(settings.CORPUS, TRAIN_SEED)
    return [caption(scene, rng, motion=moves, drop=settings.DROP) for scene in drawn for moves in (True, False)]
