"""The rows of the table: one module a method.

Each module says what it learns from (`LEARNS_PER`: "nothing", "source" or "case") and holds

    learn(backbone, encoded, settings, *, shift, seed, workdir, progress) -> tensors of the artifact
    compose(backbone, jobs, settings, sampling, media) -> iterator of (job, clip)

`encoded` is the `EncodedSource`, or a dict of them by source id where a method learns per case. Methods that learn
nothing have no `learn`.
"""

from importlib import import_module
from types import ModuleType

from bico.config import METHOD_SETTINGS


def method(name: str) -> ModuleType:
    """The module of a method that the config knows."""
    if name not in METHOD_SETTINGS:
        raise KeyError(name)
    return import_module(f"bico.methods.{name}")
