"""`bico doctor`: fine with the shipped models, and not with random weights of the same shapes."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import timm
import torch
import yaml
from conftest import ROOT, ZOO, needs_zoo
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from files import write
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration, UMT5Config, UMT5EncoderModel

from bico.cli.main import main
from bico.config.reading import load
from bico.doctor.examination import findings
from bico.doctor.finding import Finding
from bico.doctor.judges import examine_yes
from bico.doctor.memory import examine_memory
from bico.doctor.vlm import examine_vlm

pytestmark = needs_zoo

DECIDED_BY_WEIGHTS = {
    "VLM, concepts and captions",
    "VAE, reconstruction",
    "frozen model, loss under a source's own caption",
    "CLIP, a source's own caption",
    "generation, a clip's own prompt",
    "DINO, a crop's own picture",
    "appearance, a crop's own picture",
    "VQA score, a source's own words",
}


@pytest.fixture
def examined(toybox, tmp_path, monkeypatch) -> dict:
    """The Toybox's benchmark as far as it is examined."""
    monkeypatch.chdir(ROOT)
    methods = {row: toybox["methods"][row] for row in ("bico", "dualreal")}  # dualreal learns from CLIP's embeddings
    toybox |= {"results": str(tmp_path / "results"), "compile": False, "methods": methods}
    toybox |= {"tables": {"table1": dict.fromkeys(methods)}, "curves": {}, "applications": {}, "controls": {}}
    del toybox["tuning"]
    return toybox


def randomise(zoo: Path) -> None:
    """Gives every model of a zoo random weights, as its own library draws them."""
    torch.manual_seed(0)
    for model, part in ((WanTransformer3DModel, "transformer"), (AutoencoderKLWan, "vae")):
        folder = zoo / "wan" / part
        model.from_config(model.load_config(folder)).save_pretrained(folder)
    folder = zoo / "wan" / "text_encoder"
    UMT5EncoderModel(UMT5Config.from_pretrained(folder)).save_pretrained(folder)
    for vlm in (zoo / "vlm", zoo / "vqa"):
        Qwen2_5_VLForConditionalGeneration(AutoConfig.from_pretrained(vlm)).save_pretrained(vlm)
    clip = open_clip.create_model(f"local-dir:{zoo / 'clip'}", load_weights=False)
    dino = timm.create_model(f"local-dir:{zoo / 'dino'}", pretrained=False, num_classes=0)
    for model, file in ((clip, zoo / "clip" / "open_clip_model.safetensors"), (dino, zoo / "dino/model.safetensors")):
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, file)


