"""The Toybox's CLIP: an open_clip model of 1.1 M parameters, trained from scratch on frames and captions.

    python -m bico.zoo clip FOLDER    about 20 minutes on one core

`open_clip.create_model_and_transforms("local-dir:data/toybox/zoo/clip")` opens it, and `open_clip.get_tokenizer` with
the same name opens its tokenizer: a byte-level BPE of 512 pieces, because in a small model the embeddings of a larger
vocabulary would be most of the parameters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from bico.core.files import write_json
from bico.toybox.captions import caption
from bico.toybox.render import render
from bico.toybox.words import SCENES, SUBJECTS
from bico.toybox.world import NUM_FRAMES, SIZE, Scene
from bico.zoo.data import HELD_OUT_SEED, TRAIN_SEED, clip_pool, degrade, draw_batch, scenes, to_model
from bico.zoo.muon import muon
from bico.zoo.training import Training, mixed_precision

POOL, BATCH = 16_000, 128
VOCABULARY, CONTEXT = 512, 40
PAD, BEGIN, END = "<pad>", "<start>", "<end>"
HALF = (0.5, 0.5, 0.5)


def model_config() -> dict[str, Any]:
    """open_clip's description of the two towers."""
    return {
        "embed_dim": 96,
        "vision_cfg": {"image_size": SIZE, "patch_size": 8, "width": 128, "layers": 4, "head_width": 32},
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": VOCABULARY,
            "hf_tokenizer_name": "tokenizer",  # with any name open_clip takes the tokenizer in the folder
            "width": 96,
            "heads": 4,
            "layers": 2,
            "pool_type": "eos",
            "eos_id": 2,
        },
    }


def build_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on captions: it can encode any text, and Toybox words in few tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BEGIN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(f"{BEGIN} $A {END}", special_tokens=[(BEGIN, 1), (END, 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=BEGIN, eos_token=END, model_max_length=CONTEXT
    )


def write_folder(folder: Path, model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast) -> None:
    """Writes the folder that open_clip's "local-dir:" opens."""
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": HALF, "std": HALF, "interpolation": "bicubic", "resize_mode": "shortest"}
    write_json(folder / "open_clip_config.json", {"model_cfg": model_config(), "preprocess_cfg": preprocess})
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    tokenizer.save_pretrained(folder)


def build(texts: list[str]) -> tuple[open_clip.CLIP, PreTrainedTokenizerFast]:
    """An untrained model, and a tokenizer trained on `texts`."""
    return open_clip.CLIP(**model_config()), build_tokenizer(texts)


def _tokens(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> torch.Tensor:
    return tokenizer(texts, padding="max_length", truncation=True, max_length=CONTEXT, return_tensors="pt").input_ids


def _frames(pool: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """One random frame of each clip, float32 [B, 3, H, W] in -1..1, some of them degraded."""
    frames = np.stack([pool[i, j] for i, j in zip(chosen, rng.integers(NUM_FRAMES, size=len(chosen)), strict=True)])
    return degrade(to_model(frames[:, None]), torch.Generator().manual_seed(int(rng.integers(2**31))))[:, :, 0]


def contrastive_loss(model: open_clip.CLIP, frames: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """CLIP's symmetric cross-entropy over the batch; frames with the same caption all match it."""
    images, texts, scale = model(frames, tokens)
    logits = scale.clamp(max=100) * images @ texts.T
    same = (tokens[:, None] == tokens[None]).all(dim=-1).float()
    target = same / same.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def train(out: Path, *, workdir: Path, steps: int = 3_000, seed: int = 0) -> None:
    """Trains from scratch, or resumes from the checkpoint in `workdir`, and saves open_clip's folder to `out`."""
    torch.manual_seed(seed)
    pool, cast = clip_pool(workdir / "pool.npy", POOL, TRAIN_SEED), scenes(POOL, TRAIN_SEED)
    words = np.random.default_rng([seed, POOL])
    model, tokenizer = build([caption(scene, words) for scene in cast[:4000]])
    optimizer = muon(model, model.visual.get_submodule("transformer"), model.get_submodule("transformer"))

    def loss(step: int) -> dict[str, torch.Tensor]:
        chosen, rng = draw_batch(POOL, BATCH, seed, step)
        tokens = _tokens(tokenizer, [caption(cast[i], rng, drop=0.1) for i in chosen])
        with mixed_precision("cpu"):
            return {"loss": contrastive_loss(model, _frames(pool, chosen, rng), tokens)}

    Training("clip", model, optimizer, workdir / "clip.safetensors", steps).run(loss)
    write_folder(out, model, tokenizer)


# --- evaluation, through the scorer that the benchmark uses ----------------------------------------------------------


def evaluate(folder: Path, *, count: int = 300) -> dict[str, float]:
    """Retrieval and classification on held-out clips, as shares in 0..1.

    Returns:
        retrieval_top1_of_100, retrieval_top5_of_100: captions whose clip ranks first, or among the first five, of 100
            clips with different captions.
        subject, scene: clips whose nearest prompt ("a cat", ..., "in the beach", ...) names the right word.
    """
    from bico.scoring.clip_judge import ClipJudge

    judge = ClipJudge(folder)
    cast = scenes(count, HELD_OUT_SEED)
    clips = torch.stack([_clip_feature(judge, scene) for scene in cast])
    texts = _distinct_captions(cast)
    ranks = _ranks(clips, _text_features(judge, list(texts.values())), list(texts))
    single = [i for i, scene in enumerate(cast) if len(scene.actors) == 1]
    known = [cast[i].actors[0].word for i in single]
    subjects = (clips[single] @ _text_features(judge, [f"a {word}" for word in SUBJECTS]).T).argmax(dim=1)
    places = (clips @ _text_features(judge, [f"in the {word}" for word in SCENES]).T).argmax(dim=1)
    return {
        "retrieval_top1_of_100": float((ranks == 0).mean()),
        "retrieval_top5_of_100": float((ranks < 5).mean()),
        "subject": float(np.mean([SUBJECTS[s] == word for s, word in zip(subjects, known, strict=True)])),
        "scene": float(np.mean([SCENES[p] == scene.backdrop.word for p, scene in zip(places, cast, strict=True)])),
    }


def _clip_feature(judge: Any, scene: Scene) -> torch.Tensor:
    return F.normalize(judge.features(render(scene)).mean(dim=0), dim=0)


def _text_features(judge: Any, texts: list[str]) -> torch.Tensor:
    return torch.stack([judge.text_feature(text) for text in texts])


def _distinct_captions(cast: list[Scene]) -> dict[int, str]:
    """Index -> caption with all details, for each scene whose caption no earlier scene has."""
    rng = np.random.default_rng(HELD_OUT_SEED)
    captions = {i: caption(scene, rng, detail=1.0) for i, scene in enumerate(cast)}
    first = {text: i for i, text in reversed(captions.items())}
    return {i: text for text, i in sorted(first.items(), key=lambda item: item[1])}


def _ranks(clips: torch.Tensor, texts: torch.Tensor, indices: list[int], group: int = 100) -> np.ndarray:
    """Rank of each caption's own clip among those of its group of 100 captions."""
    ranks = []
    for start in range(0, len(indices) - group + 1, group):
        similarity = texts[start : start + group] @ clips[indices[start : start + group]].T
        ranks.append((similarity > similarity.diagonal()[:, None]).sum(dim=1))
    return torch.cat(ranks).numpy()
