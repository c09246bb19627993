"""The environments for conda and containers are those of uv.lock."""

import re
import runpy
import shutil
from importlib.metadata import version

import pytest
import yaml
from conftest import ROOT

import bico

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


def test_the_package_knows_its_version_where_it_is_not_installed():
    """As in the container and in conda's environment, where it is found by its folder alone."""
    assert bico.__version__ == version("bico")
    assert f"version: {bico.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    asks = [path.name for path in (ROOT / "bico").rglob("*.py") if re.search(r"version\(.bico.\)", path.read_text())]
    assert asks == []
