"""The paper's profile before its weights are there: models of full size with random weights through every rule.

    uv run python benchmarks/rehearsal.py FOLDER                       # a GPU: sizes of config/paper.yaml, few steps
    uv run python benchmarks/rehearsal.py FOLDER --frames 5 --vlm-layers 4 --text-layers 4

It writes models as the hub has them (files in shards, Qwen's config in its old form), but for tokenizers, which are the
Toybox's; takes config/paper.yaml with one case of two sources and with few steps, and runs `results/table1.csv`. Scores
mean nothing. What counts is that all of it runs, and what memory each job took beside what profiles/slurm asks for.

A VLM that knows nothing names no concepts: they are given, and its captions end as templates. FOLDER takes 40 GB, and
models that are there already serve again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import timm
import torch
import yaml
from default_run import jobs
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from safetensors.torch import save_file
from transformers import (
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    UMT5Config,
    UMT5EncoderModel,
)

from bico.core.errors import exit_code
from bico.core.files import write_json
from bico.media.writing import write_clip, write_image
from bico.profiling.presets import PRESETS
from bico.profiling.random_models import weights_in
from bico.toybox.render import render
from bico.toybox.world import sample_scene

ROOT = Path(__file__).resolve().parents[1]
ZOO = ROOT / "data" / "toybox" / "zoo"
# The published config.json of Qwen2.5-VL-7B-Instruct, whose token ids are those of the tokenizer that stands in.
QWEN: dict[str, Any] = {
    "model_type": "qwen2_5_vl",
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128000,
    "max_window_layers": 28,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "sliding_window": 32768,
    "use_sliding_window": False,
    "tie_word_embeddings": False,
    "vocab_size": 152064,
    "vision_config": {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "in_chans": 3,
        "out_hidden_size": 3584,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "spatial_patch_size": 14,
        "temporal_patch_size": 2,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
        "tokens_per_second": 2,
    },
}
QWEN_PREPROCESSING = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "processor_class": "Qwen2_5_VLProcessor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "min_pixels": 3136,
    "max_pixels": 12845056,
}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
STEPS = {"steps", "inversion_steps", "identity_steps", "motion_steps", "global_steps", "all_steps"}
CASE = {
    "prompt": "a cat bouncing at the beach",
    "bind": {"photo": ["cat", "beach"], "film": ["bouncing"]},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path, help="for models, sources and results")
    parser.add_argument("--frames", type=int, help="of clips, instead of 81")
    parser.add_argument("--vlm-layers", type=int, default=28, help="of the VLM: on a CPU it is in float32")
    parser.add_argument("--text-layers", type=int, default=24, help="of the text encoder: all take 11 GB")
    parser.add_argument("--steps", type=int, default=2, help="of every stage of a training, and of sampling")
    parser.add_argument("--captions", type=int, default=2, help="of a source, and of a video's frames")
    parser.add_argument("--rows", nargs="+", help="of table 1, instead of all")
    options = parser.parse_args()
    folder = options.folder.absolute()
    torch.manual_seed(0)
    models = folder / "models"
    vlm, wan = f"vlm{options.vlm_layers}", f"wan{options.text_layers}"
    once(models / wan, partial(write_wan, text_layers=options.text_layers))
    once(models / vlm, partial(write_vlm, layers=options.vlm_layers))
    once(models / "clip", write_clip_model)
    once(models / "dino", write_dino)
    names = {"wan": wan, "vlm": vlm, "clip": "clip", "dino": "dino"}
    config = rehearsed(folder, names, options.frames, options.steps, options.captions, options.rows)
    write_sources(config)
    path = folder / "rehearsal.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    table = f"{config['results']}/table1.csv"
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", str(path), "--", table]
    subprocess.run(command, cwd=ROOT, check=True)
    print(report(Path(config["results"])))


def once(path: Path, write: Callable[[Path], None]) -> None:
    """Writes a model's folder unless it is whole already."""
    done = path.with_suffix(".done")
    if not done.exists():
        print(f"writing {path}", file=sys.stderr, flush=True)
        path.mkdir(parents=True, exist_ok=True)
        write(path)
        torch.cuda.empty_cache()  # for the jobs
        done.touch()


def write_wan(path: Path, text_layers: int) -> None:
    """Wan2.1-T2V-1.3B as a pipeline, with so many of its text encoder's layers; these in bfloat16, because 23 GB would
    not fit beside all else."""
    sizes = PRESETS["full"]
    with DEVICE:
        with weights_in(torch.bfloat16):
            text_encoder = UMT5EncoderModel(UMT5Config(**{**sizes.text_encoder, "num_layers": text_layers}))
        transformer, vae = WanTransformer3DModel(**sizes.transformer), AutoencoderKLWan(**sizes.vae)
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    WanPipeline(
        tokenizer=AutoTokenizer.from_pretrained(ZOO / "wan" / "tokenizer"),
        text_encoder=text_encoder,
        transformer=transformer,
        vae=vae,
        scheduler=scheduler,  # pyright: ignore[reportArgumentType]  # diffusers names one of those that fit
    ).save_pretrained(path, max_shard_size="5GB")


