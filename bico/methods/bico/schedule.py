"""The stages of BiCo's training: the media, noise levels and binders of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bico.config.benchmark import Kind
from bico.methods.bico.settings import Noise, Settings
from bico.models.wan.schedule import position_of
from bico.training.noise import NoiseLevels

RELEASED_SPLIT = 0.125
RELEASED_SHARE = 0.8
"""The authors' code splits the schedule at position 0.125 (sigma 0.417 with shift 5). It draws 0.8 from one part."""

WARM_UP_FACTOR = 1 / 3
"""Factor of the authors' code, which uses torch's ConstantLR with its default."""


@dataclass(frozen=True)
class Phase:
    """One stage of training."""

    name: str
    steps: int
    noise: NoiseLevels
    frames: bool
    """Whether it trains on single frames with their captions; else on the whole source (an image, a clip)."""
    per_block: bool
    """Whether it is stage "all"; else stage "global"."""
    temporal: bool
    """Whether it uses both branches of a two-branch binder."""


def phases(settings: Settings, kind: Kind, shift: float) -> list[Phase]:
    """The stages of a source's training. Without temporal decoupling a video's clip is learned like an image."""
    clip, first, second = settings.clip_stages, *noise_levels(settings.noise, shift)
    if kind == "image" or not settings.temporal_decoupling:
        stages = settings.stages if kind == "image" else clip
        return [
            Phase("global", stages.global_steps, first, frames=False, per_block=False, temporal=False),
            Phase("all", stages.all_steps, second, frames=False, per_block=True, temporal=False),
        ]
    frame = settings.frame_stages or settings.stages
    return [
        Phase("frames_global", frame.global_steps, first, frames=True, per_block=False, temporal=False),
        Phase("frames_all", frame.all_steps, second, frames=True, per_block=True, temporal=False),
        Phase("clip_global", clip.global_steps, first, frames=False, per_block=False, temporal=True),
        Phase("clip_all", clip.all_steps, second, frames=False, per_block=True, temporal=True),
    ]


def rate_factor(step: int, plan: Sequence[Phase], settings: Settings) -> float:
    """The factor on the learning rates at a step of these phases. An optimiser warms up in its first steps."""
    on_frames = sum(phase.steps for phase in plan if phase.frames)
    since = step - on_frames if settings.fresh_optimizer and step >= on_frames else step
    return WARM_UP_FACTOR if since < settings.warm_up else 1.0


def noise_levels(noise: Noise, shift: float) -> tuple[NoiseLevels, NoiseLevels]:
    """Noise levels of stage "global" and of stage "all", for each interpretation of alpha (see `settings.Noise`)."""
    uniform = NoiseLevels(shift)
    match noise.inversion:
        case "position":
            return NoiseLevels(shift, split=noise.alpha, upper=noise.beta), uniform
        case "sigma":
            return NoiseLevels(shift, split=position_of(noise.alpha, shift), upper=noise.beta), uniform
        case "released":
            low = NoiseLevels(shift, split=RELEASED_SPLIT, upper=1 - RELEASED_SHARE)
            return low, NoiseLevels(shift, split=RELEASED_SPLIT, upper=RELEASED_SHARE)
        case "none":
            return uniform, uniform
