"""The step that learns: what it stores, and how a training that broke off goes on. On a tiny backbone."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from safetensors.torch import load_file

from bico.config.reading import load
from bico.config.schema import Config
from bico.core.errors import InputError
from bico.core.files import write_json
from bico.methods.bico import learn as bico_learn
from bico.pipeline.learn import learn
from bico.plan import dependencies
from bico.training.checkpoint import CHECKPOINT

FEW = {"global_steps": 2, "all_steps": 2}
ITEM = "fish_bouncing"


class Interrupted(Exception):
    pass


@pytest.fixture
def benchmark(small, tmp_path, monkeypatch) -> Callable[..., Config]:
    """A benchmark of one row, bico, and a video that is encoded; results in a folder of this name."""
    monkeypatch.setattr("bico.pipeline.learn.open_backbone", lambda config: tiny.backbone())

    def made(folder: str, training: dict = {}, **changes: object) -> Config:  # noqa: B006
        settings = {"learning_rate": 1e-2, "checkpoint_every": 1, "stages": FEW, "clip_stages": FEW, **training}
        rows = {"methods": {"bico": settings}, "tables": {}, "curves": {}, "results": str(tmp_path / folder)}
        case = {"prompt": "a fish bouncing", "bind": {ITEM: ["bouncing"]}}
        config = load(small | rows | {"sources": {ITEM: small["sources"][ITEM]}, "cases": {"case": case}} | changes)
        tiny.source().save(config.paths.encoded(ITEM))
        spatial, temporal = ["fish", "golden fish"], ["bouncing"]  # the caption lacks one
        said = {"captions": ["a fish bouncing at the beach"], "spatial": spatial, "temporal": temporal}
        write_json(config.paths.concepts(ITEM), said)
        return config

    return made


def learned(config: Config) -> Path:
    learn(config, "bico", 0)
    return config.paths.artifact("bico", ITEM, 0)


@contextmanager
def breaking_off(monkeypatch, after: int) -> Iterator[None]:
    """A training of bico breaks off after so many losses, of which two are for the evaluation after the first step."""
    calls, loss = iter(range(99)), bico_learn.flow_matching_loss

    def breaking(*arguments: object, **how: object) -> torch.Tensor:
        if next(calls) == after:
            raise Interrupted
        return loss(*arguments, **how)

    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(bico_learn, "flow_matching_loss", breaking)
        yield


def test_bfloat16_rounds_the_file_alone_and_a_resumed_training_ends_as_an_uninterrupted_one(
    benchmark, monkeypatch
) -> None:
    wide, whole = load_file(learned(benchmark("wide"))), learned(benchmark("whole", learned_dtype="bfloat16"))
    broken = benchmark("broken", learned_dtype="bfloat16")
    with breaking_off(monkeypatch, after=7):
        learned(broken)
    checkpoint = load_file(broken.paths.artifact("bico", ITEM, 0).with_suffix(".ckpt") / CHECKPOINT)
    assert {tensor.dtype for tensor in checkpoint.values()} == {torch.float32}
    assert learned(broken).read_bytes() == whole.read_bytes()
    for name, tensor in load_file(whole).items():
        dtype = torch.bfloat16 if tensor.ndim > 1 else torch.float32
        assert tensor.dtype == dtype and torch.equal(tensor, wide[name].to(dtype)), name


def test_a_gpu_on_which_nothing_can_be_compiled_is_refused(benchmark, monkeypatch) -> None:
    """Training would take twice as long, and nobody reads the log of a job that succeeds."""
    backbone = SimpleNamespace(device=torch.device("cuda"), dtype=torch.bfloat16)
    monkeypatch.setattr("bico.pipeline.learn.open_backbone", lambda config: backbone)
    monkeypatch.setattr("bico.pipeline.learn.compiles_on", lambda device: False)
    with pytest.raises(InputError, match=r"compile: nothing can be compiled on this machine, .* set compile: false"):
        learned(benchmark("results", compile=True))


def test_what_was_learned_before_is_stale_only_where_it_would_be_stored_otherwise(benchmark) -> None:
    records = {
        dtype: dependencies.learn(benchmark("results", learned_dtype=dtype), "bico", 0, "torch.float32").settings
        for dtype in ("float32", "bfloat16")
    }
    assert records["bfloat16"] == {**records["float32"], "stored": "bfloat16"}


def pictures(config: Config) -> dict[str, np.ndarray]:
    """The previews, uint8 [H, W, 3], by their names."""
    folder = config.paths.previews("bico", ITEM, 0)
    return {path.stem: np.asarray(Image.open(path)) for path in sorted(folder.iterdir())}


def curve(config: Config) -> list[dict]:
    lines = config.paths.metrics("bico", ITEM, 0).read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def test_previews_change_no_trained_byte_and_a_resumed_training_has_them_all(benchmark, monkeypatch) -> None:
    plain, often = benchmark("plain"), {"preview_every": 3}
    shown, broken = benchmark("shown", often), benchmark("broken", often)
    files, states = [], []
    for config in (plain, shown):
        torch.manual_seed(0)
        files.append(learned(config).read_bytes())
        states.append(torch.random.get_rng_state())
    assert files[0] == files[1] and curve(plain) == curve(shown) and torch.equal(*states)
    with breaking_off(monkeypatch, after=7):
        learned(broken)
    assert learned(broken).read_bytes() == files[0]
    assert not plain.paths.previews("bico", ITEM, 0).exists()
    made = pictures(shown)
    assert list(made) == ["000003", "000006"] and {each.shape for each in made.values()} == {(48, 5 * 48, 3)}
    assert not np.array_equal(made["000003"], made["000006"])
    again = pictures(broken)
    assert list(again) == list(made) and all(np.array_equal(again[name], made[name]) for name in made)


def test_training_takes_its_own_shift_where_the_config_has_one(benchmark) -> None:
    """Positions do not depend on the shift, so each sigma follows from that of another shift."""
    sigmas = {}
    for shift in (None, 1.0, 9.0):
        config = benchmark(f"shift_{shift}", {"batch_size": 1}, training_shift=shift)
        learned(config)
        sigmas[shift] = [line["sigma"] for line in curve(config)]
    for shift in (config.sampling.shift, 9.0):
        expected = [shift * sigma / (1 + (shift - 1) * sigma) for sigma in sigmas[1.0]]
        assert sigmas[shift if shift == 9.0 else None] == pytest.approx(expected, rel=1e-5)


def test_asking_for_previews_makes_nothing_stale(benchmark) -> None:
    depends = [
        dependencies.learn(benchmark("results", training), "bico", 0, "torch.float32").settings
        for training in ({}, {"preview_every": 3, "preview_prompt": "a fish"})
    ]
    assert depends[0] == depends[1]


def test_a_preview_that_cannot_be_made_is_a_line_and_training_goes_on(benchmark, caplog) -> None:
    caplog.set_level(logging.WARNING)
    config = benchmark("long", {"preview_every": 6, "preview_prompt": "a fish " * tiny.TEXT_SLOTS})
    assert learned(config).exists() and not config.paths.previews("bico", ITEM, 0).exists()
    assert any(line.startswith(f"bico {ITEM}: no preview after step 6: ") for line in caplog.messages)
