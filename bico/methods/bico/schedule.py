"""The stages of BiCo's training: what each looks at, at which noise levels, with which binders."""

from __future__ import annotations

from dataclasses import dataclass

from bico.config.benchmark import Kind
from bico.methods.bico.settings import Noise, Settings
from bico.models.wan.schedule import position_of
from bico.training.noise import NoiseLevels

RELEASED_SPLIT = 0.125
RELEASED_SHARE = 0.8
"""The authors' code parts the schedule at position 0.125 (sigma 0.417 with shift 5), and draws 0.8 from one part."""


@dataclass(frozen=True)
class Phase:
    """What one stage of training does."""

    name: str
    steps: int
    noise: NoiseLevels
    frames: bool
    """Single frames with their captions, or the whole source (an image, a clip)."""
    per_block: bool
    """Stage "all", or stage "global"."""
    temporal: bool
    """Through both branches of a two-branch binder."""


def phases(settings: Settings, kind: Kind, shift: float) -> list[Phase]:
    """The schedule of a source. Without temporal decoupling a video's clip is learned as an image is."""
    frame, clip, first, second = settings.stages, settings.clip_stages, *noise_levels(settings.noise, shift)
    if kind == "image" or not settings.temporal_decoupling:
        stages = frame if kind == "image" else clip
        return [
            Phase("global", stages.global_steps, first, frames=False, per_block=False, temporal=False),
            Phase("all", stages.all_steps, second, frames=False, per_block=True, temporal=False),
        ]
    return [
        Phase("frames_global", frame.global_steps, first, frames=True, per_block=False, temporal=False),
        Phase("frames_all", frame.all_steps, second, frames=True, per_block=True, temporal=False),
        Phase("clip_global", clip.global_steps, first, frames=False, per_block=False, temporal=True),
        Phase("clip_all", clip.all_steps, second, frames=False, per_block=True, temporal=True),
    ]


def noise_levels(noise: Noise, shift: float) -> tuple[NoiseLevels, NoiseLevels]:
    """Noise of stage "global" and of stage "all" under each reading of alpha (see `config.Noise`)."""
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
