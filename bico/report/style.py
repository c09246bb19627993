"""The style of all plots and figures, and how they are written: the same data give the same bytes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font

from bico.core.files import replacing

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

log = logging.getLogger(__name__)

# Okabe and Ito's palette, which is safe for colour-blind readers: one colour a source, in the order of the binding.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, PAPER, GREY = "#222222", "#F2F2F2", "#767676"
FONT = "DejaVu Sans"  # it comes with matplotlib
STYLE: dict[RcKeyType, Any] = {
    "font.size": 9,
    "text.color": INK,
    "figure.facecolor": "white",
    "pdf.fonttype": 42,  # letters stay letters
    "text.parse_math": False,  # "$5" in a prompt is no formula
}
STAMPS = {"png": ["Software"], "pdf": ["Creator", "Producer", "CreationDate"]}  # versions and times, not written


@contextmanager
def styled(texts: Iterable[str], more: Mapping[RcKeyType, Any] = {}) -> Iterator[None]:
    """Everything drawn inside has the common style and fonts for these texts. A notice names letters without a font."""
    families, unknown = fonts("".join(texts))
    drawing: dict[RcKeyType, Any] = {**STYLE, **more, "font.family": families}
    with matplotlib.rc_context(drawing), warnings.catch_warnings():
        if unknown:
            log.warning(
                "notice: no installed font has %s: pictures show boxes instead; install a font with them", unknown
            )
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        if len(families) > 1:
            logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # few fonts have all weights
        yield


def fonts(text: str) -> tuple[list[str], str]:
    """Font families that can draw a text together, the default one first, and the letters that no font has."""
    missing = {letter for letter in text if letter.isprintable()} - _letters(font_manager.findfont(FONT))
    families = [FONT]
    if not missing:
        return families, ""
    installed = {path: missing & _letters(path) for path in sorted(font_manager.findSystemFonts())}
    while best := max(installed, key=lambda path: len(installed[path] & missing), default=None):
        if not installed[best] & missing:
            break
        missing -= installed[best]
        font_manager.fontManager.addfont(best)
        families.append(FT2Font(best).family_name)
    return families, "".join(sorted(missing))


@cache
def _letters(path: str) -> frozenset[str]:
    """The letters of a font; none if matplotlib cannot open it."""
    try:
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()


def save(figure: Figure, path: Path) -> Path:
    """Writes a .png or a .pdf. The same figure gives the same bytes."""
    kind = path.suffix[1:]
    with replacing(path) as unfinished:
        figure.savefig(unfinished, format=kind, metadata=dict.fromkeys(STAMPS[kind]))
    return path


def save_pair(figure: Figure, path: Path) -> list[Path]:
    """Writes a PNG for the screen, and beside it a PDF for print."""
    return [save(figure, path.with_suffix(f".{kind}")) for kind in ("png", "pdf")]
