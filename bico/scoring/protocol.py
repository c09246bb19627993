"""What a score is: a file in `bico/scoring/scores` with a class `Settings` (see `bico.config.scores`) and a class
`Score`, an object that is opened once for all clips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from bico.config.benchmark import Kind

if TYPE_CHECKING:
    import numpy as np

    from bico.config.schema import Config

T = TypeVar("T")


@dataclass(frozen=True, eq=False, kw_only=True)
class Shown:
    """Frames, and what scores compute from them.

    Attributes:
        frames: uint8 [T, H, W, 3].
    """

    frames: np.ndarray
    _computed: dict[Callable[[np.ndarray], Any], Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, compute: Callable[[np.ndarray], T]) -> T:
        """`compute(frames)`. It is computed once, no matter how many scores ask for it."""
        if compute not in self._computed:
            self._computed[compute] = compute(self.frames)
        return self._computed[compute]


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoredSource(Shown):
    """A source of a case. Its frames may be several photographs.

    Attributes:
        masks: the user's masks, float32 [T, H, W] in 0..1, white = 1; None if there are none. Only scores with `MASKS`
            may rely on them.
        spatial, temporal: its key words for looks and for motion, if it is a video. Only scores with `KEY_WORDS` may
            rely on them. They are not known for the clips that the authors published.
    """

    kind: Kind
    masks: np.ndarray | None = None
    spatial: Sequence[str] = ()
    temporal: Sequence[str] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoredClip(Shown):
    """A clip that is scored.

    Attributes:
        prompt: prompt of its case.
        bind: source -> the phrases of the prompt that are bound to it.
        sources: all sources that the case binds, by name.
        fps: frames per second.
    """

    prompt: str
    bind: Mapping[str, Sequence[str]]
    sources: Mapping[str, ScoredSource]
    fps: float

    def phrases(self) -> list[str]:
        """The bound phrases of all sources."""
        return [phrase for phrases in self.bind.values() for phrase in phrases]


@dataclass(frozen=True)
class Measured:
    """What a score says of a clip.

    Attributes:
        values: column -> a finite number. A column in which the clip has no score is left out.
        frames: values frame by frame, for `results/scores/<row>.frames.json`; any names that no other score uses.
    """

    values: Mapping[str, float]
    frames: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Shared:
    """What all scores of a benchmark share.

    Attributes:
        config: of the benchmark. A score reads from it where models are and how they see frames. A setting of the score
            itself belongs in its `Settings`, because the clips are scored again only when these change.
        device: device of all models.
    """

    config: Config
    device: str
    _opened: dict[Callable[[Config, str], Any], Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, open_model: Callable[[Config, str], T]) -> T:
        """`open_model(config, device)`. A model is opened once, no matter how many scores use it."""
        if open_model not in self._opened:
            self._opened[open_model] = open_model(self.config, self.device)
        return self._opened[open_model]


class Score(Protocol):
    """A score, opened as `Score(settings, shared)` with its own `Settings` and a `Shared`."""

    def measure(self, clip: ScoredClip) -> Measured:
        """The values of one clip by column."""
        ...
