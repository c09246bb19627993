"""What BiCo learned of one source, as it stands in its file: where it comes from, and which backbone it fits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from torch import Tensor

from bico.core.errors import InputError
from bico.models.binder import HierarchicalBinder
from bico.models.wan.backbone import Backbone
from bico.training.artifacts import load_artifact, save_artifact

if TYPE_CHECKING:
    from bico.config.benchmark import Kind

WIDTH = "shared.spatial.0.weight"
"""The tensor that tells the width of the tokens."""


@dataclass(frozen=True, eq=False, repr=False)
class LearnedBinder:
    """The binder of one source. Two of them are equal only if they are the same object, so it can be a key of a dict.

    Attributes:
        tensors: `HierarchicalBinder.state_dict`, and "absorption" [tokens, width] unless it was imported without.
        metadata: see `bico.training.artifacts.provenance`; "settings" is missing if it was imported.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]

    @classmethod
    def load(cls, path: Path) -> LearnedBinder:
        """Opens a safetensors file: an artifact of a benchmark, what `save` wrote, or what `bico import` wrote.

        Raises:
            InputError: the file cannot be read, or there is no binder in it.
        """
        try:
            tensors, metadata = load_artifact(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error}): expected the file of a binder") from None
        except (SafetensorError, TypeError, KeyError):  # the latter two: without our metadata
            tensors, metadata = {}, {}
        if WIDTH not in tensors:
            raise InputError(f"{path}: there is no binder in it: expected what BiCo learned, or `bico import` wrote")
        return cls(tensors, metadata)

    def save(self, path: Path | str) -> None:
        """Writes the safetensors file, atomically: the one that a benchmark would have written."""
        save_artifact(Path(path), self.tensors, self.metadata)

    @property
    def source(self) -> str:
        """Name of the source."""
        return self.metadata["source"]

    @property
    def kind(self) -> Kind | None:
        """What the source is; None if it was learned by one branch without temporal decoupling, as both kinds are."""
        if "shared.temporal.0.weight" in self.tensors:
            return "video"
        settings = json.loads(self.metadata.get("settings", "{}"))
        return "image" if settings.get("temporal_decoupling", True) else None

    @property
    def width(self) -> int:
        """Of the backbone's tokens."""
        return self.tensors[WIDTH].shape[0]

    @property
    def num_blocks(self) -> int:
        """Blocks of the backbone; 0 if there is a global binder alone, which fits any number."""
        return len({name.split(".")[1] for name in self.tensors if name.startswith("blocks.")})

    def on(self, backbone: Backbone) -> HierarchicalBinder:
        """The networks, float32, in main memory.

        Raises:
            InputError: it was learned on a backbone of another width or number of blocks.
        """
        if self.width != backbone.width or self.num_blocks not in (0, backbone.num_blocks):
            raise InputError(
                f"{self!r}: does not fit {backbone.folder}: expected width {backbone.width} and {backbone.num_blocks} "
                "blocks: learn it on this backbone"
            )
        return HierarchicalBinder.from_tensors(self.tensors, backbone.num_blocks)

    def __repr__(self) -> str:
        kind, blocks = self.kind or "image or video", self.num_blocks or "any number of"
        return f"binder of {self.source} ({kind}, width {self.width}, {blocks} blocks)"
