"""The training loop: stages, checkpoints, metrics, the evaluation loss, and what its settings mean."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from bico.config.methods import LearnedSettings
from bico.core.errors import InputError
from bico.methods.textual_inversion.settings import Settings as TextualInversionSettings
from bico.training.checkpoint import CHECKPOINT
from bico.training.loop import EVAL_BATCHES, Group, Loss, Stage, fit, warm_up_cosine
from bico.training.randomness import step_generator


def settings(**values: float) -> LearnedSettings:
    return TextualInversionSettings(learning_rate=0.1, **values)


class Interrupted(Exception):
    pass


def stages(parameters: dict[str, nn.Parameter], stop_at: int | None = None, *, fresh: bool = False) -> list[Stage]:
    """Two stages; the second trains one parameter more, if `fresh` with a new optimiser. Breaks off before step
    `stop_at`."""
    calls = iter(range(1000))

    def loss(names: list[str]) -> Loss:
        def compute(generator: torch.Generator, batch_size: int, training: bool) -> tuple[torch.Tensor, torch.Tensor]:
            if next(calls) == stop_at:
                raise Interrupted
            target = torch.randn(3, generator=generator)
            return sum((parameters[name] - target).square().mean() for name in names), torch.rand(1)

        return compute

    return [Stage("first", 7, loss(["a"])), Stage("second", 6, loss(["a", "b"]), fresh_optimizer=fresh)]


def run(
    workdir: Path,
    *,
    stop_at: int | None = None,
    seed: int = 0,
    checkpoint_every: int | None = 4,
    fresh: bool = False,
    **tuning: object,
) -> dict[str, nn.Parameter]:
    parameters = {"a": nn.Parameter(torch.zeros(3)), "b": nn.Parameter(torch.ones(3))}
    groups = [Group({"a": parameters["a"]}, 0.1), Group({"b": parameters["b"]}, 0.01)]
    fit(
        groups,
        stages(parameters, stop_at, fresh=fresh),
        settings(checkpoint_every=checkpoint_every),
        seed=seed,
        workdir=workdir,
        report=lambda: {"size": parameters["a"].norm()},
        **tuning,
    )
    return parameters


def lines(workdir: Path) -> list[dict]:
    entries = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in entry.items() if key not in ("seconds", "sigma")} for entry in entries]


def test_betas_are_those_of_adamw(tmp_path):
    one, other = (run(tmp_path / str(betas), betas=betas)["a"] for betas in ((0.9, 0.999), (0.0, 0.95)))
    parameter = nn.Parameter(torch.zeros(3))
    reference = torch.optim.AdamW([parameter], lr=0.1, betas=(0.0, 0.95), weight_decay=settings().weight_decay)
    for step in range(13):
        reference.zero_grad()
        target = torch.randn(3, generator=step_generator(0, step))
        (parameter - target).square().mean().backward()
        reference.step()
    torch.testing.assert_close(other, parameter)
    assert not torch.allclose(one, other)


def equal(one: dict[str, nn.Parameter], other: dict[str, nn.Parameter]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("stop_at", [3, 6, 10])
def test_a_resumed_run_ends_in_the_same_parameters_and_metrics_as_an_uninterrupted_one(
    tmp_path: Path, stop_at: int
) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "broken", stop_at=stop_at)
    assert equal(run(tmp_path / "broken"), whole)
    assert lines(tmp_path / "broken") == lines(tmp_path / "whole")


@pytest.mark.parametrize(("seconds", "saved"), [(600.0, False), (0.0, True)])
def test_without_a_number_of_steps_a_checkpoint_comes_after_a_time(tmp_path: Path, monkeypatch, seconds, saved) -> None:
    """At full size a clip's step takes up to 8 s, and one of a still 0.03 s."""
    monkeypatch.setattr("bico.training.loop.CHECKPOINT_SECONDS", seconds)
    whole = run(tmp_path / "whole", checkpoint_every=None)
    with pytest.raises(Interrupted):
        run(tmp_path / "broken", stop_at=10, checkpoint_every=None)
    assert (tmp_path / "broken" / CHECKPOINT).exists() == saved
    assert equal(run(tmp_path / "broken", checkpoint_every=None), whole)


