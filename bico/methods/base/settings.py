"""Settings of the plain prompt."""

from typing import Literal

from bico.config.methods import MethodSettings


class Settings(MethodSettings):
    """Control: the plain prompt on the frozen backbone."""

    method: Literal["base"] = "base"
