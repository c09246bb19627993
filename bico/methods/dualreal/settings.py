"""Settings of DualReal."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from bico.config.benchmark import Kind
from bico.config.methods import BackboneShape, Kept, LearnedSettings, Steps
from bico.config.section import Count, Positive, Rate, problem
from bico.methods.dualreal.constants import MOTION_SHARE


def _two_numbers(betas: Any, check: ValidatorFunctionWrapHandler) -> Any:
    try:
        return check(betas)
    except ValidationError:
        raise problem(
            "expected two numbers from 0 to below 1, as in [0.9, 0.95], got {it}", it=str(betas)[:60]
        ) from None


Beta = Annotated[float, Field(ge=0, lt=1)]
Betas = Annotated[tuple[Beta, Beta], WrapValidator(_two_numbers)]


class Settings(LearnedSettings):
    """Identity and motion adapters of one image and one video, trained together and weighted by a controller."""

    LEARNS_PER = "case"
    COMPOSE_KEYS = frozenset({"guidance_scale"})
    APPEARANCE = True
    KEPT = Kept(still=30, clip=52, whole=True)
    PAPER_ROW = 4
    DISPLAY_NAME = "DualReal"

    method: Literal["dualreal"] = "dualreal"
    steps: Positive = Field(
        default=1000, description="Training steps of a case: on average half on its image, half on its video."
    )
    warm_up: Count = Field(
        default=200, description="Steps of linear warm-up of the learning rate, which then falls as a cosine."
    )
    learning_rate: Rate = Field(default=1e-3, description="Learning rate of AdamW at the end of the warm-up.")
    weight_decay: float = Field(default=1e-4, ge=0)
    betas: Betas = Field(
        default=(0.9, 0.95), description="Decay rates of AdamW's averages of the gradient and of its square."
    )
    batch_size: Positive = Field(default=1, description="Batch size of the steps on the video.")
    identity_batch_size: Positive = Field(default=3, description="Batch size of the steps on the image.")
    clip_norm: float = Field(
        default=1.0, gt=0, description="Largest norm of the gradient of a step; a larger one is clipped."
    )
    bottleneck: Positive = Field(default=64, description="Hidden width of the adapters.")
    controller_width: Positive = Field(
        default=512, description="Hidden width of the controller, which weights the identity and the motion adapter."
    )
    decision_width: Positive = Field(
        default=128, description="Width of the controller's last hidden layer, from which the weights come."
    )
    groups: Positive = Field(
        default=5,
        description=(
            "Number of groups of blocks, each with one weight from the controller. It must divide the number of blocks "
            "(30 in Wan2.1-1.3B; the original has 7 groups of 42 blocks)."
        ),
    )
    guidance_scale: float | None = Field(
        default=6.0, ge=1, description="Scale of classifier-free guidance of this method; null = that of `sampling`."
    )

    @model_validator(mode="after")
    def _reaches_its_rate(self) -> Self:
        if self.warm_up >= self.steps:
            raise problem(
                "warm_up: {warm_up} steps, but only {steps} 'steps', none with the full learning rate: expected fewer",
                warm_up=self.warm_up,
                steps=self.steps,
            )
        return self

    def unsupported(self, kinds: Sequence[Kind]) -> str | None:
        images, videos = kinds.count("image"), kinds.count("video")
        return None if images == videos == 1 else f"takes one image and one video, not {images} and {videos}"

    def misfit(self, num_blocks: int) -> str | None:
        if num_blocks % self.groups == 0:
            return None
        fitting = ", ".join(str(count) for count in range(1, num_blocks + 1) if num_blocks % count == 0)
        return f"groups: {self.groups} does not divide the {num_blocks} blocks of models.wan: expected one of {fitting}"

    def steps_of(self, kind: Kind) -> Steps:
        motion = MOTION_SHARE * self.steps
        return Steps(self.steps - motion, motion)

    @property
    def still_batch_size(self) -> int:
        return self.identity_batch_size

    def parameters(self, kind: Kind, backbone: BackboneShape) -> int:
        width, hidden, inside, last = backbone.width, self.bottleneck, self.controller_width, self.decision_width
        adapter = 2 * width * hidden + hidden + width
        pair = 2 * adapter + backbone.appearance_width * width  # the motion adapter gets the appearance
        # Summary, modulation, normalisation, mixing, decision and output: see `bico.methods.dualreal.adapters`.
        controller = 4 * (width + 1) * inside + 2 * inside + (8 * inside + 5) * inside + (inside + 1) * last
        return 2 * backbone.num_blocks * pair + controller + (last + 1) * self.groups

    def shortened(self, steps: int) -> Self:
        return self.model_copy(update={"steps": 2 * steps, "warm_up": 1})

    def measured(self, steps: int, kind: Kind, num_blocks: int) -> Self:
        # The measurement uses an image and a video of the same length.
        size = self.identity_batch_size if kind == "image" else self.batch_size
        sizes = {"batch_size": size, "identity_batch_size": size}
        return self.shortened(steps).model_copy(update={"groups": math.gcd(self.groups, num_blocks), **sizes})
