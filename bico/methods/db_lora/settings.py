"""Settings of DB-LoRA."""

from typing import Literal, Self

from pydantic import Field

from bico.config.benchmark import Kind
from bico.config.methods import BackboneShape, Kept, LearnedSettings, Steps
from bico.config.section import Positive


class Settings(LearnedSettings):
    """DreamBooth-LoRA: rare-token prompts, the LoRAs of a case merged at inference."""

    COMPOSE_KEYS = frozenset({"merge_weight"})
    KEPT = Kept(still=52, clip=113, encodes=True, copies=True)
    PAPER_ROW = 2
    DISPLAY_NAME = "DB-LoRA"

    method: Literal["db_lora"] = "db_lora"
    steps: Positive = Field(default=1000, description="Training steps of a source.")
    rank: Positive = Field(default=32, description="Rank of the LoRA of an image; its alpha is the rank.")
    video_rank: Positive = Field(default=64, description="Rank of the LoRA of a video; its alpha is the rank.")
    rare_token: str = Field(
        default="sks",
        description=(
            "Rare token before the class word in training, and once for each source in the target prompt; empty = no "
            "token."
        ),
    )
    merge_weight: float = Field(
        default=1.0, ge=0, description="Weight of each LoRA when those of a case are merged, at inference."
    )

    def steps_of(self, kind: Kind) -> Steps:
        return Steps(self.steps, 0) if kind == "image" else Steps(0, self.steps)

    def parameters(self, kind: Kind, backbone: BackboneShape) -> int:
        # Four layers of each of two attentions, and two feed-forward layers: see `learn.LAYERS`.
        ends = 8 * 2 * backbone.width + 2 * (backbone.width + backbone.ffn_width)
        return backbone.num_blocks * (self.rank if kind == "image" else self.video_rank) * ends

    def shortened(self, steps: int) -> Self:
        return self.model_copy(update={"steps": steps})
