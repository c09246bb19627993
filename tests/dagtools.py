"""What tests of the DAG need: Snakemake in a checkout, and what its dry run says."""

import os
import subprocess
import sys
from pathlib import Path

from conftest import ROOT


def snakemake(
    *arguments: object, folder: Path = ROOT, cores: tuple[str, ...] = ("--cores", "2")
) -> subprocess.CompletedProcess[str]:
    """Runs Snakemake in a checkout; its output comes back as one text."""
    command = [sys.executable, "-m", "snakemake", *cores, *map(str, arguments)]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PATH": path},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def jobs(output: str) -> dict[str, int]:
    """Rule -> number of jobs, from the statistics of a dry run."""
    if "Job stats:" not in output:
        assert "Nothing to be done" in output, output
        return {}
    lines = output.split("Job stats:")[1].split("total")[0].splitlines()[3:]
    return {rule: int(count) for rule, count in (line.split() for line in lines if line.strip())}


def pretend_results(checkout: Path, config_file: Path, *targets: str) -> None:
    """Runs the DAG with commands that only make the outputs, empty."""
    for rules in (checkout / "workflow" / "rules").glob("*.smk"):
        pretended = "mkdir -p {output.folder:q}; touch {output.page:q} #"
        text = rules.read_text().replace("python -m bico.cli gallery", pretended)
        text = text.replace("python -m bico.cli", "touch {output:q} #")
        rules.write_text(text)
    done = snakemake("--configfile", config_file, "--", *targets, folder=checkout)
    assert done.returncode == 0, done.stdout
