"""Settings of copying."""

from typing import Literal

from bico.config.methods import MethodSettings
from bico.config.settings import Sampling


class Settings(MethodSettings):
    """Control: a source's own frames, which shows what a metric rewards for copying."""

    DISPLAY_NAME = "Copied frames"
    OPENS_BACKBONE = False
    CONTROL = "the frames of one source, unchanged: what a score gives for copying"

    method: Literal["copy"] = "copy"

    def denoising_passes(self, sampling: Sampling) -> int:
        return 0
