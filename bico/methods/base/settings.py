"""Settings of the plain prompt."""

from typing import Literal

from bico.config.methods import MethodSettings


class Settings(MethodSettings):
    """Control: the plain prompt on the frozen backbone."""

    DISPLAY_NAME = "Plain prompt"
    CONTROL = "the frozen backbone without training and without sources"

    method: Literal["base"] = "base"
