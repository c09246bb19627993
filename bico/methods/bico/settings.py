"""Settings of BiCo and its variants."""

import json
from typing import Literal, Self

from pydantic import Field, model_validator

from bico.config.benchmark import Kind
from bico.config.methods import BackboneShape, Kept, LearnedSettings, Steps
from bico.config.section import Count, Positive, Rate, Section, Share, problem


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
    """Absorption tokens of the Diversify-and-Absorb Mechanism."""

    tokens: Count = Field(default=1, description="Number of tokens; 0 = off.")
    slot: Literal["append", "eos"] = Field(
        default="append",
        description=(
            "Position of the tokens: append = after the caption, as in the paper; eos = in place of its "
            "end-of-sequence token, as in the authors' code."
        ),
    )
    learning_rate: Rate | None = Field(
        default=None, description="Learning rate of the tokens; null = that of the binders."
    )


class Isolation(Section):
    """Training steps against leaks, an addition of ours."""

    share: float = Field(default=0.0, ge=0, lt=1, description="Share of the training steps; 0 = off, as in the paper.")
    weight: float = Field(default=1.0, gt=0, description="Weight of the loss of these steps.")


class Stages(Section):
    """Steps of the two-stage training: first only the global binder, then global and per-block binders."""

    global_steps: Count = Field(default=2400, description="Steps of stage global; 0 = one stage only.")
    all_steps: Positive = Field(default=2400, description="Steps of stage all.")

    @property
    def total(self) -> int:
        return self.global_steps + self.all_steps


