"""Checkpoints of the authors' code: conversion to ours, and from ours.

    bico import akita_epoch-4.safetensors akita.safetensors
    bico export results/learned/bico/cat_beach/0.safetensors cat_beach_epoch-0.safetensors

A checkpoint of theirs holds one source: `global_concept_adapter`, `per_block_concept_adapters.<block>`, and the token
that was trained with them, `absorbing_token.weight`. An adapter is `proj` (LayerNorm, Linear, GELU, Linear, LayerNorm)
and `scaling`; that of a video also has `proj_motion` and `gate`. Only names and the shape of gamma differ from ours.
Values and dtypes stay, so converting there and back gives the same tensors. (Names: github.com/refkxh/BiCo, commit
872f19b.)

The row `bico_as_released` of config/paper.yaml trains as their code does in these points:

* the noise levels of both stages, and the weight of the loss by noise level;
* 40 % of the samples of an image, of a video's single frames and of its clip in stage global, 60 % in stage all;
* eight samples a step, one from each of their eight processes;
* a third of the learning rate in the first step, and a new optimiser for a video's clip;
* captions in shuffled epochs;
* the absorption token in the place of end-of-sequence, and the constant gate.

It differs in these:

* Captions come from the same instructions to the VLM as in the whole config. Theirs are different.
* Binders and moments are float32. Their models are bfloat16, under DeepSpeed in mixed precision. It is not known here
  what DeepSpeed keeps in float32 in their version, and whether it clips gradients.
* The number of steps is that for 60 captions and 81 frames. It does not change with the number of captions.
* Their epoch has each caption eight times, in one random order. Ours has it once, so it returns at more even distances.
* Random numbers are drawn differently.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bico.core.errors import InputError
from bico.core.files import replacing
from bico.methods.bico.artifact import LearnedBinder
from bico.models.binder import HierarchicalBinder
from bico.models.binder_form import (
    ABSORPTION,
    EXPECTED,
    HIDDEN,
    form,
    has_released_gate,
    has_temporal_branch,
    num_blocks_in,
)
from bico.training.artifacts import check_tensors, metadata_of, save_artifact

NAMES = {
    "shared": "global_concept_adapter",
    "blocks": "per_block_concept_adapters",
    "spatial": "proj",
    "temporal": "proj_motion",
    "softmax_gate": "gate",
    "gamma": "scaling",
}
"""Parts of the names of our tensors -> those of theirs."""

THEIR_ABSORPTION = "absorbing_token.weight"
THEIR_WIDTH = "global_concept_adapter.proj.1.weight"
"""The tensor whose shape gives the width of the tokens."""

CONVERSION = (
    """python -c "import torch, safetensors.torch as s; s.save_file(torch.load('IN.pt', weights_only=True), 'OUT')\""""
)


def import_checkpoint(checkpoint: Path, out: Path) -> None:
    """Writes an artifact for BiCo's `compose`. A video's binder keeps the authors' constant gate (`gate: released`).

    Raises:
        InputError: not a safetensors file, or tensors are missing, unknown, of another shape, or not finite.
    """
    theirs = _opened(checkpoint)
    if THEIR_WIDTH not in theirs:
        raise InputError(f"{checkpoint}: there is no {THEIR_WIDTH} in it: expected a checkpoint of BiCo's authors")
    numbers = [re.match(r"per_block_concept_adapters\.(\d+)\.", name) for name in theirs]
    num_blocks = len({found[1] for found in numbers if found})
    two_branch = any(name.startswith("global_concept_adapter.gate.") for name in theirs)
    names = _names(theirs[THEIR_WIDTH].shape[0], num_blocks, two_branch=two_branch)
    shapes = dict(names.values())
    check_tensors(checkpoint, theirs, shapes, optional=THEIR_ABSORPTION, expected="a checkpoint of BiCo's authors")
    ours = {name: theirs[theirs_name] for name, (theirs_name, _) in names.items() if theirs_name in theirs}
    ours = {name: tensor.squeeze() if name.endswith("gamma") else tensor for name, tensor in ours.items()}
    save_artifact(out, ours, {"method": "bico", "source": checkpoint.stem})


def export_checkpoint(artifact: Path, out: Path) -> None:
    """Writes an artifact of BiCo as a checkpoint for the authors' code.

    Raises:
        InputError: not an artifact of BiCo, or damaged, or one that their code cannot represent: it has a learned
            gate, several absorption tokens, matrices of low rank, or plain keys.
    """
    ours = _opened(artifact)
    shapes = form(artifact, {name: tuple(tensor.shape) for name, tensor in ours.items()})
    check_tensors(artifact, ours, shapes, optional=ABSORPTION, expected=EXPECTED)
    if has_temporal_branch(ours) and not has_released_gate(ours):
        raise InputError(
            f"{artifact}: its temporal branch has a gate that was learned, and the authors' is constant: expected a "
            f"binder that was trained with 'gate: released' or without 'temporal_decoupling'"
        )
    if len(ours.get(ABSORPTION, [])) > 1:
        raise InputError(f"{artifact}: {len(ours[ABSORPTION])} absorption tokens: the authors' code takes one at most")
    rank, width = ours[HIDDEN].shape
    if rank != width:
        raise InputError(
            f"{artifact}: its matrices have rank {rank}, and those of the authors' code have {width}, the width of a "
            "token: expected a binder that was trained with 'rank: null'"
        )
    if LearnedBinder(ours, metadata_of(artifact)).keys != "bound":
        raise InputError(
            f"{artifact}: its words change values of the cross-attention alone, and the authors' code changes keys, "
            "too: expected a binder that was trained with 'attention_keys: bound'"
        )
    num_blocks = num_blocks_in(ours)
    names = _names(width, num_blocks, two_branch=has_temporal_branch(ours))
    theirs = {names[name][0]: tensor.reshape(names[name][1]) for name, tensor in ours.items() if tensor.numel()}
    with replacing(out) as unfinished:
        save_file(theirs, unfinished, metadata={"format": "pt"})


def _names(width: int, num_blocks: int, *, two_branch: bool) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Our name of each tensor of a binder -> its name and shape in the authors' code."""
    with torch.device("meta"):
        binder = HierarchicalBinder(
            width, num_blocks, two_branch=two_branch, gate="released", hierarchical=num_blocks > 0
        )
    names: dict[str, tuple[str, tuple[int, ...]]] = {ABSORPTION: (THEIR_ABSORPTION, (1, width))}
    for name, tensor in binder.state_dict().items():
        theirs = ".".join(NAMES.get(part, part) for part in name.split("."))
        names[name] = (theirs, tuple(tensor.shape) or (1,))
    return names


def _opened(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file: expected a .safetensors file")
    try:
        return load_file(path)
    except SafetensorError:
        reason = "not a safetensors file; pickles (.pt, .ckpt) can run code when they are opened, so they are not"
        raise InputError(f"{path}: {reason}: convert one that you trust elsewhere: {CONVERSION}") from None
