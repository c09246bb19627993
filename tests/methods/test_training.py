import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bico.config.schema import BicoSettings, LearnedSettings, Noise, TextualInversionSettings
from bico.core.errors import InputError
from bico.methods.bico import noise_levels
from bico.methods.training import (
    PROBES,
    Group,
    Loss,
    NoiseLevels,
    Stage,
    fit,
    flow_matching_loss,
    gaussian_weight,
    position_of,
    shifted,
    warm_up_cosine,
)

SHIFT = 5.0


def settings(**values: float) -> LearnedSettings:
    return TextualInversionSettings(learning_rate=0.1, **values)


class Interrupted(Exception):
    pass


def stages(parameters: dict[str, nn.Parameter], stop_at: int | None = None) -> list[Stage]:
    """Two stages; the second trains one parameter more. Breaks off before step `stop_at`."""
    calls = iter(range(1000))

    def loss(names: list[str]) -> Loss:
        def compute(generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            if next(calls) == stop_at:
                raise Interrupted
            target = torch.randn(3, generator=generator)
            yield sum((parameters[name] - target).square().mean() for name in names), torch.rand(1)

        return compute

    return [Stage("first", 7, loss(["a"])), Stage("second", 6, loss(["a", "b"]))]


def run(workdir: Path, *, stop_at: int | None = None, seed: int = 0, **tuning: object) -> dict[str, nn.Parameter]:
    parameters = {"a": nn.Parameter(torch.zeros(3)), "b": nn.Parameter(torch.ones(3))}
    groups = [Group({"a": parameters["a"]}, 0.1), Group({"b": parameters["b"]}, 0.01)]
    fit(
        groups,
        stages(parameters, stop_at),
        settings(checkpoint_every=4),
        seed=seed,
        workdir=workdir,
        report=lambda: {"size": parameters["a"].norm()},
        **tuning,
    )
    return parameters


def lines(workdir: Path) -> list[dict]:
    entries = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in entry.items() if key not in ("seconds", "sigma")} for entry in entries]


def equal(one: dict[str, nn.Parameter], other: dict[str, nn.Parameter]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("stop_at", [3, 6, 10])
def test_an_interrupted_run_ends_as_if_nothing_had_happened(tmp_path: Path, stop_at: int) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "broken", stop_at=stop_at)
    assert equal(run(tmp_path / "broken"), whole)
    assert lines(tmp_path / "broken") == lines(tmp_path / "whole")


def test_the_schedule_goes_on_where_it_was(tmp_path: Path) -> None:
    tuning = {"rate": partial(warm_up_cosine, warm_up=4, steps=13), "clip_norm": 0.5}
    whole = run(tmp_path / "whole", **tuning)
    with pytest.raises(Interrupted):
        run(tmp_path / "broken", stop_at=10, **tuning)
    assert equal(run(tmp_path / "broken", **tuning), whole)
    assert not equal(run(tmp_path / "constant"), whole)


def test_warm_up_rises_to_one_and_the_cosine_falls_to_zero() -> None:
    rates = [warm_up_cosine(step, warm_up=4, steps=12) for step in range(12)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0] and rates[8] == pytest.approx(0.5)
    assert rates[4:] == sorted(rates[4:], reverse=True) and 0 < rates[-1] < 0.05


def test_clipping_bounds_the_gradient(tmp_path: Path) -> None:
    parameter, seen = nn.Parameter(torch.full((4,), 100.0)), []
    stage = Stage("all", 1, lambda generator: iter([(parameter.square().sum(), torch.rand(1))]))
    report = lambda: seen.append(parameter.grad.norm().item()) or {}  # noqa: E731
    groups = [Group({"p": parameter}, 0.1)]
    fit(groups, [stage], settings(), seed=0, workdir=tmp_path, clip_norm=1.0, report=report)
    assert seen == [pytest.approx(1.0, abs=1e-4)]


