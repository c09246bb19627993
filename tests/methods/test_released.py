"""The authors' checkpoints: there and back bit for bit, the same forward pass, and one line for what does not fit.

`checkpoint` and `authors` are written from their code's description alone, without ours.
"""

from pathlib import Path

import pytest
import tiny
import torch
import torch.nn.functional as F
from conftest import ROOT
from safetensors.torch import load_file, save_file
from torch import Tensor

from bico.cli.main import main
from bico.config.benchmark import Case
from bico.config.reading import load
from bico.methods.bico import compose as bico_compose
from bico.methods.bico import learn as bico_learn
from bico.methods.bico.absorption import with_absorption
from bico.methods.bico.schedule import phases
from bico.methods.bico.settings import Absorption, Noise
from bico.methods.bico.settings import Settings as BicoSettings
from bico.models.binder import HierarchicalBinder
from bico.plan.clips import Job
from bico.training.artifacts import load_artifact, provenance, save_artifact

WIDTH, BLOCKS, SLOTS = 24, 3, 7


def checkpoint(*, motion: bool, dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    """All tensors of a trained source, as the authors' code saves them."""
    draw = torch.Generator().manual_seed(0)
    tensors = {"absorbing_token.weight": (1, WIDTH)}
    for adapter in ("global_concept_adapter", *(f"per_block_concept_adapters.{n}" for n in range(BLOCKS))):
        tensors[f"{adapter}.scaling"] = (1,)
        for mlp in ("proj", "proj_motion") if motion else ("proj",):
            for layer in "0134":
                tensors[f"{adapter}.{mlp}.{layer}.weight"] = (WIDTH, WIDTH) if layer in "13" else (WIDTH,)
                tensors[f"{adapter}.{mlp}.{layer}.bias"] = (WIDTH,)
        if motion:
            tensors |= {f"{adapter}.gate.0.weight": (WIDTH,), f"{adapter}.gate.0.bias": (WIDTH,)}
            tensors |= {f"{adapter}.gate.1.weight": (1, WIDTH), f"{adapter}.gate.1.bias": (1,)}
    return {name: (0.3 * torch.randn(shape, generator=draw)).to(dtype) for name, shape in tensors.items()}


def saved(tensors: dict[str, Tensor], path: Path) -> Path:
    save_file(tensors, path)
    return path


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    same = [torch.equal(one[name], other[name]) and one[name].dtype == other[name].dtype for name in one]
    return one.keys() == other.keys() and all(same)


@pytest.mark.parametrize("motion", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_there_and_back_is_the_same_bit_for_bit(tmp_path: Path, motion: bool, dtype: torch.dtype) -> None:
    theirs = checkpoint(motion=motion, dtype=dtype)
    assert run("import", saved(theirs, tmp_path / "theirs.safetensors"), tmp_path / "ours.safetensors") == 0
    assert run("export", tmp_path / "ours.safetensors", tmp_path / "again.safetensors") == 0
    assert equal(load_file(tmp_path / "again.safetensors"), theirs)


@pytest.mark.parametrize("two_branch", [False, True])
@pytest.mark.parametrize("hierarchical", [False, True])
def test_what_we_learned_comes_back_from_the_authors_format(
    tmp_path: Path, two_branch: bool, hierarchical: bool
) -> None:
    binder = HierarchicalBinder(WIDTH, BLOCKS, two_branch=two_branch, gate="released", hierarchical=hierarchical)
    ours = binder.state_dict() | {"absorption": torch.randn(1, WIDTH)}
    save_artifact(tmp_path / "ours.safetensors", ours, {"method": "bico", "source": "cat"})
    assert run("export", tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors") == 0
    assert run("import", tmp_path / "theirs.safetensors", tmp_path / "again.safetensors") == 0
    assert equal(load_artifact(tmp_path / "again.safetensors")[0], ours)


def adapter(tensors: dict[str, Tensor], name: str, tokens: Tensor) -> Tensor:
    """What an adapter adds to tokens. With motion: gate * MLP_s + (1 - gate) * MLP_t, gate = softmax over one logit."""

    def norm(values: Tensor, layer: str) -> Tensor:
        return F.layer_norm(values, (WIDTH,), tensors[f"{layer}.weight"], tensors[f"{layer}.bias"])

    def linear(values: Tensor, layer: str) -> Tensor:
        return F.linear(values, tensors[f"{layer}.weight"], tensors[f"{layer}.bias"])

    def mlp(part: str) -> Tensor:
        hidden = F.gelu(linear(norm(tokens, f"{name}.{part}.0"), f"{name}.{part}.1"))
        return norm(linear(hidden, f"{name}.{part}.3"), f"{name}.{part}.4")

    added = mlp("proj")
    if f"{name}.proj_motion.0.weight" in tensors:
        gate = linear(norm(tokens, f"{name}.gate.0"), f"{name}.gate.1").softmax(dim=-1)
        added = gate * added + (1 - gate) * mlp("proj_motion")
    return tensors[f"{name}.scaling"] * added


def authors(tensors: dict[str, Tensor], context: Tensor, count: int, *, per_block: bool) -> list[Tensor]:
    """Each block's context in the authors' training: the absorbing token in the place of the last of `count` tokens,
    then the adapters on all of them."""
    context = context.clone()
    context[:, count - 1] = tensors["absorbing_token.weight"][0]
    real = (torch.arange(SLOTS) < count).float()[:, None]
    context = context + real * adapter(tensors, "global_concept_adapter", context)
    if not per_block:
        return [context] * BLOCKS
    names = [f"per_block_concept_adapters.{number}" for number in range(BLOCKS)]
    return [context + real * adapter(tensors, name, context) for name in names]


@pytest.mark.parametrize("motion", [False, True])
@pytest.mark.parametrize("per_block", [False, True])
def test_the_forward_pass_of_training_is_the_authors(tmp_path: Path, motion: bool, per_block: bool) -> None:
    theirs = checkpoint(motion=motion, dtype=torch.float32)
    run("import", saved(theirs, tmp_path / "theirs.safetensors"), tmp_path / "ours.safetensors")
    ours, _ = load_artifact(tmp_path / "ours.safetensors")
    context, counts = torch.randn(1, SLOTS, WIDTH), torch.tensor([5])
    placed, mask = with_absorption(context, counts, ours["absorption"], Absorption(slot="eos"))
    bound = HierarchicalBinder.from_tensors(ours, BLOCKS)(placed, mask, per_block=per_block)
    torch.testing.assert_close(bound, authors(theirs, context, 5, per_block=per_block))


def test_the_authors_gate_silences_the_temporal_branch() -> None:
    binder = HierarchicalBinder(WIDTH, BLOCKS, two_branch=True, gate="released")
    torch.nn.init.ones_(binder.shared.gamma)
    tokens = torch.randn(4, WIDTH)
    assert torch.equal(binder.shared(tokens), binder.shared(tokens, temporal=False))
    binder.shared(tokens).square().mean().backward()
    assert not any(parameter.grad.any() for parameter in binder.shared.temporal.parameters())
    assert binder.shared.spatial[1].weight.grad.any()


def test_an_imported_binder_composes(tmp_path: Path) -> None:
    theirs = checkpoint(motion=True)
    run("import", saved(theirs, tmp_path / "theirs.safetensors"), tmp_path / "ours.safetensors")
    case = Case(prompt="a cat bouncing at the beach", bind={"clip": ["bouncing"]})
    job = Job("one", case, 0, artifacts={"clip": tmp_path / "ours.safetensors"})
    ((_, clip),) = bico_compose.compose(tiny.backbone(), [job], BicoSettings(), tiny.SAMPLING, tiny.MEDIA)
    unbound = bico_compose.compose(tiny.backbone(), [job], BicoSettings(strength=0.0), tiny.SAMPLING, tiny.MEDIA)
    assert clip.shape == (5, 32, 32, 3) and (clip != next(unbound)[1]).any()


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path, capsys) -> None:
    theirs = saved(checkpoint(motion=False), tmp_path / "theirs.safetensors")
    for out, reason in {
        tmp_path: "this is a folder",
        tmp_path / "theirs.safetensors" / "ours.safetensors": "no file can be written there (",
        tmp_path / "theirs.safetensors": f"this is {theirs}, which is read",
    }.items():
        assert run("import", theirs, out) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {out}: {reason}") and error.count("\n") == 1
    assert set(load_file(theirs)) == set(checkpoint(motion=False))


def test_a_source_is_learned_with_the_authors_gate_and_exported(tmp_path: Path) -> None:
    few = {"global_steps": 1, "all_steps": 1}
    settings = BicoSettings(stages=few, clip_stages=few, gate="released", absorption={"slot": "eos"})
    learned = bico_learn.learn(
        tiny.backbone(), tiny.source(), settings, shift=3.0, seed=0, workdir=tmp_path / "clip.ckpt"
    )
    save_artifact(tmp_path / "ours.safetensors", learned, {"method": "bico", "source": "clip"})
    assert run("export", tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors") == 0
    exported = load_file(tmp_path / "theirs.safetensors")
    assert {name: tensor.shape for name, tensor in exported.items()} == {
        name: tensor.shape for name, tensor in checkpoint(motion=True).items()
    }


def test_the_row_as_released_takes_the_samples_of_the_authors_code() -> None:
    """Five epochs of eight times 60 captions, or 81 of single frames; the first two epochs in stage global."""
    config = load(ROOT / "config" / "paper.yaml")
    row, captions = config.methods["bico_as_released"], config.concepts.captions
    assert captions == 60 and (config.concepts.frame_captions or config.media.num_frames) == 81

    def samples(kind: str) -> list[int]:
        return [phase.steps * row.batch_size for phase in phases(row, kind, config.sampling.shift)]

    assert samples("image") == [960, 1440] and sum(samples("image")) == 5 * 8 * captions
    assert samples("video") == [1296, 1944, 960, 1440] and sum(samples("video")[:2]) == 5 * 8 * 81
    assert (row.batch_size, sum(row.steps_of("image")), sum(row.steps_of("video"))) == (8, 300, 405 + 300)
    full = config.methods["bico"].model_dump()
    assert {key: value for key, value in row.model_dump().items() if value != full[key] and "stages" not in key} == {
        "batch_size": 8,
        "noise": Noise(inversion="released").model_dump(),
        "timestep_weighting": "diffsynth",
        "caption_sampling": "epochs",
        "warm_up": 1,
        "fresh_optimizer": True,
        "absorption": Absorption(slot="eos").model_dump(),
        "gate": "released",
    }


def without(tensors: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name not in names}


GATE = "global_concept_adapter.gate.1.bias"
BROKEN = {
    "missing": (without(checkpoint(motion=False), "per_block_concept_adapters.1.scaling"), "missing: per_block"),
    "a block": (without(checkpoint(motion=True), GATE, "absorbing_token.weight"), f"missing: {GATE}: expected"),
    "unknown": (checkpoint(motion=False) | {"blocks.0.lora": torch.zeros(1)}, "unknown: blocks.0.lora: expected"),
    "shape": (
        checkpoint(motion=False) | {"absorbing_token.weight": torch.zeros(2, WIDTH)},
        "of another shape: absorbing_token.weight [2, 24] instead of [1, 24]",
    ),
    "other": ({"lora_A.weight": torch.zeros(2, 2)}, "there is no global_concept_adapter.proj.1.weight in it"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_does_not_fit_is_named_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture, what: str) -> None:
    tensors, expected = BROKEN[what]
    assert run("import", saved(tensors, tmp_path / "x.safetensors"), tmp_path / "out.safetensors") == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1 and not (tmp_path / "out.safetensors").exists()


def test_pickles_are_not_opened(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch.save(checkpoint(motion=False), tmp_path / "x.pt")
    assert run("import", tmp_path / "x.pt", tmp_path / "out.safetensors") == 2
    error = capsys.readouterr().err
    assert "convert one that you trust elsewhere: python -c" in error and error.count("\n") == 1
    assert run("import", tmp_path / "none.safetensors", tmp_path / "out.safetensors") == 2
    assert "there is no such file" in capsys.readouterr().err


def test_what_the_authors_code_cannot_express_is_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    tokens = {"absorption": torch.zeros(2, WIDTH)}
    plain_keys = provenance(BicoSettings(attention_keys="plain"), "still")
    broken = {name: each * torch.nan for name, each in HierarchicalBinder(WIDTH, 0).state_dict().items()}
    for tensors, metadata, expected in (
        (HierarchicalBinder(WIDTH, BLOCKS, two_branch=True).state_dict(), {}, "'gate: released'"),
        (HierarchicalBinder(WIDTH, BLOCKS).state_dict() | tokens, {}, "2 absorption tokens"),
        (HierarchicalBinder(WIDTH, BLOCKS, rank=2).state_dict(), {}, "have rank 2"),
        (HierarchicalBinder(WIDTH, BLOCKS).state_dict(), plain_keys, "'attention_keys: bound'"),
        (tokens, {}, "there is no binder in it"),
        (HierarchicalBinder(WIDTH, BLOCKS).state_dict() | {"junk": torch.zeros(1)}, {}, "unknown: junk"),
        ({"shared.spatial.0.weight": torch.ones(WIDTH), "shared.spatial.1.weight": torch.eye(WIDTH)}, {}, "missing: "),
        (broken, {}, "not finite: "),
    ):
        save_artifact(tmp_path / "ours.safetensors", tensors, metadata)
        assert run("export", tmp_path / "ours.safetensors", tmp_path / "out.safetensors") == 2
        error = capsys.readouterr().err
        assert expected in error and error.count("\n") == 1
