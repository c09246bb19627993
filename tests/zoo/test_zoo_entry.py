"""`python -m bico.zoo` and `workflow/zoo.smk`: what they accept, and what they install."""

import shutil
from importlib import import_module
from pathlib import Path

import pytest
from dagtools import jobs, snakemake

from bico.core.fingerprints import file_digest
from bico.zoo.__main__ import TRAINED, main
from bico.zoo.install import MODELS, install


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["giraffe", "out"], "invalid choice: 'giraffe'"),
        (["vae"], "the following arguments are required: FOLDER"),
        (["wan", "nowhere"], "nowhere/vae: no VAE"),
        (["clutter", "nowhere"], "nowhere: no probe there"),
        (["install", "--workdir", "nowhere", "out"], "nowhere/wan: no such folder"),
        (["card", "nowhere"], "nowhere/wan/vae: no such folder"),
        (
            ["clip", "out", "--start", "nowhere"],
            "--start: clip takes no such option: expected it with wan or lean or scale or vlm or vqa",
        ),
        (["vqa", "out", "--start", "nowhere"], "--start: nowhere: no such folder"),
        (["vlm", "out", "--start", "nowhere"], "--start: nowhere: no such folder"),
    ],
)
def test_bad_input_is_one_line(arguments, message, capsys, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_every_model_is_trained_in_a_work_folder_of_its_own(monkeypatch):
    found = {}
    for model, module in TRAINED.items():
        monkeypatch.setattr(
            import_module(module), "train", lambda out, workdir, model=model: found.update({model: workdir})
        )
        assert main([model, "out"]) == 0
    assert found == {model: Path("build/zoo/work") / model for model in TRAINED}


def test_installed_models_replace_those_before_and_have_checksums(tmp_path: Path):
    built, zoo = tmp_path / "built", tmp_path / "zoo"
    for name in MODELS:
        (built / name).mkdir(parents=True)
        (built / name / "config.json").write_text(name)
    (zoo / "wan").mkdir(parents=True)
    (zoo / "wan" / "old.json").touch()
    (zoo / "README.md").touch()
    install(built, zoo)
    lines = [line.split("  ") for line in (zoo / "SHA256SUMS").read_text().splitlines()]
    assert [file for _, file in lines] == sorted(f"{name}/config.json" for name in MODELS)
    assert all(digest == file_digest(zoo / file) for digest, file in lines)
    assert not (zoo / "wan" / "old.json").exists() and (zoo / "README.md").exists()


def test_zoo_can_be_trained_when_there_is_none(checkout: Path):
    (checkout / "data").unlink(missing_ok=True)
    shutil.rmtree(checkout / "config")
    done = snakemake("-n", "-s", "workflow/zoo.smk", folder=checkout)
    assert done.returncode == 0 and "profiles/default" in done.stdout, done.stdout
    assert jobs(done.stdout) == {"vae": 1, "wan": 1, "model": 4, "vqa": 1, "install": 1}