class Settings(LearnedSettings):
    """Binders after the text projection, trained in two stages, composed by token masks."""

    COMPOSE_KEYS = frozenset({"strength"})
    BINDS_WORDS = True
    KEPT = Kept(captures=True)
    PAPER_ROW = 5
    DISPLAY_NAME = "BiCo"

    method: Literal["bico"] = "bico"
    stages: Stages = Field(
        default=Stages(), description="Training steps on an image, and on the single frames of a video."
    )
    frame_stages: Stages | None = Field(
        default=None, description="Training steps on the single frames of a video; null = those of `stages`."
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
    caption_sampling: Literal["replacement", "epochs"] = Field(
        default="replacement",
        description=(
            "How training picks captions: replacement = each is drawn from all of them; epochs = all captions once, in "
            "random order, before any repeats, as in the authors' code."
        ),
    )
    warm_up: Count = Field(
        default=0,
        description=(
            "Number of steps at the start of each optimiser in which the learning rates are a third of their values, "
            "as in the authors' code; 0 = none."
        ),
    )
    fresh_optimizer: bool = Field(
        default=False,
        description=(
            "Whether a video's clip starts with a new optimiser, as in the authors' code: its moments are zero and it "
            "warms up again. false = the optimiser of the single frames continues."
        ),
    )
    absorption: Absorption = Field(
        default=Absorption(),
        description=(
            "Learnable tokens that absorb what the words of a caption do not name. They are dropped at inference "
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
    attention_keys: Literal["bound", "plain"] = Field(
        default="bound",
        description=(
            "Keys of the cross-attention for words that pass through the binder: bound = keys and values come from the "
            "bound word, as in the paper; plain = the values alone do, an addition of ours. Then a bound word changes "
            "what is shown, and hardly where. The authors' code reads only binders with bound."
        ),
    )
    isolation: Isolation = Field(
        default=Isolation(),
        description=(
            "An addition of ours against leaks: training steps that bind a single key word and penalise what it "
            "changes at places that do not attend to this word in the frozen backbone."
        ),
    )
    hierarchical: bool = Field(
        default=True, description="Whether each block has a binder of its own beside the global one."
    )
    diversification: bool = Field(
        default=True,
        description=(
            "Whether training uses all captions of a source; false = only the first caption and first frame caption."
        ),
    )
    temporal_decoupling: bool = Field(
        default=True,
        description=(
            "Whether a video trains on its single frames first, then on the clip with a gated temporal branch "
            "(Temporal Disentanglement Strategy); false = only on the clip."
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
            "Learning rate of the weights of the learned gate; null = that of the binders, divided by the width of a "
            "token. The gate sums over all channels of a token. With null the gate changes about as fast as gamma at "
            "any width. With the binders' rate it can change up to `width` times as fast and leave the range 0 to 1."
        ),
    )
    gamma_learning_rate: Rate | None = Field(
        default=None,
        description=(
            "Learning rate of the binders' gammas, an addition of ours; null = that of the binders. A gamma is the "
            "size of what its binder adds to a token. Adam changes it by about its learning rate per step, so the "
            "rate and the number of steps limit how far a binder can go."
        ),
    )
    rank: Positive | None = Field(
        default=None,
        description=(
            "Width of the hidden layer of each binder, and so the rank of its matrices, an addition of ours; null = "
            "the width of a token, as in the paper. The authors' code reads only binders with null."
        ),
    )
    strength: float = Field(
        default=1.0,
        ge=0,
        description="Factor on what the binders add to a token, at inference: 0 = the plain prompt, 1 = as trained.",
    )

    @property
    def absorbs(self) -> bool:
        return self.absorption.tokens > 0

    @property
    def trains_key_words_alone(self) -> bool:
        return self.binds == "key_words"

    @model_validator(mode="after")
    def _all_have_an_effect(self) -> Self:
        if self.gate == "released" and self.gate_learning_rate is not None:
            raise problem("gate_learning_rate: the gate 'released' never learns: expected null")
        unused = {"frame_stages": None, "fresh_optimizer": False, "gate_learning_rate": None}
        for key, expected in unused.items():
            if not self.temporal_decoupling and getattr(self, key) != expected:
                raise problem(
                    "{key}: it has no effect without 'temporal_decoupling': expected {it}",
                    key=key,
                    it=json.dumps(expected),
                )
        return self

    @model_validator(mode="after")
    def _reaches_its_rate(self) -> Self:
        steps = min(self._steps_of_optimisers())
        if self.warm_up >= steps:
            raise problem(
                "warm_up: {warm_up} steps, but an optimiser has only {steps}, none with the full learning rates: "
                "expected fewer",
                warm_up=self.warm_up,
                steps=steps,
            )
        return self

    def steps_of(self, kind: Kind) -> Steps:
        if kind == "image":
            return Steps(self.stages.total, 0)
        frames = self.frame_stages or self.stages
        return Steps(frames.total if self.temporal_decoupling else 0, self.clip_stages.total)

    def _steps_of_optimisers(self) -> list[int]:
        """Numbers of steps of each optimiser, of an image and of a video."""
        frames, clip = map(int, self.steps_of("video"))
        return [self.stages.total, *((frames, clip) if self.fresh_optimizer else (frames + clip,))]

    def forward_passes(self) -> float:
        return self.isolation.share

    def parameters(self, kind: Kind, backbone: BackboneShape) -> int:
        width = backbone.width
        rank = self.rank or width
        branch = 2 * rank * width + rank + 5 * width  # two linear and two normalisation layers
        binder = branch + 1  # gamma
        if kind == "video" and self.temporal_decoupling:
            binder += branch + 3 * width + 1  # the temporal branch and its gate
        return binder * (1 + (backbone.num_blocks if self.hierarchical else 0))

    def shortened(self, steps: int) -> Self:
        few = Stages(global_steps=steps, all_steps=steps)
        stages = {"stages": few, "frame_stages": None, "clip_stages": few}
        return self.model_copy(update={**stages, "isolation": Isolation()})

    def measured(self, steps: int, kind: Kind, num_blocks: int) -> Self:
        last = Stages(global_steps=0, all_steps=steps)  # all binders learn, two branches each if it is a clip
        none = Stages.model_construct(global_steps=0, all_steps=0)  # no clip's single frames: they compile a graph, too
        stages = {"stages": last if kind == "image" else none, "frame_stages": None, "clip_stages": last}
        return self.model_copy(update=stages)
