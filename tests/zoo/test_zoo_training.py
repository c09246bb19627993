"""The loop that all trainings of the zoo share, its checkpoints, its optimiser and its workers."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file

from bico.core.errors import InputError
from bico.zoo import training
from bico.zoo.checkpoints import load_checkpoint, save_checkpoint
from bico.zoo.muon import Muon
from bico.zoo.progress import Progress
from bico.zoo.training import Average, Training


class Squares:
    """The training of a linear layer for six steps."""

    def __init__(self, checkpoint: Path, **options: object) -> None:
        torch.manual_seed(0)
        self.layer, self.average = torch.nn.Linear(5, 4), torch.nn.Linear(5, 4)
        average = Average(self.average, lambda step: 0.5)
        optimizer = Muon([self.layer.weight], [self.layer.bias])
        self.training = Training("squares", self.layer, optimizer, checkpoint, 6, average=average, **options)

    def run(self, stop: int | None = None) -> list[int]:
        """Steps that were taken; the training breaks in step `stop`."""
        taken = []

        def loss(step: int) -> dict[str, torch.Tensor]:
            if step == stop:
                raise KeyboardInterrupt
            taken.append(step)
            x = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))
            return {"all": (self.layer(x) - x[:, :4]).square().mean(), "size": 0.1 * self.layer.weight.square().sum()}

        self.training.run(loss)
        return taken

    def weights(self) -> list[torch.Tensor]:
        return [*self.layer.parameters(), *self.average.parameters()]


@pytest.mark.parametrize("clip_groups", [False, True])
def test_a_training_resumes_to_the_same_weights_and_average(tmp_path: Path, monkeypatch, clip_groups):
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 2)
    whole, broken = (Squares(tmp_path / name, clip_groups=clip_groups) for name in ("whole", "broken"))
    assert whole.run() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(KeyboardInterrupt):
        broken.run(stop=3)
    resumed = Squares(tmp_path / "broken", clip_groups=clip_groups)
    assert resumed.run() == [2, 3, 4, 5]
    assert all(torch.equal(one, other) for one, other in zip(whole.weights(), resumed.weights(), strict=True))
    with pytest.raises(InputError, match=r"whole: of step 6: expected one of a training of 4 steps"):
        Training("shorter", whole.layer, Muon([whole.layer.weight], [whole.layer.bias]), tmp_path / "whole", 4)
    again = Squares(tmp_path / "whole", clip_groups=clip_groups)
    assert again.run() == []
    assert all(torch.equal(one, other) for one, other in zip(whole.weights(), again.weights(), strict=True))


def test_gradients_are_clipped_together_or_group_by_group(tmp_path: Path):
    def norms(**options: object) -> list[float]:
        squares = Squares(tmp_path / str(options), max_norm=1e-3, **options)
        squares.run()
        return [parameter.grad.norm().item() for parameter in squares.layer.parameters()]

    together, alone = norms(), norms(clip_groups=True)
    assert sum(norm**2 for norm in together) ** 0.5 == pytest.approx(1e-3, rel=1e-2)
    assert alone == pytest.approx([1e-3, 1e-3], rel=1e-2)


def test_a_checkpoint_brings_back_weights_moments_and_step(tmp_path: Path):
    def fresh() -> tuple[torch.nn.Linear, Muon]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(5, 4)
        return layer, Muon([layer.weight], [layer.bias])

    def advance(layer: torch.nn.Linear, optimizer: Muon, steps: range) -> None:
        for step in steps:
            x = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            (layer(x) - x[:, :4]).square().mean().backward()
            optimizer.step()

    whole, optimizer = fresh()
    advance(whole, optimizer, range(6))
    part, optimizer = fresh()
    advance(part, optimizer, range(3))
    save_checkpoint(tmp_path / "c.safetensors", 3, {"layer": part}, optimizer)
    resumed, optimizer = fresh()
    first = load_checkpoint(tmp_path / "c.safetensors", {"layer": resumed}, optimizer)
    advance(resumed, optimizer, range(first, 6))
    assert first == 3 and torch.equal(resumed.weight, whole.weight) and torch.equal(resumed.bias, whole.bias)


def test_matrices_of_one_shape_take_the_steps_that_each_would_take_alone():
    def fresh() -> list[torch.nn.Parameter]:
        draw = torch.Generator().manual_seed(0)
        return [torch.nn.Parameter(torch.randn(6, 4, generator=draw)) for _ in range(3)]

    together, alone = fresh(), fresh()
    optimizers = [Muon(together), *(Muon([matrix]) for matrix in alone)]
    for step in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad()
        for matrices in (together, alone):
            sum((number * matrix - step).square().sum() for number, matrix in enumerate(matrices, start=1)).backward()
        for optimizer in optimizers:
            optimizer.step()
    for one, other, start in zip(together, alone, fresh(), strict=True):
        assert torch.allclose(one, other, atol=1e-3) and not torch.allclose(one, start, atol=1e-2)


def test_progress_tells_the_mean_of_what_it_was_given_and_keeps_no_graph(capsys):
    progress, weight = Progress("a training", 2, every=3600), torch.ones((), requires_grad=True)
    progress.update(1, loss=2 * weight, other=1.0)
    assert not progress._sums["loss"][0].requires_grad and not capsys.readouterr().err
    progress.update(2, loss=4 * weight, other=2.0)
    assert capsys.readouterr().err.startswith("a training 2/2 loss 3 other 1.5 ")


WORKERS = """
import sys, torch
from safetensors.torch import save_file
from bico.zoo.workers import average_gradients, join_workers

rank, workers = join_workers()
torch.manual_seed(0)
layer, batch = torch.nn.Linear(5, 4), torch.randn(8, 5)
layer(batch[rank::workers]).square().mean().backward()
average_gradients(layer, workers)
if rank == 0:
    save_file({"weight": layer.weight.grad, "bias": layer.bias.grad}, sys.argv[1])
"""


def test_two_workers_find_the_gradient_of_one(tmp_path: Path):
    (tmp_path / "step.py").write_text(WORKERS)
    alone, torchrun = [sys.executable], [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    found = []
    for name, start in {"one": alone, "two": [*torchrun, "--standalone"]}.items():
        subprocess.run([*start, tmp_path / "step.py", tmp_path / name], check=True, capture_output=True, cwd=ROOT)
        found.append(load_file(tmp_path / name))
    for key in ("weight", "bias"):
        assert torch.allclose(found[0][key], found[1][key], atol=1e-7)
