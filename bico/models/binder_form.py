"""Names and shapes of a binder's tensors, for checks before a run, which do not import torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from bico.core.errors import InputError

Shape = tuple[int, ...]

WIDTH = "shared.spatial.0.weight"
"""The tensor whose shape gives the width of the tokens."""
HIDDEN = "shared.spatial.1.weight"
"""The tensor whose first dimension is the width of the hidden layers, the rank of the binder's matrices."""
ABSORPTION = "absorption"
"""The tensor of the absorption tokens, [tokens, width]."""
EXPECTED = "what BiCo learned, or `bico import` wrote"


def form(path: Path, found: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shapes that a binder must have, given the names of the tensors in its file; see `bico.models.binder`.

    Raises InputError if a tensor that gives the width of its tokens or of its hidden layers is missing.
    """
    if len(found.get(WIDTH, ())) != 1 or len(found.get(HIDDEN, ())) != 2:
        raise InputError(f"{path}: there is no binder in it: expected {EXPECTED}")
    width = width_of(found)
    mlp = _mlp(width, found[HIDDEN][0])
    parts = {"spatial": mlp}
    if has_temporal_branch(found):
        gate = "softmax_gate" if has_released_gate(found) else "gate"
        parts |= {"temporal": mlp, gate: _norm(0, width) | {"1.weight": (1, width), "1.bias": (1,)}}
    binder: dict[str, Shape] = {"gamma": ()}
    binder |= {f"{part}.{name}": shape for part, shapes in parts.items() for name, shape in shapes.items()}
    places = ["shared", *(f"blocks.{number}" for number in range(num_blocks_in(found)))]
    tokens = found.get(ABSORPTION, ())[:1] or (0,)
    return {f"{place}.{name}": shape for place in places for name, shape in binder.items()} | {
        ABSORPTION: (*tokens, width)
    }


def width_of(shapes: Mapping[str, Shape]) -> int:
    """Width of the tokens that a binder changes."""
    return shapes[WIDTH][0]


def has_temporal_branch(names: Collection[str]) -> bool:
    """Whether a binder with tensors of these names has two branches, as that of a video has."""
    return "shared.temporal.0.weight" in names


def has_released_gate(names: Collection[str]) -> bool:
    """Whether its two branches are mixed as in the authors' code; see `bico.models.binder.ReleasedBinder`."""
    return "shared.softmax_gate.1.weight" in names


def num_blocks_in(names: Iterable[str]) -> int:
    """Number of blocks of its backbone; 0 if there is only a global binder, which fits any number."""
    return len({name.split(".")[1] for name in names if name.startswith("blocks.")})


def misfit(shapes: Mapping[str, Shape], width: int, num_blocks: int) -> str | None:
    """Why a binder does not fit a backbone of this form; None if it does."""
    found = width_of(shapes), num_blocks_in(shapes)
    if found[0] == width and found[1] in (0, num_blocks):
        return None
    return f"has width {found[0]} and {found[1]} blocks: expected width {width} and {num_blocks} blocks"


def compare_shapes(
    path: Path, found: Mapping[str, Shape], wanted: Mapping[str, Shape], *, optional: str, expected: str
) -> None:
    """Checks that a file has exactly the wanted tensors, each with its shape.

    Args:
        optional: the one that may be missing.
        expected: what the file should be, for the error.

    Raises:
        InputError: a tensor is missing, unknown or of another shape.
    """
    problems = {
        "missing": sorted(wanted.keys() - found.keys() - {optional}),
        "unknown": sorted(found.keys() - wanted.keys()),
        "of another shape": [
            f"{name} {list(found[name])} instead of {list(shape)}"
            for name, shape in wanted.items()
            if found.get(name, shape) != shape
        ],
    }
    for problem, names in problems.items():
        if names:
            raise InputError(f"{path}: {problem}: {listed(names)}: expected {expected}, whole")


def listed(names: Sequence[str]) -> str:
    """The first of the names, and the number of further ones."""
    return f"{names[0]} (and {len(names) - 1} more)" if names[1:] else names[0]


def _mlp(width: int, rank: int) -> dict[str, Shape]:
    return _norm(0, width) | _linear(1, width, rank) | _linear(3, rank, width) | _norm(4, width)


def _linear(place: int, inputs: int, outputs: int) -> dict[str, Shape]:
    return {f"{place}.weight": (outputs, inputs), f"{place}.bias": (outputs,)}


def _norm(place: int, width: int) -> dict[str, Shape]:
    return {f"{place}.weight": (width,), f"{place}.bias": (width,)}
