"""Settings of BiCo and its variants."""

from typing import Literal, Self

from pydantic import Field

from bico.config.benchmark import Kind
from bico.config.methods import BackboneShape, LearnedSettings, Steps
from bico.config.section import Count, Positive, Rate, Section, Share


class Noise(Section):
    """Noise levels of two-stage inverted training."""

    inversion: Literal["position", "sigma", "released", "none"] = Field(
        default="position",
        description=(
            "How stage global draws noise levels. position = a share beta of the draws has a position of at least "
            "alpha in the schedule (1 = pure noise); sigma = that share has a sigma of at least alpha; none = uniform "
            "over the schedule. In these three, stage all draws uniformly. released = the authors' code: in stage "
            "global 0.8 of the draws have a sigma of at most 0.417 (with shift 5), in stage all 0.8 have a larger one."
        ),
    )
    alpha: Share = Field(
        default=0.875, description="Where the noisy part of the schedule begins; for position and sigma."
    )
    beta: Share = Field(default=0.875, description="Share of the draws in that part; for position and sigma.")


class Absorption(Section):
    """Absorption tokens, of the Diversify-and-Absorb Mechanism."""

    tokens: Count = Field(default=1, description="Number of tokens; 0 = off.")
    slot: Literal["append", "eos"] = Field(
        default="append",
        description=(
            "Where they stand: append = after the caption, as in the paper; eos = in place of its end-of-sequence "
            "token, as in the authors' code."
        ),
    )
    learning_rate: Rate | None = Field(
        default=None, description="Learning rate of the tokens; null = that of the binders."
    )


class Isolation(Section):
    """Training steps against leaks, which are ours."""

    share: float = Field(default=0.0, ge=0, lt=1, description="Share of the training steps; 0 = off, as in the paper.")
    weight: float = Field(default=1.0, gt=0, description="Weight of the loss of these steps.")


class Stages(Section):
    """Steps of the two-stage training: first the global binder alone, then global and per-block binders."""

    global_steps: Count = Field(default=2400, description="Steps of stage global; 0 = one stage only.")
    all_steps: Positive = Field(default=2400, description="Steps of stage all.")

    @property
    def total(self) -> int:
        return self.global_steps + self.all_steps


class Settings(LearnedSettings):
    """Binders after the text projection, trained in two stages, composed by token masks."""

    COMPOSE_KEYS = frozenset({"strength"})
    BINDS_WORDS = True
    PAPER_ROW = 5

    method: Literal["bico"] = "bico"
    stages: Stages = Field(
        default=Stages(), description="Training steps on an image, and on the single frames of a video."
    )
    clip_stages: Stages = Field(
        default=Stages(), description="Training steps on the whole clip of a video, after its single frames."
    )
    noise: Noise = Field(
        default=Noise(),
        description=(
            "Noise levels of two-stage inverted training: stage global trains the global binder at high noise, then "
            "stage all trains all binders."
        ),
    )
    timestep_weighting: Literal["none", "diffsynth"] = Field(
        default="none",
        description=(
            "Weight of the loss by noise level: none, or diffsynth = a Gaussian around sigma 0.5, as in the authors' "
            "code."
        ),
    )
    absorption: Absorption = Field(
        default=Absorption(),
        description=(
            "Learnable tokens that take up what the words of a caption do not name. They are dropped at inference "
            "(Diversify-and-Absorb Mechanism)."
        ),
    )
    binds: Literal["all", "key_words"] = Field(
        default="all",
        description=(
            "Words of a caption that pass through the binder in training: all, as in the paper, or key_words = only "
            "its key words."
        ),
    )
    isolation: Isolation = Field(
        default=Isolation(),
        description=(
            "An addition of ours: training steps that bind a single key word and penalise what it changes at places to "
            "which the frozen backbone does not attend for that word."
        ),
    )
    hierarchical: bool = Field(
        default=True, description="Whether each block has a binder of its own beside the global one."
    )
    diversification: bool = Field(
        default=True,
        description=(
            "Whether training uses all captions of a source; false = only the first, and only the first frame caption."
        ),
    )
    temporal_decoupling: bool = Field(
        default=True,
        description=(
            "Whether a video trains on its single frames first, then on the clip with a gated temporal branch "
            "(Temporal Disentanglement Strategy); false = on the clip alone."
        ),
    )
    gate: Literal["learned", "released"] = Field(
        default="learned",
        description=(
            "Gate of the temporal branch. learned = one number per token, zero at the start; released = the authors' "
            "code, a softmax over one logit. It is constant, so the branch never trains."
        ),
    )
    gate_learning_rate: Rate | None = Field(
        default=None,
        description=(
            "Learning rate of the learned gate; null = that of the binders. The gate sums over all channels of a "
            "token, so at the same rate it may change up to `width` times as fast as a binder's scale gamma."
        ),
    )
    strength: float = Field(
        default=1.0,
        ge=0,
        description="Factor on what the binders add to a token, at inference: 0 = the plain prompt, 1 = as trained.",
    )

    def steps_of(self, kind: Kind) -> Steps:
        if kind == "image":
            return Steps(self.stages.total, 0)
        return Steps(self.stages.total if self.temporal_decoupling else 0, self.clip_stages.total)

    def forward_passes(self) -> float:
        return self.isolation.share

    def parameters(self, kind: Kind, backbone: BackboneShape) -> int:
        width = backbone.width
        branch = 2 * width**2 + 6 * width  # two linear and two normalisation layers
        binder = branch + 1  # gamma
        if kind == "video" and self.temporal_decoupling:
            binder += branch + 3 * width + 1  # the temporal branch and its gate
        return binder * (1 + (backbone.num_blocks if self.hierarchical else 0))

    def shortened(self, steps: int) -> Self:
        few = Stages(global_steps=steps, all_steps=steps)
        return self.model_copy(update={"stages": few, "clip_stages": few, "isolation": Isolation()})

    def measured(self, steps: int, kind: Kind, num_blocks: int) -> Self:
        last = Stages(global_steps=0, all_steps=steps)  # all binders learn, two branches each if it is a clip
        none = Stages.model_construct(global_steps=0, all_steps=0)  # no clip's single frames: they compile a graph, too
        return self.model_copy(update={"stages": last if kind == "image" else none, "clip_stages": last})
