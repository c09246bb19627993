"""Settings of the plain prompt."""

from typing import Literal

from bico.config.methods import MethodSettings


class Settings(MethodSettings):
    """Control: the plain prompt on the frozen backbone."""

    DISPLAY_NAME = "Plain prompt"
    CONTROL = "the backbone alone: nothing is learned, and no source is seen"

    method: Literal["base"] = "base"
