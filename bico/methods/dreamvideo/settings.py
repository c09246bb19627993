"""Settings of DreamVideo."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field

from bico.config.benchmark import Kind
from bico.config.methods import BackboneShape, Kept, LearnedSettings, Steps
from bico.config.section import Positive, Rate, Share


class Settings(LearnedSettings):
    """Vectors and an identity adapter for an image, a motion adapter for a video, all active together."""

    COMPOSE_KEYS = frozenset({"guidance_scale"})
    APPEARANCE = True
    KEPT = Kept(clip=54, encodes=True, inverts=frozenset({"image"}))
    PAPER_ROW = 3
    DISPLAY_NAME = "DreamVideo"

    method: Literal["dreamvideo"] = "dreamvideo"
    inversion_steps: Positive = Field(
        default=3000, description="Textual inversion steps of an image, before its adapter."
    )
    inversion_rate: Rate = Field(
        default=7.4e-3,
        description=(
            "Learning rate of the textual inversion, relative to the standard deviation of the text encoder's "
            "embedding table, like that of textual_inversion."
        ),
    )
    vectors: Positive = Field(default=1, description="Vectors in place of each key word.")
    identity_steps: Positive = Field(default=1000, description="Training steps of the adapter of an image.")
    motion_steps: Positive = Field(default=1000, description="Training steps of the adapter of a video.")
    learning_rate: Rate = Field(default=1e-5, description="Learning rate of the adapters (AdamW).")
    weight_decay: float = Field(default=0.0, ge=0)
    batch_size: Positive = Field(
        default=4,
        description="Batch size. Long clips pass through the model one by one, and their gradients are added.",
    )
    text_dropout: Share = Field(
        default=0.5, description="Share of the captions of a video that are left empty in training."
    )
    guidance_scale: float | None = Field(
        default=9.0, ge=1, description="Scale of classifier-free guidance of this method; null = that of `sampling`."
    )

    def unsupported(self, kinds: Sequence[Kind]) -> str | None:
        missing = [kind for kind in ("image", "video") if kind not in kinds]
        return f"takes an image and a video: no {missing[0]} is bound" if missing else None

    def steps_of(self, kind: Kind) -> Steps:
        if kind == "image":
            return Steps(self.inversion_steps + self.identity_steps, 0)
        return Steps(0, self.motion_steps)

    def parameters(self, kind: Kind, backbone: BackboneShape) -> int:
        width, hidden = backbone.width, backbone.width // 2
        adapter = 2 * width * hidden + hidden + width
        layers = 1 if kind == "image" else 2  # see `adapters.LAYERS`; those of a video get the appearance
        return backbone.num_blocks * layers * (adapter + (layers - 1) * backbone.appearance_width * width)

    def shortened(self, steps: int) -> Self:
        names = ("inversion_steps", "identity_steps", "motion_steps")
        return self.model_copy(update=dict.fromkeys(names, steps))