@pytest.mark.parametrize("damage", ["truncated", "emptied", "a bit flipped"])
def test_a_damaged_checkpoint_counts_as_none(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "broken", stop_at=10)
    path = tmp_path / "broken" / CHECKPOINT
    good = path.read_bytes()
    bad = {"truncated": good[:-4], "emptied": b"", "a bit flipped": good[:-1] + bytes([good[-1] ^ 1])}
    path.write_bytes(bad[damage])
    assert equal(run(tmp_path / "broken"), whole) and lines(tmp_path / "broken") == lines(tmp_path / "whole")
    assert f"{path}: damaged: the training starts again from step 0" in caplog.text


def test_a_resumed_run_continues_its_learning_rate_schedule(tmp_path: Path) -> None:
    tuning = {"lr_lambda": partial(warm_up_cosine, warm_up=4, steps=13), "max_grad_norm": 0.5}
    whole = run(tmp_path / "whole", **tuning)
    with pytest.raises(Interrupted):
        run(tmp_path / "broken", stop_at=10, **tuning)
    assert equal(run(tmp_path / "broken", **tuning), whole)
    assert not equal(run(tmp_path / "constant"), whole)


def test_a_stage_with_a_fresh_optimizer_starts_with_moments_of_zero(tmp_path: Path) -> None:
    """Adam's first step goes by the learning rate against the gradient, whatever the gradients before were."""
    moved = {}
    for fresh in (False, True):
        parameter, seen = nn.Parameter(torch.zeros(1)), []
        losses = [lambda *drawn, sign=sign, p=parameter, **how: (sign * p.sum(), torch.rand(1)) for sign in (1, -1)]
        up, none = (Stage(name, steps, losses[0]) for name, steps in (("up", 5), ("none", 0)))
        stages = [up, none, Stage("down", 2, losses[1], fresh_optimizer=fresh)]
        report = lambda p=parameter, seen=seen: seen.append(p.item()) or {}  # noqa: E731
        still = settings(weight_decay=0.0)
        fit([Group({"p": parameter}, 0.1)], stages, still, seed=0, workdir=tmp_path / str(fresh), report=report)
        moved[fresh] = seen[5] - seen[4]
    assert moved[True] == pytest.approx(0.1, abs=1e-6) and moved[False] < 0


@pytest.mark.parametrize("stop_at", [6, 7, 8])
def test_a_run_resumed_around_a_fresh_optimizer_ends_as_an_uninterrupted_one(tmp_path: Path, stop_at: int) -> None:
    whole = run(tmp_path / "whole", fresh=True)
    with pytest.raises(Interrupted):  # of the calls, two are for the evaluation after the first step
        run(tmp_path / "broken", stop_at=stop_at + EVAL_BATCHES, checkpoint_every=1, fresh=True)
    assert equal(run(tmp_path / "broken", fresh=True), whole)
    assert lines(tmp_path / "broken") == lines(tmp_path / "whole")
    assert not equal(run(tmp_path / "one_optimizer"), whole)


def test_warm_up_rises_to_one_and_the_cosine_falls_to_zero() -> None:
    rates = [warm_up_cosine(step, warm_up=4, steps=12) for step in range(12)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0] and rates[8] == pytest.approx(0.5)
    assert rates[4:] == sorted(rates[4:], reverse=True) and 0 < rates[-1] < 0.05


def test_clipping_bounds_the_norm_of_the_gradient(tmp_path: Path) -> None:
    parameter, seen = nn.Parameter(torch.full((4,), 100.0)), []
    stage = Stage("all", 1, lambda generator, batch_size, training: (parameter.square().sum(), torch.rand(1)))
    report = lambda: seen.append(parameter.grad.norm().item()) or {}  # noqa: E731
    groups = [Group({"p": parameter}, 0.1)]
    fit(groups, [stage], settings(), seed=0, workdir=tmp_path, max_grad_norm=1.0, report=report)
    assert seen == [pytest.approx(1.0, abs=1e-4)]


