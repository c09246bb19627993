"""The artifact of BiCo for one source, with its origin and the backbone that it fits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from bico.core.errors import InputError
from bico.models.binder import HierarchicalBinder, Keys
from bico.models.binder_form import has_temporal_branch, misfit, num_blocks_in, width_of
from bico.models.wan.backbone import Backbone
from bico.training.artifacts import save_artifact
from bico.training.binders import load_binder

if TYPE_CHECKING:
    from bico.config.benchmark import Kind


@dataclass(frozen=True, eq=False, repr=False)
class LearnedBinder:
    """The binder of one source. Two are equal only if they are the same object, so it can be a key of a dict.

    Attributes:
        tensors: `HierarchicalBinder.state_dict`, and "absorption" [tokens, width] unless it was imported without.
        metadata: see `bico.training.artifacts.provenance`; "settings" is missing if it was imported.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]

    @classmethod
    def load(cls, path: Path) -> LearnedBinder:
        """Opens a safetensors file: an artifact of a benchmark, or a file of `save` or `bico import`.

        Raises:
            InputError: the file cannot be read, or holds no binder that is complete and finite.
        """
        return cls(*load_binder(path))

    def save(self, path: Path | str) -> None:
        """Writes the same safetensors file as a benchmark, atomically."""
        save_artifact(Path(path), self.tensors, self.metadata)

    @property
    def source(self) -> str:
        """Name of the source."""
        return self.metadata.get("source", "source")

    @property
    def kind(self) -> Kind | None:
        """Kind of the source; None for a binder of one branch without temporal decoupling, which fits both kinds."""
        if has_temporal_branch(self.tensors):
            return "video"
        return "image" if self._settings.get("temporal_decoupling", True) else None

    @property
    def keys(self) -> Keys:
        """Which tokens the keys of the cross-attention come from."""
        return self._settings.get("attention_keys", "bound")

    @property
    def _settings(self) -> dict[str, Any]:
        """Settings of its training; {} if it was imported."""
        return json.loads(self.metadata.get("settings", "{}"))

    @property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}

    @property
    def width(self) -> int:
        """Width of the backbone's tokens."""
        return width_of(self._shapes)

    @property
    def num_blocks(self) -> int:
        """Number of blocks of the backbone; 0 if there is only a global binder, which fits any number."""
        return num_blocks_in(self.tensors)

    def on(self, backbone: Backbone) -> HierarchicalBinder:
        """The networks of the binder, float32, in main memory.

        Raises:
            InputError: it was learned on a backbone of another width or number of blocks.
        """
        if reason := misfit(self._shapes, backbone.width, backbone.num_blocks):
            raise InputError(f"{self!r}: does not fit {backbone.folder}: it {reason}: learn it on this backbone")
        return HierarchicalBinder.from_tensors(self.tensors, backbone.num_blocks, keys=self.keys)

    def __repr__(self) -> str:
        kind, blocks = self.kind or "image or video", self.num_blocks or "any number of"
        return f"binder of {self.source} ({kind}, width {self.width}, {blocks} blocks)"
