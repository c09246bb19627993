"""Settings of copying."""

from typing import Literal

from bico.config.methods import MethodSettings
from bico.config.settings import Sampling


class Settings(MethodSettings):
    """Control: the frames of a source, which show how a metric rewards copying."""

    OPENS_BACKBONE = False
    DISPLAY_NAME = "Copied frames"
    CONTROL = "the unchanged frames of one source: the score of a copy"

    method: Literal["copy"] = "copy"

    def denoising_passes(self, sampling: Sampling) -> int:
        return 0