def test_micro_batches_give_the_loss_and_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    targets, sizes = torch.arange(12.0).view(4, 3), []

    def loss(generator: torch.Generator, batch_size: int, training: bool) -> tuple[torch.Tensor, torch.Tensor]:
        start = sum(sizes) % 4
        sizes.append(batch_size)
        part = targets[start : start + batch_size]
        return (parameter - part).square().mean(), part[:, 0] / 9

    learned, curves = {}, {}
    for micro_batch in (None, 1, 3):
        parameter, workdir = nn.Parameter(torch.zeros(3)), tmp_path / str(micro_batch)
        stage, often = Stage("all", 5, loss, micro_batch), settings(batch_size=4, eval_every=1)
        fit([Group({"p": parameter}, 0.1)], [stage], often, seed=0, workdir=workdir)
        entries = (json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines())
        curves[micro_batch] = [(entry["loss"], entry["eval_loss"], entry["sigma"]) for entry in entries]
        learned[micro_batch] = parameter.detach()
    assert set(sizes) == {4, 1, 3} and curves[None][0][2] == 0.5
    for micro_batch in (1, 3):
        torch.testing.assert_close(learned[micro_batch], learned[None])
        assert curves[micro_batch] == [pytest.approx(line) for line in curves[None]]


def test_a_seed_gives_the_same_parameters_again_and_another_seed_others(tmp_path: Path) -> None:
    assert equal(run(tmp_path / "one"), run(tmp_path / "two"))
    assert not equal(run(tmp_path / "three", seed=1), run(tmp_path / "four"))


def test_metrics_have_one_line_per_step(tmp_path: Path) -> None:
    run(tmp_path)
    entries = lines(tmp_path)
    assert [entry["step"] for entry in entries] == list(range(13))
    assert [entry["stage"] for entry in entries] == ["first"] * 7 + ["second"] * 6
    assert entries[-2].keys() == {"step", "stage", "loss", "size"}


def test_the_eval_loss_is_on_the_same_random_numbers_every_time(tmp_path: Path) -> None:
    still = nn.Parameter(torch.ones(3))

    def loss(generator: torch.Generator, batch_size: int, training: bool) -> tuple[torch.Tensor, torch.Tensor]:
        return (still - torch.randn(3, generator=generator)).square().mean(), torch.rand(1)

    often = settings(eval_every=5)
    fit([Group({"still": still}, 1e-12)], [Stage("all", 13, loss)], often, seed=0, workdir=tmp_path)
    entries = lines(tmp_path)
    assert [entry["step"] for entry in entries if "eval_loss" in entry] == [0, 4, 9, 12]
    assert len({entry["eval_loss"] for entry in entries if "eval_loss" in entry}) == 1
    assert len({entry["loss"] for entry in entries}) == 13


def test_the_eval_loss_does_not_hang_on_how_much_of_a_batch_fits(tmp_path: Path) -> None:
    still = nn.Parameter(torch.ones(1))

    def loss(generator: torch.Generator, batch_size: int, training: bool) -> tuple[torch.Tensor, torch.Tensor]:
        return (still - torch.rand(2 * batch_size, generator=generator)[:batch_size]).mean(), torch.rand(batch_size)

    stages = [Stage("frames", 1, loss, micro_batch=2), Stage("clip", 1, loss, micro_batch=1), Stage("whole", 1, loss)]
    often = settings(batch_size=4, eval_every=1)
    fit([Group({"still": still}, 1e-12)], stages, often, seed=0, workdir=tmp_path)
    assert len({entry["eval_loss"] for entry in lines(tmp_path)}) == 1


