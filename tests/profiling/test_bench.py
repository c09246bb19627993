"""The full-size bench: its sizes and useful work are the published ones, and it runs small on a CPU; the rehearsal."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import tiny
import torch
from conftest import ROOT
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

from bico.cli.main import main
from bico.config.reading import load
from bico.methods.bico.settings import Settings as BicoSettings
from bico.methods.bico.settings import Stages
from bico.models.wan.text import padded
from bico.profiling import throughput
from bico.profiling.flops import forward_flops, training_flops
from bico.profiling.presets import PRESETS
from bico.profiling.random_models import random_source, random_transformer

sys.path.insert(0, str(ROOT / "benchmarks"))
import binder_step

FULL = PRESETS["full"]
TRAINING = ["bench", "--preset", "small", "--device", "cpu", "--steps", "1", "--sampling-steps", "0"]
SMALL = [*TRAINING[:-1], "1"]


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_models_are_as_large_as_the_published_ones() -> None:
    with torch.device("meta"):
        assert parameters(WanTransformer3DModel(**FULL.transformer)) == 1_418_996_800
        assert parameters(UMT5EncoderModel(UMT5Config(**FULL.text_encoder))) == pytest.approx(5.68e9, rel=0.01)
        assert parameters(AutoencoderKLWan(**FULL.vae)) == pytest.approx(127e6, rel=0.01)


@pytest.mark.parametrize(("frames", "forward", "training"), [(1, 4.64, 10.3), (49, 128.6, 373), (81, 283.0, 866)])
def test_useful_work_is_that_of_the_shapes(frames: int, forward: float, training: float) -> None:
    assert FULL.flops(forward_flops, frames) / 1e12 == pytest.approx(forward, rel=0.02)
    assert FULL.flops(training_flops, frames) / 1e12 == pytest.approx(training, rel=0.02)


def test_useful_work_is_what_a_forward_pass_multiplies() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    small = PRESETS["small"]
    model = random_transformer(small, torch.device("cpu"), torch.float32)
    batch = random_source(small, 9).draw(1, torch.Generator(), frames=False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(batch.latents, torch.tensor([500.0]), padded(batch.prompt_embeds, small.text_slots))
    width = model.config.num_attention_heads * model.config.attention_head_dim
    time = 2 * (model.config.freq_dim * width + width**2 + 6 * width**2)  # the time embedding, left out at full size
    assert counter.get_total_flops() == small.flops(forward_flops, 9) + time


def test_layers_that_diffusers_keeps_in_float32_stay_so() -> None:
    model = random_transformer(PRESETS["small"], torch.device("cpu"), torch.bfloat16)
    assert model.blocks[0].attn1.to_q.weight.dtype == model.dtype == torch.bfloat16
    assert model.blocks[0].scale_shift_table.dtype == torch.float32


def test_a_small_bench_measures_every_stage(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([*SMALL, "--frames", "1", "5", "--out", str(tmp_path / "bench.json")]) == 0
    written = json.loads((tmp_path / "bench.json").read_text())
    rows = pd.DataFrame(written["rows"])
    assert written["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert {"device", "dtype", "date", "model", "matrix_peak_tflop_per_s"} <= written.keys()
    assert list(zip(rows["stage"], rows["frames"], rows["variant"], strict=True)) == [
        *(("training step", frames, way) for frames in (1, 5) for way in ("ours", "diffusers", "re-encoding")),
        *(("generation, 1 steps", 5, way) for way in ("ours", "no binders")),
    ]
    assert (rows["seconds"] > 0).all() and (rows["share_of_peak"] > 0).all()
    ours = rows.loc[rows["variant"] == "ours"].set_index(["stage", "frames"])["seconds"]
    of_ours = rows["seconds"] / ours.loc[list(zip(rows["stage"], rows["frames"], strict=True))].to_numpy()
    assert rows["times_ours"].to_numpy() == pytest.approx(of_ours.to_numpy(), rel=1e-3)
    rates, peak = rows["tflop"] / rows["seconds"], written["matrix_peak_tflop_per_s"]
    assert rows["tflop_per_s"].to_numpy() == pytest.approx(rates.to_numpy(), rel=1e-3)
    assert rows["share_of_peak"].to_numpy() == pytest.approx((rates / peak).to_numpy(), rel=0.05)  # peak is rounded
    one_pass = PRESETS["small"].flops(forward_flops, 5) / 1e12
    assert rows["tflop"].iloc[-1] == pytest.approx(2 * one_pass, rel=1e-3)  # with guidance a step is two
    printed = capsys.readouterr().out
    assert all(variant in printed for variant in rows["variant"]) and written["device"] in printed


def test_steps_that_warm_up_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([100.0, 100.0, 1.0, 1.0])
    monkeypatch.setattr(throughput, "_seconds", lambda device, work: next(seconds))
    measured = throughput.plain_step(PRESETS["small"], 1, 2, torch.device("cpu"), torch.float32, encodes=False)
    assert measured.seconds == 1


def test_a_table_of_rows_alone_names_the_device_too(tmp_path: Path) -> None:
    assert main([*SMALL, "--frames", "1", "--beside", "--out", str(tmp_path / "bench.csv")]) == 0
    table = pd.read_csv(tmp_path / "bench.csv")
    assert list(table["variant"]) == ["ours", "ours", "no binders"]
    assert {"device", "date", "versions"} <= set(table.columns)


def test_a_variant_that_fails_leaves_the_others_their_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 5 GiB.")

    monkeypatch.setattr("bico.profiling.throughput.encoder", out_of_memory)
    out = tmp_path / "bench.json"
    assert main([*SMALL, "--frames", "1", "5", "--beside", "re-encoding", "diffusers", "--out", str(out)]) == 0
    rows = pd.DataFrame(json.loads(out.read_text())["rows"]).astype({"seconds": float})
    assert len(rows) == 8
    assert rows["seconds"].isna().equals(rows["variant"] == "re-encoding")
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert len(lines) == 8 and lines[0].startswith("training step, 1 frames, ours: ")
    failed = "re-encoding: failed: OutOfMemoryError: CUDA out of memory. Tried to allocate 5 GiB."
    assert [line for line in lines if "failed" in line] == [
        f"training step, {frames} frames, {failed}" for frames in (1, 5)
    ]
    assert printed.out.count("re-encoding") == 2


def test_what_is_measured_is_kept_when_the_run_breaks_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bico.profiling.bench.generation", stop)
    out = tmp_path / "bench.json"
    assert main([*SMALL, "--frames", "1", "--beside", "--out", str(out)]) == 130
    assert [row["variant"] for row in json.loads(out.read_text())["rows"]] == ["ours"]


def test_no_sampling_steps_leave_generation_out(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    assert main([*TRAINING, "--frames", "5", "--beside", "--out", str(out)]) == 0
    assert [row["stage"] for row in json.loads(out.read_text())["rows"]] == ["training step"]


def test_steps_of_the_other_rows_are_measured_as_well(tmp_path: Path) -> None:
    out, rows = tmp_path / "bench.json", ["textual_inversion", "db_lora", "dreamvideo", "dualreal"]
    lengths = ["--frames", "1", "5"]
    assert main([*TRAINING, *lengths, "--methods", *rows, "--out", str(out)]) == 0
    table = pd.DataFrame(json.loads(out.read_text())["rows"])
    assert list(table["stage"]) == [f"training step of {row}" for _ in range(2) for row in rows]
    assert (table["seconds"] > 0).all() and set(table["variant"]) == {"ours"}
    clips = table["tflop"] / table["frames"].map(lambda count: PRESETS["small"].flops(training_flops, count) / 1e12)
    assert clips.to_numpy() == pytest.approx([1, 1, 4, 3, 1, 1, 4, 1], rel=1e-3)  # stills, then clips


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--frames", "8"], "error: --frames 8: expected 4k + 1"),
        (["--height", "40"], "error: --height 40: expected a multiple of 16"),
        (["--methods", "bica"], "error: --methods bica: no method that learns: expected one of bico, db_lora"),
        (["--methods", "base"], "error: --methods base: no method that learns: expected one of bico, db_lora"),
        (["--out", "bench.txt"], "error: --out bench.txt: expected a name that ends in .csv or .json"),
    ],
)
def test_what_cannot_be_measured_is_said_first(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture
) -> None:
    assert main([*SMALL, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(expected) and error.count("\n") == 1


def test_a_rehearsal_is_the_papers_profile_with_one_case_and_few_steps(tmp_path: Path) -> None:
    import rehearsal

    paper = load(ROOT / "config" / "paper.yaml")
    models = {kind: kind for kind in ("wan", "vlm", "clip", "dino")}
    short = load(rehearsal.rehearsed(tmp_path, models, frames=5, steps=1, captions=3, rows=None))
    assert short.table("table1") == paper.table("table1") and len(short.cases) == 1
    assert short.media == paper.media.model_copy(update={"num_frames": 5})
    assert short.methods["bico"].clip_stages == Stages(global_steps=1, all_steps=1)
    assert short.concepts.captions == short.concepts.frame_captions == 3
    assert short.methods["dreamvideo"].inversion_steps == short.sampling.steps == 1
    assert short.methods["db_lora"].rank == paper.methods["db_lora"].rank


def test_a_rehearsal_lists_what_jobs_took(tmp_path: Path) -> None:
    import rehearsal

    for folder, name, text in (
        ("benchmarks", "base.tsv", "s\tcpu_time\tmax_rss\n3.0\t2.5\t900.0\n"),
        ("logs", "base.log", "GPU memory: 9.5 GiB at most\nfailed\nGPU memory: 18.0 GiB at most\n"),
    ):
        path = tmp_path / folder / "generate" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert rehearsal.report(tmp_path).splitlines()[-1].split() == ["generate", "3.0", "18.0", "900.0", "64000"]


def test_the_step_of_the_toybox_is_measured_on_whole_clips() -> None:
    """`benchmarks/binder_step.py`, on a tiny backbone."""
    settings, encoded = binder_step.on_clips(BicoSettings(learning_rate=1e-2), steps=3), tiny.source("video")
    assert len(binder_step.ours(tiny.backbone(), encoded, settings, shift=3.0)) == 2
    model = WanTransformer3DModel.from_pretrained(tiny.folder(), subfolder="transformer").requires_grad_(False)
    assert len(binder_step.plain(model, encoded, settings, 3)) == 2
