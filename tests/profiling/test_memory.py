"""What jobs need of a GPU's memory, and a GPU that is too small."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, needs_zoo

from bico.cli.main import main
from bico.config.methods import LearnedSettings
from bico.config.reading import load
from bico.config.schema import Config
from bico.core.errors import InputError
from bico.profiling import memory
from bico.profiling.costs import costs_of
from bico.profiling.estimate import estimate
from bico.profiling.memory import GIB, Memory
from bico.scoring.scores import dino_foreground, vqa

ROOM = 22  # GiB, of a card of 24 GB


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", ["paper", "pilot"])
def test_every_job_fits_the_papers_kind_of_gpu(name: str) -> None:
    config = load(ROOT / "config" / f"{name}.yaml")
    reckoned = Memory(config)
    peaks = {rule: reckoned.of(rule) for rule in ("concepts", "encode")}
    peaks |= {f"generate {row}": reckoned.of("generate", row) for row in config.methods}
    peaks |= {
        f"learn {row}": reckoned.of("learn", row) for row, own in config.methods.items() if own.LEARNS_PER != "nothing"
    }
    assert {job: round(peak, 1) for job, peak in peaks.items() if peak > ROOM} == {}
    assert peaks["learn bico"] > 15 and peaks["concepts"] > 15 and peaks["generate base"] > 10


@pytest.mark.parametrize(
    ("row", "measured"),
    [("bico", 16.8), ("textual_inversion", 23.9), ("db_lora", 20.1), ("dreamvideo", 16.1), ("dualreal", 14.3)],
)
def test_steps_on_clips_are_estimated_as_they_were_measured(row: str, measured: float) -> None:
    """On an H100, 81 frames of 480x832, with the embeddings of CLIP ViT-B/32 (benchmarks/README.md)."""
    config = load(ROOT / "config" / "paper.yaml")
    config = config.model_copy(update={"models": config.models.model_copy(update={"appearance": None})})
    settings = config.methods[row]
    if row == "dualreal":  # whose three stills would take more than the clip
        settings = settings.model_copy(update={"identity_batch_size": 1})
    estimated = Memory(config, roomy=True)._training(settings, "video")
    assert estimated == pytest.approx(measured, rel=0.05)


def test_scores_need_the_memory_of_all_models_that_they_open_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    paper = load(ROOT / "config" / "paper.yaml")
    asked = {"vqa": vqa.Settings(), "dino_foreground": dino_foreground.Settings()}

    def config(*names: str) -> Config:
        scores = paper.scoring.scores | {name: asked[name] for name in names}
        return paper.model_copy(update={"scoring": paper.scoring.model_copy(update={"scores": scores})})

    assert Memory(paper).of("score") == 0
    each = [Memory(config(name)).of("score") for name in asked]
    assert max(each) < ROOM and Memory(config(*asked)).of("published") == pytest.approx(sum(each))
    gpu(monkeypatch, 23.6)
    with pytest.raises(InputError, match=r"^score bico: it needs about .*, or not both of the scores vqa"):
        memory.check_gpu(config(*asked), "score", "bico")
    memory.check_gpu(config("vqa"), "score", "bico")


def test_less_memory_is_needed_of_smaller_clips_and_of_smaller_models() -> None:
    paper = load(ROOT / "config" / "paper.yaml")
    smaller = paper.model_copy(update={"media": paper.media.model_copy(update={"num_frames": 49})})
    for row in ("textual_inversion", "db_lora", "dreamvideo", "dualreal", "bico"):
        assert Memory(smaller).of("learn", row) <= Memory(paper).of("learn", row)
    assert Memory(smaller).of("learn", "bico") < 0.85 * Memory(paper).of("learn", "bico")
    toybox = load(ROOT / "config" / "toybox.yaml")
    assert all(Memory(toybox).of("learn", row) < 1 for row in ("bico", "textual_inversion", "dualreal"))


def gpu(monkeypatch: pytest.MonkeyPatch, gib: float) -> None:
    """There is one of so much memory."""
    monkeypatch.setattr(memory, "free_device", lambda device: "cuda")
    found = SimpleNamespace(name="Small GPU", total_memory=gib * GIB)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)


@pytest.mark.parametrize("command", [["learn", "db_lora", "0"], ["generate", "bico"], ["concepts"], ["encode"]])
def test_a_gpu_that_is_too_small_is_named_before_a_job_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    gpu(monkeypatch, 7.8)
    assert main([command[0], "--config", "config/paper.yaml", *command[1:]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {' '.join(command).removesuffix(' 0')}: it needs about ")
    assert "GiB of GPU memory, and Small GPU has 7.8 GiB: expected a larger GPU" in line


def test_a_gpu_on_which_only_the_first_steps_would_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """BiCo's steps on stills fit 16 GB, those on clips, an hour later, do not."""
    gpu(monkeypatch, 15.7)
    with pytest.raises(InputError, match="learn bico: it needs about 17"):
        memory.check_gpu(load(ROOT / "config" / "paper.yaml"), "learn", "bico")


