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
from typing import Any

from bico.config.schema import BicoSettings, DualRealSettings, Isolation, MethodSettings, Stages


def method(name: str) -> ModuleType:
    """The module of a method whose name the config has accepted."""
    return import_module(f"bico.methods.{name}")


def shortened(settings: MethodSettings, steps: int) -> MethodSettings:
    """The same method with few steps in each stage, all of them plain ones."""
    if isinstance(settings, BicoSettings):
        few = Stages(global_steps=steps, all_steps=steps)
        changes: dict[str, Any] = {"stages": few, "clip_stages": few, "isolation": Isolation()}
    elif isinstance(settings, DualRealSettings):
        changes = {"steps": 2 * steps, "warm_up": 1}
    else:
        names = ("steps", "inversion_steps", "identity_steps", "motion_steps")
        changes = {name: steps for name in names if hasattr(settings, name)}
    return settings.model_copy(update=changes)
