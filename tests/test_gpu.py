"""What only a GPU can show, with tiny models: skipped where there is none."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from bico.config.benchmark import Case
from bico.core.transfer import arriving, to_device
from bico.methods.bico import learn as bico_learn
from bico.methods.bico.settings import Isolation, Stages
from bico.methods.bico.settings import Settings as BicoSettings
from bico.methods.textual_inversion import compose as textual_inversion_compose
from bico.methods.textual_inversion import learn as textual_inversion_learn
from bico.methods.textual_inversion.settings import Settings as TextualInversionSettings
from bico.models.binder import HierarchicalBinder
from bico.models.wan.acceleration import accelerated
from bico.models.wan.backbone import Backbone
from bico.plan.clips import Job
from bico.training.artifacts import save_artifact
from bico.training.loss import flow_matching_loss
from bico.training.metrics import METRICS
from bico.training.randomness import step_generator

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

FEW = Stages(global_steps=3, all_steps=3)


def opened(device: str = "cuda", **options: object) -> Backbone:
    return Backbone.open(tiny.folder(), text_slots=tiny.TEXT_SLOTS, device=device, **options)


def learned(backbone: Backbone, workdir: Path, **settings: object) -> dict[str, torch.Tensor]:
    learns = BicoSettings(stages=FEW, clip_stages=FEW, batch_size=2, checkpoint_every=5, **settings)
    return bico_learn.learn(backbone, tiny.source("video"), learns, shift=3.0, seed=0, workdir=workdir)


def losses(workdir: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (workdir / METRICS).read_text().splitlines()]


def test_a_loss_is_that_of_a_cpu() -> None:
    source, found = tiny.source("image"), []
    for device in ("cpu", "cuda"):
        backbone = opened(device)
        context = backbone.context(source.prompt_embeds[:2])
        latents = source.latents.expand(2, *source.latents.shape)
        sigmas = torch.tensor([0.3, 0.8])
        draw = step_generator(0, 0)
        found.append(flow_matching_loss(backbone, latents, context, sigmas, draw, training=True).item())
    assert found[1] == pytest.approx(found[0], rel=1e-4)


@pytest.mark.parametrize(("isolation", "checkpointed"), [(0.0, 8), (0.0, 4096), (0.5, 4096)])
def test_captured_graphs_learn_what_plain_passes_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolation: float, checkpointed: int
) -> None:
    """With gradient checkpointing from so many tokens on, graphs of frames are given up on the way."""
    monkeypatch.setattr("bico.models.wan.token_limits.CHECKPOINT_TOKENS", checkpointed)
    settings = {"isolation": Isolation(share=isolation)}
    for name, compiles in (("plain", False), ("captured", True)):
        learned(opened(compiles=compiles), tmp_path / name, **settings)
    assert losses(tmp_path / "captured") == pytest.approx(losses(tmp_path / "plain"), rel=1e-3)


def test_a_gradient_of_two_passes_is_that_of_plain_ones() -> None:
    backbone, gradients = opened(compiles=True), []
    draw = torch.Generator().manual_seed(0)
    latents = torch.randn(1, *backbone.latent_shape(tiny.MEDIA), generator=draw).cuda()
    prompt = torch.randn(1, tiny.TEXT_SLOTS, backbone.width, generator=draw).cuda()
    timesteps = [torch.tensor([level], device="cuda") for level in (300.0, 700.0)]

    def gradient() -> torch.Tensor:
        context = prompt.clone().requires_grad_()
        passes = [backbone.velocity(latents, level, context, training=True) for level in timesteps]
        sum(each.square().sum() for each in passes).backward()
        return context.grad

    plain = gradient()
    with accelerated(backbone):
        gradients = [gradient() for _ in range(2)]
        assert len(backbone.training_pass.graphs) == 1
    assert all(torch.allclose(each, plain, rtol=1e-3, atol=1e-4) for each in gradients)


def test_an_interrupted_training_ends_in_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = learned(opened(), tmp_path / "whole")

    class Interrupted(Exception):
        pass

    calls, gammas = iter(range(100)), HierarchicalBinder.gammas

    def stop(binder: HierarchicalBinder) -> dict[str, torch.Tensor]:
        if next(calls) == 8:
            raise Interrupted
        return gammas(binder)

    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(HierarchicalBinder, "gammas", stop)
        learned(opened(), tmp_path / "broken")
    again = learned(opened(), tmp_path / "broken")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_an_offloaded_text_encoder_changes_no_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Textual Inversion asks for it again for each case, after clips have been made."""
    source = tiny.source("image")
    vectors = textual_inversion_learn.learn(
        opened(), source, TextualInversionSettings(steps=2), shift=3.0, seed=0, workdir=tmp_path / "work"
    )
    save_artifact(tmp_path / "vectors", vectors, {})
    cases = {name: Case(prompt=f"a cat at the {name}", bind={"photo": ["cat"]}) for name in ("beach", "car")}
    jobs = [Job(name, case, seed=0, artifacts={"photo": tmp_path / "vectors"}) for name, case in cases.items()]

    def clips(room: int) -> tuple[np.ndarray, str]:
        monkeypatch.setattr("bico.models.wan.components.ROOM_FOR_ALL", room)
        backbone = opened()
        settings, sampling = TextualInversionSettings(), tiny.SAMPLING
        made = [clip for _, clip in textual_inversion_compose.compose(backbone, jobs, settings, sampling, tiny.MEDIA)]
        return np.stack(made), next(backbone.text_encoder.parameters()).device.type

    (kept, at), (offloaded, waits) = clips(0), clips(2**60)
    assert (at, waits) == ("cuda", "cpu")
    assert np.array_equal(kept, offloaded)


def test_a_text_encoder_that_leaves_in_each_step_learns_the_same_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vectors(room: int) -> dict[str, torch.Tensor]:
        monkeypatch.setattr("bico.models.wan.components.ROOM_FOR_ALL", room)
        backbone, workdir = opened(gradient_checkpointing="always"), tmp_path / str(room)
        settings = TextualInversionSettings(steps=3)
        return textual_inversion_learn.learn(
            backbone, tiny.source("video"), settings, shift=3.0, seed=0, workdir=workdir
        )

    stays, leaves = vectors(0), vectors(2**60)
    for name, values in stays.items():
        torch.testing.assert_close(leaves[name], values)


def test_numbers_arrive_without_what_is_asked_of_the_gpu_afterwards() -> None:
    size = 8192
    matrix = to_device(torch.ones(size, size), torch.device("cuda"))
    torch.cuda.synchronize()
    numbers = arriving({"one": matrix[0, 0], "two": matrix[:2, 0] * 2})
    for _ in range(20):
        matrix = matrix @ matrix
    late = torch.cuda.Event()
    late.record()
    assert numbers() == {"one": 1.0, "two": [2.0, 2.0]}
    assert not late.query()
