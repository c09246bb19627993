"""The interface of a method, and how it is found by its name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bico.config.methods import module_of

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from bico.config.settings import Media, Sampling
    from bico.models.wan.backbone import Backbone
    from bico.plan.clips import Job
    from bico.sources.encoding import EncodedSource
    from bico.training.loop import Preview


class Learn(Protocol):
    """`learn` of a method."""

    def __call__(
        self,
        backbone: Backbone,
        encoded: EncodedSource | Mapping[str, EncodedSource],
        settings: Any,
        *,
        shift: float,
        seed: int,
        workdir: Path,
        progress: str = "",
        preview: Preview | None = None,
    ) -> dict[str, Tensor]:
        """Trains the artifact of one source, or of one case.

        Args:
            encoded: the source; where the method learns per case, its sources by name.
            settings: the method's own.
            shift: timestep shift of the noise schedule in training.
            seed: seed of all randomness.
            workdir: for checkpoints and metrics; a call that finds a checkpoint there continues from it.
            progress: label of the progress lines; "" for none.
            preview: passed to `fit`, which calls it every `settings.preview_every` steps; None = never.

        Returns:
            Tensors by name, in main memory.
        """
        ...


class Compose(Protocol):
    """`compose` of a method."""

    def __call__(
        self, backbone: Backbone | None, jobs: Iterable[Job], settings: Any, sampling: Sampling, media: Media
    ) -> Iterator[tuple[Job, np.ndarray]]:
        """Makes the clip of each job, in order: uint8 [T, H, W, 3]. The backbone is None where `OPENS_BACKBONE` is
        False."""
        ...


def learn_of(method: str) -> Learn:
    """The function `learn` of a method that the config has accepted."""
    return import_module(module_of(method, "learn")).learn


def compose_of(method: str) -> Compose:
    """The function `compose` of a method that the config has accepted."""
    return import_module(module_of(method, "compose")).compose