def test_a_loss_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(1))
    stage = Stage("all", 1, lambda generator, batch_size, training: (parameter.sum() * torch.inf, torch.rand(1)))
    with pytest.raises(InputError, match="the loss is inf in step 0: lower the learning_rate"):
        fit([Group({"p": parameter}, 0.1)], [stage], settings(), seed=0, workdir=tmp_path)


@pytest.mark.parametrize("diverges_in", [2, 3])
def test_a_run_that_diverged_leaves_no_checkpoint(tmp_path: Path, diverges_in: int) -> None:
    parameter, steps = nn.Parameter(torch.ones(1)), iter(range(9))

    def loss(generator: torch.Generator, batch_size: int, training: bool) -> tuple[torch.Tensor, torch.Tensor]:
        return parameter.sum() * (torch.nan if next(steps) == diverges_in + EVAL_BATCHES else 1.0), torch.rand(1)

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


def test_parameters_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    """A training that continued from them could never end, whatever the reason was."""
    parameter = nn.Parameter(torch.zeros(1))
    stage = Stage("all", 3, lambda generator, batch_size, training: (parameter.sqrt().sum(), torch.rand(1)))
    with pytest.raises(InputError, match="the parameters are no longer finite after step 0: lower the learning_rate"):
        fit([Group({"p": parameter}, 0.1)], [stage], settings(checkpoint_every=1), seed=0, workdir=tmp_path)
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_progress_is_a_line_every_tenth_in_a_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    parameter = nn.Parameter(torch.ones(1))
    stage = Stage("all", 40, lambda generator, batch_size, training: (parameter.square().sum(), torch.rand(1)))
    fit([Group({"p": parameter}, 0.1)], [stage], settings(), seed=0, workdir=tmp_path, progress="cat")
    printed = caplog.messages
    assert len(printed) == 10
    assert printed[0].startswith("cat: step 4/40, loss ")
    assert printed[-1].endswith("00:00 left")


def still(value: float, parameter: nn.Parameter) -> Loss:
    """A loss without a gradient."""
    return lambda generator, batch_size, training: (0 * parameter.sum() + value, torch.rand(1))


def test_the_evaluation_has_a_loss_of_its_own(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(1))
    stage, often = Stage("all", 2, still(1.0, parameter)), settings(eval_every=1)
    fit([Group({"p": parameter}, 0.1)], [stage], often, seed=0, workdir=tmp_path, evaluation=still(5.0, parameter))
    assert [(entry["loss"], entry["eval_loss"]) for entry in lines(tmp_path)] == [(1, 5), (1, 5)]


def test_losses_are_called_with_whether_they_train_and_the_evaluation_has_no_gradient(tmp_path: Path) -> None:
    parameter, seen = nn.Parameter(torch.ones(1)), []

    def loss(generator: torch.Generator, batch_size: int, training: bool) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append((training, torch.is_grad_enabled()))
        return parameter.sum(), torch.rand(1)

    fit([Group({"p": parameter}, 0.1)], [Stage("all", 1, loss)], settings(), seed=0, workdir=tmp_path)
    assert seen == [(True, True)] + [(False, False)] * EVAL_BATCHES


def test_weight_decay_is_that_of_the_settings(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(1))
    stage = Stage("all", 1, still(1.0, parameter))
    fit([Group({"p": parameter}, 0.1)], [stage], settings(weight_decay=0.5), seed=0, workdir=tmp_path)
    assert parameter.item() == pytest.approx(1 - 0.1 * 0.5)


def test_each_step_has_the_learning_rate_of_its_own_number(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(1))
    stage = Stage("all", 2, lambda generator, batch_size, training: (parameter.sum(), torch.rand(1)))
    seen, rates = [], [0.0, 1.0, 0.0].__getitem__
    report = lambda: seen.append(parameter.item()) or {}  # noqa: E731
    fit([Group({"p": parameter}, 0.1)], [stage], settings(), seed=0, workdir=tmp_path, lr_lambda=rates, report=report)
    assert seen == [1, pytest.approx(0.9, abs=1e-3)]
