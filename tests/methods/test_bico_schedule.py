"""The stages of BiCo's training and the noise levels of each."""

import pytest
import torch

from bico.methods.bico.schedule import noise_levels, phases, rate_factor
from bico.methods.bico.settings import Noise
from bico.methods.bico.settings import Settings as BicoSettings
from bico.models.wan.schedule import shifted
from bico.training.noise import NoiseLevels

SHIFT = 5.0


@pytest.mark.parametrize(
    ("change", "names", "steps"),
    [
        ({}, ["frames_global", "frames_all", "clip_global", "clip_all"], 10),
        ({"temporal_decoupling": False}, ["global", "all"], 5),
        (
            {"stages": {"global_steps": 0, "all_steps": 3}},
            ["frames_global", "frames_all", "clip_global", "clip_all"],
            8,
        ),
    ],
)
def test_schedules_of_a_video(change: dict, names: list[str], steps: int) -> None:
    short = {"stages": {"global_steps": 2, "all_steps": 3}, "clip_stages": {"global_steps": 1, "all_steps": 4}}
    plan = phases(BicoSettings(**(short | change)), "video", shift=3.0)
    assert [phase.name for phase in plan] == names
    assert sum(phase.steps for phase in plan) == steps


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    [
        ("image", {}, [("global", 2, 1, "whole"), ("all", 3, 2, "whole", "blocks")]),
        ("video", {"temporal_decoupling": False}, [("global", 7, 1, "whole"), ("all", 11, 2, "whole", "blocks")]),
        (
            "video",
            {},
            [
                ("frames_global", 2, 1),
                ("frames_all", 3, 2, "blocks"),
                ("clip_global", 7, 1, "whole", "temporal"),
                ("clip_all", 11, 2, "whole", "blocks", "temporal"),
            ],
        ),
    ],
)
def test_each_stage_is_what_the_paper_says(kind: str, change: dict, expected: list) -> None:
    """Name, steps, noise of stage 1 or 2, and what is open in it."""
    steps = {"stages": {"global_steps": 2, "all_steps": 3}, "clip_stages": {"global_steps": 7, "all_steps": 11}}
    settings = BicoSettings(**steps, **change)
    noise = noise_levels(settings.noise, 3.0)
    for phase, (name, count, stage, *opened) in zip(phases(settings, kind, 3.0), expected, strict=True):
        assert (phase.name, phase.steps, phase.noise) == (name, count, noise[stage - 1])
        assert phase.frames == ("whole" not in opened) and phase.per_block == ("blocks" in opened)
        assert phase.temporal == ("temporal" in opened)


def test_a_videos_frames_may_have_stages_of_their_own() -> None:
    own = {"stages": {"global_steps": 2, "all_steps": 3}, "frame_stages": {"global_steps": 5, "all_steps": 8}}
    settings = BicoSettings(**own)
    assert [phase.steps for phase in phases(settings, "image", 3.0)] == [2, 3]
    assert [phase.steps for phase in phases(settings, "video", 3.0)] == [5, 8, 2400, 2400]


@pytest.mark.parametrize(
    ("kind", "change", "slow"),
    [
        ("video", {}, []),
        ("image", {"warm_up": 3}, [0, 1, 2]),
        ("video", {"warm_up": 3}, [0, 1, 2]),
        ("video", {"warm_up": 3, "fresh_optimizer": True}, [0, 1, 2, 4, 5, 6]),
        ("video", {"warm_up": 3, "temporal_decoupling": False}, [0, 1, 2]),
    ],
)
def test_every_optimizer_warms_up_at_a_third_of_the_learning_rate(kind: str, change: dict, slow: list[int]) -> None:
    two = {"global_steps": 1, "all_steps": 3}
    settings = BicoSettings(stages=two, clip_stages=two, **change)
    plan = phases(settings, kind, 3.0)
    factors = [rate_factor(step, plan, settings) for step in range(sum(phase.steps for phase in plan))]
    assert factors == [pytest.approx(1 / 3) if step in slow else 1 for step in range(len(factors))]


def draws(levels: NoiseLevels) -> torch.Tensor:
    return levels.draw(20_000, torch.Generator().manual_seed(0))


def share(condition: torch.Tensor) -> pytest.approx:
    return pytest.approx(condition.float().mean().item(), abs=0.01)


def test_inversion_by_position_draws_from_the_noisiest_share_of_the_steps() -> None:
    first, second = noise_levels(Noise(inversion="position", alpha=0.875, beta=0.875), SHIFT)
    assert share(draws(first) > 0.9722) == 0.875
    assert share(draws(second) > 0.9722) == 0.125


def test_inversion_by_sigma_draws_above_a_noise_level() -> None:
    first, second = noise_levels(Noise(inversion="sigma", alpha=0.875, beta=0.875), SHIFT)
    assert share(draws(first) > 0.875) == 0.875
    assert share(draws(second) > 0.875) == 0.417


def test_inversion_of_the_released_code_draws_low_noise_first() -> None:
    first, second = noise_levels(Noise(inversion="released"), SHIFT)
    assert share(draws(first) <= 0.4167) == 0.8
    assert share(draws(second) <= 0.4167) == 0.2


def test_without_inversion_both_stages_draw_uniformly_over_the_steps() -> None:
    for levels in noise_levels(Noise(inversion="none"), SHIFT):
        sigmas = draws(levels)
        assert share(sigmas > shifted(torch.tensor(0.5), SHIFT)) == 0.5
        assert 0 < sigmas.min() < sigmas.max() <= 1


def test_default_noise_settings_are_those_of_the_paper() -> None:
    paper = BicoSettings()
    assert (paper.noise.inversion, paper.noise.alpha, paper.noise.beta) == ("position", 0.875, 0.875)
