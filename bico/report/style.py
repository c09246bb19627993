"""The house style of all plots and pictures, and how they are written: the same data give the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from bico.core.files import replacing

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

# Okabe and Ito's palette, told apart by every kind of colour vision: one colour a source, in the order of the binding.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, PAPER = "#222222", "#F2F2F2"
STYLE: dict[RcKeyType, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "figure.facecolor": "white",
}
STAMPS = {"png": ["Software"], "pdf": ["Creator", "Producer", "CreationDate"]}  # versions and times: left out


def save(figure: Figure, path: Path) -> Path:
    """Writes a .png or a .pdf, the same bytes every time."""
    kind = path.suffix[1:]
    with replacing(path) as unfinished:
        figure.savefig(unfinished, format=kind, metadata=dict.fromkeys(STAMPS[kind]))
    return path


def save_pair(figure: Figure, path: Path) -> list[Path]:
    """Writes a PNG to look at, and beside it a PDF to print."""
    return [save(figure, path.with_suffix(f".{kind}")) for kind in ("png", "pdf")]
