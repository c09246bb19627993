"""Commands of checkpoints and weights: import, export, export-lora, pin-weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bico.core.files import check_writable


def import_(checkpoint: Path, out: Path) -> None:
    """Convert a checkpoint of the authors' code to a binder, OUT, which `binder:` of a source can name."""
    from bico.methods.bico.released import import_checkpoint

    _written(import_checkpoint, checkpoint, out)


def export(artifact: Path, out: Path) -> None:
    """Write what the method bico learned of a source as a checkpoint for the authors' code."""
    from bico.methods.bico.released import export_checkpoint

    _written(export_checkpoint, artifact, out)


def export_lora(artifact: Path, out: Path) -> None:
    """Write what the method db_lora learned of a source as a LoRA for diffusers and ComfyUI."""
    from bico.methods.db_lora.export import export_lora

    _written(export_lora, artifact, out)


def _written(convert: Callable[[Path, Path], None], source: Path, out: Path) -> None:
    check_writable(out, reads=(source,))
    convert(source, out)


def pin_weights() -> None:
    """Rewrite config/weights.lock with the present revisions and checksums of all full-size models on their hub."""
    from bico.sources.weights import pin_all

    pin_all()
