"""Export of an artifact of DB-LoRA as a LoRA for other software.

    bico export-lora results/learned/db_lora/cat_beach/0.safetensors cat_beach_lora.safetensors

One file serves both diffusers and ComfyUI:

* diffusers: `pipeline.load_lora_weights("cat_beach_lora.safetensors")` of a WanPipeline.
* ComfyUI: the file goes into `models/loras`, and a node that loads a LoRA names it.

Its layers have the names of Wan's own code, after `diffusion_model.`, and their parts are "lora_A" and "lora_B".
ComfyUI does not read diffusers' names for a Wan LoRA: its `comfy/lora.py` knows the diffusers names of some models, but
not of Wan. diffusers translates the names of Wan's code itself. No tensor holds an alpha, so both add B A unscaled. At
strength 1 the LoRA acts as in our row with `merge_weight: 1`. The prompt must contain the rare token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file

from bico.core.errors import InputError
from bico.core.files import replacing
from bico.models.binder_form import Shape
from bico.training.artifacts import check_tensors, load_brought

LAYERS = {
    f"{ours}.{part}": f"{theirs}.{wans}"
    for ours, theirs in (("attn1", "self_attn"), ("attn2", "cross_attn"))
    for part, wans in (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "o"))
} | {"ffn.net.0.proj": "ffn.0", "ffn.net.2": "ffn.2"}
"""Layers of a block with a LoRA: name in diffusers and in our files -> name in Wan's own code."""

EXPECTED = "what the method db_lora learned of a source"


def export_lora(artifact: Path, out: Path) -> None:
    """Writes the LoRA of a source for diffusers and ComfyUI. The numbers do not change.

    Raises:
        InputError: the file cannot be read, or holds no LoRA that is complete and finite.
    """
    lora, _ = load_brought(artifact, expected=EXPECTED)
    wanted = _form(artifact, {name: tuple(tensor.shape) for name, tensor in lora.items()})
    check_tensors(artifact, lora, wanted, optional="", expected=EXPECTED)
    theirs = {_name(name): tensor.contiguous() for name, tensor in lora.items()}
    with replacing(out) as unfinished:
        save_file(theirs, unfinished, metadata={"format": "pt"})


def _form(artifact: Path, found: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shapes that the LoRA must have, given the names of the tensors in its file."""
    down, up = found.get("blocks.0.ffn.net.2.lora_A", ()), found.get("blocks.0.ffn.net.2.lora_B", ())
    if len(down) != 2 or len(up) != 2:
        raise InputError(f"{artifact}: there is no LoRA in it: expected {EXPECTED}")
    (rank, ffn_width), (width, _) = down, up
    num_blocks = len({match[1] for name in found if (match := re.match(r"blocks\.(\d+)\.", name))})
    ends = dict.fromkeys(LAYERS, (width, width)) | {
        "ffn.net.0.proj": (width, ffn_width),
        "ffn.net.2": (ffn_width, width),
    }
    return {
        f"blocks.{block}.{layer}.lora_{part}": shape
        for block in range(num_blocks)
        for layer, (inwards, outwards) in ends.items()
        for part, shape in (("A", (rank, inwards)), ("B", (outwards, rank)))
    }


def _name(ours: str) -> str:
    """The name in Wan's own code of a tensor such as "blocks.0.attn1.to_q.lora_A"."""
    blocks, block, layer = ours.split(".", 2)
    layer, part = layer.rsplit(".", 1)
    return f"diffusion_model.{blocks}.{block}.{LAYERS[layer]}.{part}.weight"
