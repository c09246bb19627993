"""The rows of the table: one module a method.

Each module holds

    learn(backbone, encoded, settings, *, shift, seed, workdir, progress) -> tensors of the artifact
    compose(backbone, jobs, settings, sampling, media) -> iterator of (job, clip)

`encoded` is the `EncodedSource`, or a dict of them by source id where a method learns per case; methods that learn
nothing have no `learn` (the settings' `LEARNS_PER` says which). Which cases a method cannot take the settings'
`unsupported` says, before anything is learned for them.
"""

from importlib import import_module
from types import ModuleType


def method(name: str) -> ModuleType:
    """The module of a method whose name the config has accepted."""
    return import_module(f"bico.methods.{name}")
