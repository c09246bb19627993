"""Checks that a model's folder exists, has the right kind and is complete, without reading weights."""

import json
from pathlib import Path
from typing import Any

from bico.core.errors import InputError
from bico.core.fingerprints import file_digest

# The file with which each kind of folder is opened, and a key in it.
ENTRY_FILES = {
    "wan": ("model_index.json", "transformer"),
    "vlm": ("config.json", "vision_config"),
    "vqa": ("config.json", "vision_config"),
    "clip": ("open_clip_config.json", "model_cfg"),
    "appearance": ("open_clip_config.json", "model_cfg"),
    "dino": ("config.json", "architecture"),
    "probe": ("config.json", "size"),
}
# What the checks read of the backbone's parts.
WAN_KEYS = {"transformer": ("num_layers", "patch_size", "num_attention_heads", "attention_head_dim"), "vae": ()}
# The names under which the libraries look for weights: NAME.safetensors, or the shards of NAME.safetensors.index.json.
WEIGHTS = {
    "wan": ("transformer/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"),
    "vlm": ("model",),
    "vqa": ("model",),
    "clip": ("open_clip_model",),
    "appearance": ("open_clip_model",),
    "dino": ("model",),
    "probe": ("model", "clutter"),
}
ZOO = Path("data/toybox/zoo")
CORRECT, COPY = "correct the path", "copy it again"


def check_model(name: str, folder: Path) -> None:
    """Checks that a model folder exists, has the right kind, and is complete as far as can be seen without weights.

    Args:
        name: the kind of model, a field of `bico.config.settings.Models`.

    Raises:
        InputError: it is missing, of another kind, or incomplete.
    """
    entry_file, key = ENTRY_FILES[name]
    if not (folder / entry_file).is_file():
        found = "has no " + entry_file if folder.is_dir() else "is no folder" if folder.exists() else "does not exist"
        remedy = _remedy(folder) if not folder.exists() else CORRECT
        raise InputError(f"{folder}: models.{name} {found}: expected a model folder; {remedy}")
    if key not in read_json(folder / entry_file, name):
        raise InputError(f"{folder}: models.{name} is another model: expected '{key}' in its {entry_file}; {CORRECT}")
    if name == "wan":
        _check_wan(folder)
    for path, expected in listed(folder).items():
        if not path.is_file():
            raise InputError(f"{path}: a file of models.{name} is missing: expected a whole folder; {_remedy(folder)}")
        if file_digest(path) != expected:
            raise InputError(
                f"{path}: a file of models.{name} is corrupt: expected SHA-256 {expected[:12]}...; {_remedy(folder)}"
            )
    for stem in WEIGHTS[name]:
        for path in _weight_files(folder, stem, name):
            _check_whole(path, name)


def listed(folder: Path) -> dict[Path, str]:
    """Files of a folder and their SHA-256, from SHA256SUMS beside it; empty if there is no such list."""
    sums = folder.parent / "SHA256SUMS"
    if not sums.is_file():
        return {}
    entries = (line.split("  ", 1) for line in sums.read_text(encoding="utf-8").splitlines())
    return {folder.parent / path: digest for digest, path in entries if path.startswith(f"{folder.name}/")}


def read_json(path: Path, name: str) -> dict[str, Any]:
    """The keys of a JSON file of a model. Raises InputError if it is missing, no JSON, or has no keys."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: a file of models.{name} cannot be read ({error.strerror}): expected a whole folder; {COPY}"
        ) from None
    except ValueError as error:
        raise InputError(
            f"{path}: a file of models.{name} is no JSON ({error}): expected a whole file; {COPY}"
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: a file of models.{name} has no keys: expected a JSON object; {COPY}")
    return content


def _check_wan(folder: Path) -> None:
    for part, keys in WAN_KEYS.items():
        path = folder / part / "config.json"
        for key in {*keys} - read_json(path, "wan").keys():
            raise InputError(f"{path}: a file of models.wan has no '{key}': expected that of a Wan2.1; {COPY}")


def _weight_files(folder: Path, stem: str, name: str) -> list[Path]:
    index = folder / f"{stem}.safetensors.index.json"
    if not index.is_file():
        return [folder / f"{stem}.safetensors"]
    shards = read_json(index, name).get("weight_map")
    if not (isinstance(shards, dict) and shards):
        raise InputError(f"{index}: a file of models.{name} names no weights: expected 'weight_map'; {COPY}")
    return [index.parent / shard for shard in sorted(set(shards.values()))]


def _check_whole(path: Path, name: str) -> None:
    """Checks that a safetensors file has the length that its header gives: 8 bytes for the length of the header, then
    the header, then the weights."""
    if not path.is_file():
        raise InputError(f"{path}: weights of models.{name} are missing: expected this file; {COPY}")
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, size)))
        weights = [entry for key, entry in header.items() if key != "__metadata__"]
        expected = 8 + length + max((entry["data_offsets"][1] for entry in weights), default=0)
    except (ValueError, AttributeError, LookupError, TypeError):
        raise InputError(f"{path}: weights of models.{name} are broken: expected a safetensors file; {COPY}") from None
    if size != expected:
        raise InputError(f"{path}: weights of models.{name} have {size} bytes: expected {expected}; {COPY}")


def _remedy(folder: Path) -> str:
    if folder.absolute().is_relative_to(ZOO.absolute()):
        return "'uv run snakemake --cores all -s workflow/zoo.smk' trains it, 'git checkout' restores the shipped one"
    return "correct the path, or copy it again"
