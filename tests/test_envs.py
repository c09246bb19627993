"""The environments for conda and containers are those of uv.lock."""

import runpy
import shutil

import pytest
import yaml
from conftest import ROOT

ENVS = ROOT / "envs"


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv writes the environment; the README's set-up installs it")
def test_conda_environment_is_that_of_the_lock():
    written = runpy.run_path(str(ENVS / "update.py"))["environment"]()
    assert (ENVS / "environment.yaml").read_text() == written, "stale: run `uv run python envs/update.py`"


def test_conda_environment_pins_every_package():
    *_, pip = yaml.safe_load((ENVS / "environment.yaml").read_text())["dependencies"]
    names = {pin.split("==")[0] for pin in pip["pip"]}
    assert all("==" in pin for pin in pip["pip"])
    assert {"torch", "diffusers", "snakemake", "peft", "timm"} <= names and "pytest" not in names


def test_container_installs_the_lock_as_it_is():
    recipe = (ENVS / "Dockerfile").read_text()
    assert "COPY pyproject.toml uv.lock" in recipe and "uv sync --frozen" in recipe
