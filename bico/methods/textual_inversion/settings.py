"""Settings of Textual Inversion."""

from typing import Literal, Self

from pydantic import Field

from bico.config.benchmark import Kind
from bico.config.methods import Kept, LearnedSettings, Steps
from bico.config.section import Positive, Rate


class Settings(LearnedSettings):
    """New vectors at the text encoder's input embedding, everything else frozen."""

    KEPT = Kept(clip=54, encodes=True, inverts=frozenset({"image", "video"}), captures=True)
    PAPER_ROW = 1
    DISPLAY_NAME = "Textual Inversion"

    method: Literal["textual_inversion"] = "textual_inversion"
    steps: Positive = Field(default=3000, description="Training steps of a source.")
    learning_rate: Rate = Field(
        default=7.4e-3,
        description=(
            "Learning rate of AdamW, relative to the standard deviation of the text encoder's embedding table: in a "
            "step each coordinate of a vector moves by about this share of the deviation. The default equals an "
            "absolute rate of 1e-4 for CLIP, whose embedding table has a standard deviation of 0.0135."
        ),
    )
    vectors: Positive = Field(default=1, description="Vectors in place of each key word.")
    weight_decay: float = Field(default=0.0, ge=0)

    def steps_of(self, kind: Kind) -> Steps:
        return Steps(self.steps, 0) if kind == "image" else Steps(0, self.steps)

    def shortened(self, steps: int) -> Self:
        return self.model_copy(update={"steps": steps})