def test_a_loss_in_parts_is_that_of_the_whole(tmp_path: Path) -> None:
    targets = torch.arange(12.0).view(4, 3)

    def loss(at_once: int, generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for part in targets.split(at_once):
            yield (parameter - part).square().sum() / targets.numel(), part[:, 0] / 9

    lines = {}
    for at_once in (4, 1):
        parameter, workdir = nn.Parameter(torch.zeros(3)), tmp_path / str(at_once)
        stage = Stage("all", 5, partial(loss, at_once))
        fit([Group({"p": parameter}, 0.1)], [stage], settings(probe_every=1), seed=0, workdir=workdir)
        entries = (json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines())
        lines[at_once] = [(entry["loss"], entry["probe"], entry["sigma"]) for entry in entries]
    assert lines[1] == [pytest.approx(line) for line in lines[4]] and lines[4][0][2] == 0.5


def test_the_seed_decides(tmp_path: Path) -> None:
    assert equal(run(tmp_path / "one"), run(tmp_path / "two"))
    assert not equal(run(tmp_path / "three", seed=1), run(tmp_path / "four"))


def test_metrics_hold_a_line_a_step(tmp_path: Path) -> None:
    run(tmp_path)
    entries = lines(tmp_path)
    assert [entry["step"] for entry in entries] == list(range(13))
    assert [entry["stage"] for entry in entries] == ["first"] * 7 + ["second"] * 6
    assert entries[-2].keys() == {"step", "stage", "loss", "size"}


def test_the_probe_loss_is_on_the_same_random_numbers_every_time(tmp_path: Path) -> None:
    still = nn.Parameter(torch.ones(3))

    def loss(generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield (still - torch.randn(3, generator=generator)).square().mean(), torch.rand(1)

    often = settings(probe_every=5)
    fit([Group({"still": still}, 1e-12)], [Stage("all", 13, loss)], often, seed=0, workdir=tmp_path)
    entries = lines(tmp_path)
    assert [entry["step"] for entry in entries if "probe" in entry] == [0, 4, 9, 12]
    assert len({entry["probe"] for entry in entries if "probe" in entry}) == 1
    assert len({entry["loss"] for entry in entries}) == 13


def test_a_diverging_run_says_so(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(1))
    stage = Stage("all", 1, lambda generator: iter([(parameter.sum() * torch.inf, torch.rand(1))]))
    with pytest.raises(InputError, match="the loss is inf in step 0: lower the learning_rate"):
        fit([Group({"p": parameter}, 0.1)], [stage], settings(), seed=0, workdir=tmp_path)


@pytest.mark.parametrize("diverges_in", [2, 3])
def test_a_run_that_diverged_leaves_no_checkpoint(tmp_path: Path, diverges_in: int) -> None:
    parameter, steps = nn.Parameter(torch.ones(1)), iter(range(9))

    def loss(generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield parameter.sum() * (torch.nan if next(steps) == diverges_in + PROBES else 1.0), torch.rand(1)

    with pytest.raises(InputError, match=f"the loss is nan in step {diverges_in}:"):
        fit(
            [Group({"p": parameter}, 0.1)],
            [Stage("all", 8, loss)],
            settings(checkpoint_every=4),
            seed=0,
            workdir=tmp_path,
        )
    assert [entry["step"] for entry in lines(tmp_path)] == list(range(diverges_in))
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_progress_is_a_line_every_tenth_in_a_log(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    parameter = nn.Parameter(torch.ones(1))
    stage = Stage("all", 40, lambda generator: iter([(parameter.square().sum(), torch.rand(1))]))
    fit([Group({"p": parameter}, 0.1)], [stage], settings(), seed=0, workdir=tmp_path, progress="cat")
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 10
    assert printed[0].startswith("cat: step 4/40, loss ")
    assert printed[-1].endswith("00:00 left")


def draws(levels: NoiseLevels) -> torch.Tensor:
    return levels.draw(20_000, torch.Generator().manual_seed(0))


def share(condition: torch.Tensor) -> pytest.approx:
    return pytest.approx(condition.float().mean().item(), abs=0.01)


def test_position_reading_draws_the_noisiest_steps() -> None:
    first, second = noise_levels(Noise(inversion="position", alpha=0.875, beta=0.875), SHIFT)
    assert share(draws(first) > 0.9722) == 0.875
    assert share(draws(second) > 0.9722) == 0.125


def test_sigma_reading_means_the_noise_level() -> None:
    first, second = noise_levels(Noise(inversion="sigma", alpha=0.875, beta=0.875), SHIFT)
    assert share(draws(first) > 0.875) == 0.875
    assert share(draws(second) > 0.875) == 0.417


def test_released_reading_swaps_the_ends() -> None:
    first, second = noise_levels(Noise(inversion="released"), SHIFT)
    assert share(draws(first) <= 0.4167) == 0.8
    assert share(draws(second) <= 0.4167) == 0.2


def test_without_inversion_both_stages_are_uniform_over_the_steps() -> None:
    for levels in noise_levels(Noise(inversion="none"), SHIFT):
        sigmas = draws(levels)
        assert share(sigmas > shifted(torch.tensor(0.5), SHIFT)) == 0.5
        assert 0 < sigmas.min() < sigmas.max() <= 1


def test_positions_and_sigmas_are_inverse() -> None:
    assert position_of(shifted(torch.tensor(0.3), SHIFT).item(), SHIFT) == pytest.approx(0.3)
    assert shifted(torch.tensor(0.875), SHIFT).item() == pytest.approx(0.9722, abs=1e-4)


def test_diffsynth_weighting_cancels_the_noisiest_steps() -> None:
    weights = gaussian_weight(torch.tensor([0.0, 0.5, 0.9722, 1.0]), SHIFT)
    assert weights[0] == weights[3] == pytest.approx(0, abs=1e-6)
    assert weights[2] < 0.2 < 1 < weights[1]
    everywhere = gaussian_weight(draws(NoiseLevels(SHIFT)), SHIFT)
    assert everywhere.mean().item() == pytest.approx(1, abs=0.02)


def test_defaults_are_the_papers() -> None:
    paper = BicoSettings()
    assert (paper.noise.inversion, paper.noise.alpha, paper.noise.beta) == ("position", 0.875, 0.875)


def test_the_loss_is_that_of_the_straight_way_from_a_clip_to_noise() -> None:
    """A transformer that knows the clip tells the velocity from the noisy one alone: (x_sigma - x_0) / sigma."""
    latents, sigmas, told = torch.randn(2, 4, 3, 2, 2), torch.tensor([0.25, 0.75]), []

    def loss(off: list[float], weights: torch.Tensor | None = None) -> float:
        def velocity(noisy: torch.Tensor, timesteps: torch.Tensor, contexts: None) -> torch.Tensor:
            told.append(timesteps.tolist())
            return (noisy - latents) / sigmas.view(-1, 1, 1, 1, 1) + torch.tensor(off).view(-1, 1, 1, 1, 1)

        known = SimpleNamespace(device=torch.device("cpu"), velocity=velocity)
        return flow_matching_loss(known, latents, None, sigmas, torch.Generator().manual_seed(0), weights).item()

    assert loss([0.0, 0.0]) == pytest.approx(0, abs=1e-9) and told == [[250, 750]]
    assert loss([1.0, 2.0]) == pytest.approx((1 + 4) / 2)
    assert loss([1.0, 2.0], torch.tensor([2.0, 0.0])) == pytest.approx(2 * 1 / 2)


def still(value: float, parameter: nn.Parameter) -> Loss:
    """A loss without a gradient."""
    return lambda generator: iter([(0 * parameter.sum() + value, torch.rand(1))])


def test_the_probe_has_a_loss_of_its_own(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(1))
    stage, often = Stage("all", 2, still(1.0, parameter)), settings(probe_every=1)
    fit([Group({"p": parameter}, 0.1)], [stage], often, seed=0, workdir=tmp_path, probe=still(5.0, parameter))
    assert [(entry["loss"], entry["probe"]) for entry in lines(tmp_path)] == [(1, 5), (1, 5)]


def test_weights_decay_as_the_settings_say(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(1))
    stage = Stage("all", 1, still(1.0, parameter))
    fit([Group({"p": parameter}, 0.1)], [stage], settings(weight_decay=0.5), seed=0, workdir=tmp_path)
    assert parameter.item() == pytest.approx(1 - 0.1 * 0.5)


def test_a_step_has_the_rate_of_its_own_number(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(1))
    stage = Stage("all", 2, lambda generator: iter([(parameter.sum(), torch.rand(1))]))
    seen, rates = [], [0.0, 1.0, 0.0].__getitem__
    report = lambda: seen.append(parameter.item()) or {}  # noqa: E731
    fit([Group({"p": parameter}, 0.1)], [stage], settings(), seed=0, workdir=tmp_path, rate=rates, report=report)
    assert seen == [1, pytest.approx(0.9, abs=1e-3)]