def write_vlm(path: Path, layers: int) -> None:
    """Qwen2.5-VL-7B with so many of its layers."""
    processor = AutoProcessor.from_pretrained(ZOO / "vlm")
    stand_in = json.loads((ZOO / "vlm" / "config.json").read_text(encoding="utf-8"))
    ids = {name: number for name, number in stand_in.items() if name.endswith("_token_id")}
    ends = {name: stand_in["text_config"][name] for name in ("eos_token_id", "pad_token_id")}
    config: dict[str, Any] = QWEN | ids | ends | {"num_hidden_layers": layers}
    with weights_in(torch.bfloat16), DEVICE:
        model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**config))
    model.generation_config = GenerationConfig(**ends)
    model.save_pretrained(path, max_shard_size="4GB")
    processor.tokenizer.save_pretrained(path)
    write_json(path / "config.json", config | {"torch_dtype": "bfloat16"})
    write_json(path / "preprocessor_config.json", QWEN_PREPROCESSING)
    write_json(path / "chat_template.json", {"chat_template": processor.chat_template})


def write_clip_model(path: Path) -> None:
    """CLIP ViT-B/32 as OpenAI trained it, with the tokenizer that open_clip has itself."""
    name = "ViT-B-32-quickgelu"
    save_file(open_clip.create_model(name).state_dict(), path / "open_clip_model.safetensors")
    statistics = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    preprocessing = statistics | {"interpolation": "bicubic", "resize_mode": "shortest"}
    config = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": preprocessing}
    write_json(path / "open_clip_config.json", config)


def write_dino(path: Path) -> None:
    """DINO ViT-S/16."""
    name = "vit_small_patch16_224"
    model = timm.create_model(name, num_classes=0)
    save_file(model.state_dict(), path / "model.safetensors")
    config = {"architecture": name, "num_classes": 0, "num_features": 384, "pretrained_cfg": {"tag": "dino"}}
    write_json(path / "config.json", config)


def rehearsed(
    folder: Path, models: dict[str, str], frames: int | None, steps: int, captions: int, rows: list[str] | None
) -> dict:
    """config/paper.yaml with these of the folder's models, one case of two sources, and few steps of everything."""
    config = yaml.safe_load((ROOT / "config" / "paper.yaml").read_text(encoding="utf-8"))
    count = frames or config["media"]["num_frames"]
    config |= {
        "name": "rehearsal",
        "results": str(folder / "results"),
        "device": "auto",  # with few layers it also runs without a GPU
        "models": {kind: str(folder / "models" / name) for kind, name in models.items()},
        "seeds": [0],
        "sources": {
            "photo": {"kind": "image", "file": str(folder / "photo.png"), "concepts": {"spatial": ["cat", "beach"]}},
            "film": {
                "kind": "video",
                "file": str(folder / f"film_{count}.mp4"),
                "concepts": {"spatial": ["fish"], "temporal": ["bouncing"]},
            },
        },
        "cases": {"cat_bouncing_at_the_beach": CASE},
    }
    config["media"]["num_frames"] = count
    if frames:
        config["gradient_checkpointing"] = "always"  # as for 81 frames; a few would do without
    config["sampling"]["steps"] = steps
    config["concepts"] |= {"captions": captions, "frame_captions": captions, "attempts": 1, "max_new_tokens": 8}
    config["methods"] = fewer_steps(config["methods"], steps)
    table = config["tables"]["table1"]
    config["tables"] = {"table1": {row: table[row] for row in rows or table}}
    config["methods"] = {row: config["methods"][row] for row in config["tables"]["table1"]}
    config["controls"] = {}  # their rows are none of these
    return config


def fewer_steps(settings: dict, steps: int) -> dict:
    """The same settings with `steps` in place of every number of steps, and without warm-up, which would take all."""
    lengths = dict.fromkeys(STEPS, steps) | {"warm_up": 0}
    return {
        key: fewer_steps(value, steps) if isinstance(value, dict) else lengths.get(key, value)
        for key, value in settings.items()
    }


def write_sources(config: dict) -> None:
    """A picture and a clip of the Toybox at this size."""
    media, draw = config["media"], np.random.default_rng(0)
    top = (media["width"] - media["height"]) // 2

    def frames(count: int, **words: Any) -> np.ndarray:
        scene = sample_scene(draw, moving=count > 1, **words)
        return render(scene, num_frames=count, size=media["width"])[:, top : top + media["height"]]

    photo, film = (Path(config["sources"][source]["file"]) for source in ("photo", "film"))
    if not photo.exists():
        write_image(photo, frames(1, subject="cat", scene="beach")[0])
    if not film.exists():  # one that is newer would be asked about again
        write_clip(film, frames(media["num_frames"], subject="fish", scene="city", motion="bouncing"), media["fps"])


def report(results: Path) -> str:
    """Seconds and peak memory by rule, beside the memory that profiles/slurm asks for; of a GPU, too."""
    profile = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text(encoding="utf-8"))
    rules = (
        jobs(results)
        .groupby("rule", sort=False)
        .agg(seconds=("wall", "sum"), gpu_gib=("gpu_gib", "max"), peak_mb=("rss", "max"))
    )
    asked = [str(profile["set-resources"].get(rule.split()[0], {}).get("mem_mb", "")) for rule in rules.index]
    rules["asked_mb"] = [of.partition(" +")[0] for of in asked]  # by the first attempt
    return rules.to_string()


if __name__ == "__main__":
    sys.exit(exit_code(main))