def test_the_shipped_models_work(examined, tmp_path, capsys):
    assert main(["doctor", "--config", write(examined, tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "a cat" in printed and "LOOK" not in printed and "cpu_minutes" in printed  # captions, verdicts, the estimate
    folder = tmp_path / "results" / "doctor"
    report = json.loads((folder / "report.json").read_text())
    assert {finding["part"] for finding in report} == {*DECIDED_BY_WEIGHTS, "training, a step"}
    assert all(finding["part"] in printed and finding["measured"] in printed for finding in report)
    assert len(list(folder.glob("*.mp4"))) == 4


def test_random_weights_work_in_no_part_that_weights_decide(examined, tmp_path):
    zoo = Path(shutil.copytree(ZOO, tmp_path / "zoo", ignore=shutil.ignore_patterns("SHA256SUMS")))
    randomise(zoo)
    examined["models"] = {name: str(zoo / name) for name, folder in examined["models"].items() if folder}
    examined["concepts"] |= {"attempts": 1, "max_new_tokens": 32}  # it would go on and on
    found = {finding.part: finding for finding in findings(load(examined))}
    assert {part for part, finding in found.items() if not finding.fine} == DECIDED_BY_WEIGHTS
    assert all(finding.look in str(finding) for finding in found.values() if not finding.fine)


class Answers:
    """Stands in for the VLM: repeats the key words of a request, and keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def answer(self, media, prompt, seeds, settings, fps, system=None):
        self.asked.append((prompt, settings.max_new_tokens))
        return [prompt.splitlines()[-1] for _ in seeds]


def test_the_vlm_is_asked_what_a_run_asks_it(examined, monkeypatch):
    """A long list of concepts needs all tokens of the config, and words given by hand are not asked for."""
    vlm = Answers()
    monkeypatch.setattr("bico.doctor.vlm.Vlm", lambda *folder, **options: vlm)
    examined["concepts"]["max_new_tokens"] = 700
    name = next(name for name, source in examined["sources"].items() if source["kind"] == "image")
    examined["sources"][name]["concepts"] = {"spatial": ["a tin robot"]}
    finding, answers = examine_vlm(load(examined), {name: np.zeros((1, 48, 48, 3), np.uint8)})
    assert finding.fine and answers[name]["spatial"] == ["a tin robot"]
    ((request, tokens),) = vlm.asked
    assert "a tin robot" in request and tokens == 700


def test_phrases_that_stand_in_no_caption_are_a_sources_own_all_the_same(examined):
    """At full size the bound phrases are people's words, and captions have others."""
    config = load(examined)
    names = list(config.sources)[:6]
    own = {name: {phrase for case in config.cases.values() for phrase in case.bind.get(name, ())} for name in names}

    class Knows:
        def yes(self, media, questions, fps, look):
            name = names[int(media[0][0, 0, 0, 0])]
            return [0.98 if any(f'"{phrase}"' in question for phrase in own[name]) else 0.02 for question in questions]

    samples = {name: np.full((1, 48, 48, 3), number, np.uint8) for number, name in enumerate(names)}
    finding = examine_yes(Knows(), "encoded", config, samples, dict.fromkeys(names, "something else"))
    assert finding.fine and "yes to 98% of" in finding.measured and "to 2% of" in finding.measured


def test_models_that_no_row_and_no_score_needs_are_not_opened(examined, monkeypatch):
    told = Finding("VLM", "concepts", "concepts", fine=True, look="")
    monkeypatch.setattr("bico.doctor.examination.examine_vlm", lambda *_: (told, {}))
    monkeypatch.setattr("bico.doctor.examination._of_backbone", lambda *_: iter(()))
    del examined["methods"]["dualreal"], examined["tables"]["table1"]["dualreal"]
    del examined["scoring"]["tested"]["vqa"]
    examined["models"] |= {"appearance": "nowhere", "vqa": "nowhere"}
    needless = {"appearance, a crop's own picture", "VQA score, a source's own words"}
    found = {finding.part for finding in findings(load(examined))}
    assert "DINO, a crop's own picture" in found and not needless & found


def test_a_model_that_does_not_open_is_a_finding_and_the_others_are_examined_all_the_same(
    examined, tmp_path, monkeypatch
):
    fine = Finding("VLM", "concepts", "concepts", fine=True, look="")
    monkeypatch.setattr("bico.doctor.examination.examine_vlm", lambda *_: (fine, {}))
    zoo = Path(shutil.copytree(ZOO, tmp_path / "zoo", ignore=shutil.ignore_patterns("SHA256SUMS")))
    file = zoo / "wan/vae/diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors.pop("decoder.conv_out.weight")
    save_file(tensors, file, metadata={"format": "pt"})
    examined["models"] |= {"wan": str(zoo / "wan")}
    found = {finding.part: finding for finding in findings(load(examined))}
    assert [part for part, finding in found.items() if not finding.fine] == ["backbone"]
    assert "decoder.conv_out.weight is not in its files" in found["backbone"].measured
    assert {"CLIP, a source's own caption", "DINO, a crop's own picture"} <= found.keys()


@pytest.mark.parametrize(("room", "fine"), [(23.6, True), (15.7, False)])
def test_a_gpu_is_held_against_the_largest_job(monkeypatch, room, fine):
    monkeypatch.chdir(ROOT)
    found = SimpleNamespace(name="A card", total_memory=room * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)
    finding = examine_memory(load(ROOT / "config" / "pilot.yaml"))
    assert finding.fine == fine and f"A card has {room} GiB" in finding.measured and "`concepts`" in finding.expected


def test_with_few_sources_of_ones_own_all_is_tested_that_compares_none(examined):
    kept = ("cat_beach", "fish_bouncing")
    examined["sources"] = {name: examined["sources"][name] for name in kept}
    examined["cases"] = {name: case for name, case in examined["cases"].items() if case["bind"].keys() <= set(kept)}
    del examined["methods"]["dualreal"], examined["tables"]["table1"]["dualreal"]
    found = list(findings(load(examined)))
    assert [finding.part for finding in found] == [
        "sources, compared with each other", "VLM, concepts and captions", "VAE, reconstruction", "training, a step",
    ]  # fmt: skip
    assert all(finding.fine for finding in found) and "2 sources are too few" in found[0].measured


def test_a_part_that_does_not_work_is_told_by_the_exit_code(examined, tmp_path, monkeypatch, capsys):
    path = write(examined, tmp_path)
    monkeypatch.setattr("bico.doctor.examination.estimated", lambda *config, **options: "")
    poor = Finding("VAE", "PSNR 7 dB", "22 dB", fine=False, look="the weights")
    monkeypatch.setattr("bico.doctor.examination.findings", lambda config: iter([poor]))
    assert main(["doctor", "--config", path]) == 1
    assert "LOOK  VAE: PSNR 7 dB (expected 22 dB); look at the weights" in capsys.readouterr().out


def test_sources_or_weights_that_are_not_there_yet(examined, tmp_path, capsys):
    paper = yaml.safe_load((ROOT / "config" / "paper.yaml").read_text())
    examined |= {"sources": paper["sources"], "cases": paper["cases"], "text_slots": 512}
    for source in examined["sources"].values():
        source["file"] = source["file"].replace("data/authors", str(tmp_path / "authors"))
    examined["authors_page"] = str(tmp_path / "authors")
    assert main(["doctor", "--config", write(examined, tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: sources: 0 of") and "-- downloads`)" in error and error.count("\n") == 1
    examined["models"] |= {"wan": "store/Wan-AI/Wan2.1-T2V-1.3B-Diffusers"}
    examined["weights_store"] = "store"
    assert main(["doctor", "--config", write(examined, tmp_path)]) == 2
    error = capsys.readouterr().err
    assert (
        "Wan-AI/Wan2.1-T2V-1.3B-Diffusers is not there yet" in error
        and "-- downloads` first" in error
        and error.count("\n") == 1
    )
