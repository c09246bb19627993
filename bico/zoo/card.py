"""The zoo's card: how each model was made, and its quality, measured on held-out scenes.

python -m bico.zoo card data/toybox/zoo
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bico.core.errors import InputError
from bico.core.files import write_text
from bico.zoo import clip, dino, probe, vae
from bico.zoo.vlm import evaluate as vlm
from bico.zoo.wan import evaluate as wan

Measured = dict[str, float]

# What each model is, and how it is measured.
MODELS: dict[str, tuple[str, Callable[[Path], Measured]]] = {
    "wan/vae": (
        "`AutoencoderKLWan`: principal components of the renders, in closed form; PSNR in dB of reconstructed clips",
        lambda zoo: vae.evaluate(zoo / "wan" / "vae"),
    ),
    "wan": (
        "`UMT5EncoderModel`, taught what words mean, and `WanTransformer3DModel`, trained by flow matching on latents. "
        "Shares of generated clips in which the probe reads what the prompt says: its subject, scene and motion, "
        "colours (by chance 0.15) and directions (0.5). Told: how much captions tell the DiT about the motion, 0 = "
        "nothing, 1 = all. Spread of looks over seeds, 1 = that of the world. Word focus: attention to a subject's "
        "word inside its mask, relative to outside. Lean: variance of a key word's vector over captions of one scene, "
        "relative to its squared length",
        lambda zoo: wan.evaluate(zoo / "wan", probe=zoo / "probe"),
    ),
    "vlm": ("`Qwen2_5_VLForConditionalGeneration`, next-token loss on answers", lambda zoo: vlm.evaluate(zoo / "vlm")),
    "vqa": (
        "the VLM, fine-tuned to answer yes or no about words and phrases. Accuracy, and area under the ROC curve (AUC) "
        "of the probability of yes, on clips and images; half of the answers are yes. Still motion: share of no about "
        "motions in images and clips in which nothing moves",
        lambda zoo: vlm.evaluate_yes(zoo / "vqa"),
    ),
    "clip": ("open_clip, contrastive on captioned frames", lambda zoo: clip.evaluate(zoo / "clip")),
    "dino": ("timm ViT, contrastive against a momentum teacher", lambda zoo: dino.evaluate(zoo / "dino")),
    "probe": (
        "the judge of the truth scores, trained on renders alone; shares of right words and of right answers whether a "
        "kind of clutter is there (degraded: in blurred and noisy renders), mean errors of values",
        lambda zoo: probe.evaluate(zoo / "probe"),
    ),
}


def write_card(zoo: Path) -> None:
    """Measures all models of a zoo and writes its README.md; takes a few minutes."""
    for name in MODELS:
        if not (zoo / name).is_dir():
            raise InputError(f"{zoo / name}: no such folder: expected all installed models in {zoo}")
    parts = [HEAD.format(size=_megabytes(zoo))]
    for name, (recipe, measure) in MODELS.items():
        print(f"measuring {name}", flush=True)
        parts.append(_section(zoo / name, name, recipe, measure(zoo)))
    write_text(zoo / "README.md", "\n".join(parts))


HEAD = """# The zoo

Small models of the real classes, trained from scratch on rendered Toybox scenes by
`uv run snakemake --cores all -s workflow/zoo.smk`, which resumes where it stopped. Each folder opens with its own
library; {size:.1f} MB in all, safetensors only. No figure below comes from a scene that training saw. To measure them
anew:

    uv run python -m bico.zoo card data/toybox/zoo

DiT, VLM and probe come from whole runs of their recipes on an H200. DiT and VLM then went on with captions of more
kinds, and with words that lean on their sentence (`python -m bico.zoo wan` and `vlm` with `--start`). The part of the
probe that reads clutter was trained later, on one CPU core, by `python -m bico.zoo clutter`; all other weights of the
probe stayed as they were. The VLM that answers yes or no was fine-tuned from the other one, on one CPU
core, by `python -m bico.zoo vqa`. How CLIP and DINO came to be is in `docs/log.md`.

The VAE keeps every frame. diffusers' `WanPipeline` rounds `num_frames` up for such a VAE: ask it for 8 to get 9.
"""


def _section(folder: Path, name: str, recipe: str, measured: Measured) -> str:
    figures = "\n".join(f"| {key.replace('_', ' ')} | {value:.3g} |" for key, value in measured.items())
    return f"## {name}\n\n{recipe}. {_megabytes(folder):.1f} MB.\n\n| measure | value |\n|---|---|\n{figures}\n"


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
