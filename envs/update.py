"""Writes envs/environment.yaml anew from uv.lock: `uv run python envs/update.py`. A test fails when it is stale."""

import subprocess
from pathlib import Path

ENVS = Path(__file__).parent
HEADER = """\
# The environment of uv.lock for `snakemake --sdm conda`. Written by envs/update.py, do not edit.
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def environment() -> str:
    """The conda environment: every package that uv.lock pins for running (not for developing) the benchmark."""
    export = [
        "uv",
        "export",
        "--frozen",
        "--no-dev",
        "--no-emit-project",
        "--no-hashes",
        "--no-annotate",
        "--no-header",
    ]
    pins = subprocess.run(export, cwd=ENVS.parent, check=True, capture_output=True, text=True).stdout.splitlines()
    return HEADER + "".join(f'      - "{pin}"\n' for pin in pins if pin)


if __name__ == "__main__":
    (ENVS / "environment.yaml").write_text(environment(), encoding="utf-8")
