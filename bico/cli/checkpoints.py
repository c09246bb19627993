"""Commands of checkpoints and weights: import, export, export-lora, pin-weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bico.core.files import check_writable


def import_(checkpoint: Path, out: Path) -> None:
    """Convert a checkpoint of the authors' code to OUT, an artifact of the method bico."""
    from bico.methods.bico.released import import_checkpoint

    _written(import_checkpoint, checkpoint, out)


def export(artifact: Path, out: Path) -> None:
    """Convert an artifact of the method bico to a checkpoint for the authors' code."""
    from bico.methods.bico.released import export_checkpoint

    _written(export_checkpoint, artifact, out)


def export_lora(artifact: Path, out: Path) -> None:
    """Convert an artifact of the method db_lora to a LoRA for diffusers and ComfyUI."""
    from bico.methods.db_lora.export import export_lora

    _written(export_lora, artifact, out)


def _written(convert: Callable[[Path, Path], None], source: Path, out: Path) -> None:
    check_writable(out, reads=(source,))
    convert(source, out)


def pin_weights() -> None:
    """Write config/weights.lock anew: the hub's present revisions and checksums of all models of full size."""
    from bico.sources.weights import pin_all

    pin_all()