def test_a_gpu_of_24_gb_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(monkeypatch, 23.6)
    config = load(ROOT / "config" / "paper.yaml")
    for row in ("textual_inversion", "db_lora", "dreamvideo", "dualreal", "bico", "bico_as_released"):
        memory.check_gpu(config, "learn", row)


def test_a_batch_that_goes_through_at_once_needs_more_memory() -> None:
    """DualReal draws one source for the whole batch. Other rows pass long clips one by one."""
    paper = load(ROOT / "config" / "paper.yaml")

    def training(row: str, batch_size: int) -> float:
        settings = paper.methods[row].model_copy(update={"batch_size": batch_size})
        return Memory(paper.model_copy(update={"methods": paper.methods | {row: settings}})).training(row)

    assert training("dualreal", 4) > 1.5 * training("dualreal", 1)
    assert training("db_lora", 4) == training("db_lora", 1)


def test_a_method_that_does_not_say_what_it_keeps_counts_as_the_one_that_keeps_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = with_previews(load(ROOT / "config" / "paper.yaml"))
    for row in ("textual_inversion", "db_lora", "dreamvideo", "dualreal", "bico"):
        own = [Memory(config).training(row), Memory(config).previews(row), Memory(config).of("generate", row)]
        monkeypatch.setattr(type(config.methods[row]), "KEPT", LearnedSettings.KEPT)
        guess = [Memory(config).training(row), Memory(config).previews(row), Memory(config).of("generate", row)]
        assert all(more >= less for more, less in zip(guess, own, strict=True)) and guess != own


def test_a_gpu_that_may_be_too_small_for_a_method_that_does_not_say_is_a_notice(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = load(ROOT / "config" / "paper.yaml")
    gpu(monkeypatch, 15.7)
    monkeypatch.setattr(type(config.methods["bico"]), "KEPT", LearnedSettings.KEPT)
    memory.check_gpu(config, "learn", "bico")
    (line,) = caplog.messages
    assert line.startswith("notice: learn bico: it may need up to ") and "(KEPT)" in line


def with_previews(config: Config) -> Config:
    rows = {
        row: own.model_copy(update={"preview_every": 100}) if isinstance(own, LearnedSettings) else own
        for row, own in config.methods.items()
    }
    return config.model_copy(update={"methods": rows})


@pytest.mark.parametrize("roomy", [False, True])
def test_a_preview_needs_what_a_clip_does_beside_all_that_training_holds(roomy: bool) -> None:
    config = load(ROOT / "config" / "paper.yaml")
    plain, previewing = Memory(config, roomy=roomy), Memory(with_previews(config), roomy=roomy)
    for row in ("textual_inversion", "db_lora", "dreamvideo", "dualreal", "bico"):
        clip, optimizer = plain.of("generate", row), 16 * config.methods[row].parameters("video", plain.sizes.backbone)
        assert plain.previews(row) == 0 and plain.of("learn", row) == plain.training(row) == previewing.training(row)
        assert previewing.previews(row) > 0.9 * clip + optimizer / GIB  # of a case's clip, what two sources learned
        assert previewing.of("learn", row) == max(previewing.training(row), previewing.previews(row))


def test_a_gpu_too_small_for_previews_alone_is_a_notice(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = load(ROOT / "config" / "paper.yaml")
    trains, previews = Memory(config).of("learn", "bico"), Memory(with_previews(config)).of("learn", "bico")
    assert previews > trains + 1
    gpu(monkeypatch, trains + 1)
    memory.check_gpu(config, "learn", "bico")
    assert caplog.messages == []
    memory.check_gpu(with_previews(config), "learn", "bico")
    (line,) = caplog.messages
    assert line.startswith(f"notice: learn bico: with previews it needs about {previews + memory.CUDA:.1f} GiB")


@needs_zoo
def test_the_estimate_of_a_gpu_names_its_memory(toybox: dict, tmp_path: Path) -> None:
    config = load(toybox | {"results": str(tmp_path)})
    assert "gpu_gib" in estimate(config, costs_of("h100"), [])
    assert "gpu_gib" not in estimate(config, costs_of("cpu_amx"), [])
