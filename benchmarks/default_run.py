"""How long the default benchmark takes, from a clean checkout: wall time by rule, start-up, memory, and a second run.

    uv run python benchmarks/default_run.py [--cores 2] [--keep FOLDER]

It clones the last commit into a temporary folder and runs `snakemake all` there with this environment, and with nothing
that a compiler left behind, as on a machine that never ran it. Every job reports its imports (Python's own
PYTHONPROFILEIMPORTTIME): start-up is measured in the very run, not guessed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from bico.core.errors import exit_code
from bico.core.tables import read_lines

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ("s", "cpu_time", "max_rss")
UNMEASURED = ("NA", "-")  # of a job that ended before it was looked at
IMPORT = re.compile(r"import time:\s+(\d+) \|")
GPU_MEMORY = re.compile(r"^GPU memory: (.+) GiB", re.MULTILINE)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="run here, and leave the results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkout = options.keep or Path(folder) / "checkout"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
        cold, second = run(checkout, options.cores), run(checkout, options.cores)
        print(report(jobs(checkout / "results"), cold, options.cores))
        print(f"\ncold {cold / 60:.1f} min, second run {second:.1f} s")


def run(checkout: Path, cores: int) -> float:
    """Wall time of `snakemake all` in seconds."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # the rules' python is this one
    environment = os.environ | {
        "PATH": path,
        "PYTHONPATH": str(checkout),
        "PYTHONPROFILEIMPORTTIME": "1",
        "TMPDIR": str(checkout / ".compiled"),  # kernels and precompiled headers
    }
    (checkout / ".compiled").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "all"]
    started = time.monotonic()
    finished = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    if finished.returncode:
        lines = [line for line in finished.stderr.splitlines() if not IMPORT.match(line)]
        sys.exit("\n".join(lines[-40:]))
    return time.monotonic() - started


def jobs(results: Path) -> pd.DataFrame:
    """A row per job: rule, wall and CPU seconds, peak memory in MB, seconds of imports; of a GPU, GiB."""
    rows = []
    for path in sorted((results / "benchmarks").rglob("*.tsv")):
        job = path.relative_to(results / "benchmarks").with_suffix("")
        (line, *_) = read_lines(path, MEASURED, delimiter="\t").values()
        measured = {name: float("nan" if line[name] in UNMEASURED else line[name]) for name in MEASURED}
        log = results / "logs" / f"{job}.log"
        text = log.read_text(encoding="utf-8")
        rows.append(
            {
                "rule": " ".join(job.parts[:-1]) or job.name,
                "wall": measured["s"],
                "cpu": measured["cpu_time"],
                "rss": measured["max_rss"],
                "imports": sum(map(int, IMPORT.findall(text))) / 1e6,
                "gpu_gib": max(map(float, GPU_MEMORY.findall(text)), default=None),
            }
        )
    return pd.DataFrame(rows)


def report(table: pd.DataFrame, wall: float, cores: int) -> str:
    """Sums by rule, and what share of the cores' time went into imports."""
    rules = table.groupby("rule", sort=False).agg(
        jobs=("wall", "size"), wall=("wall", "sum"), imports=("imports", "sum"), peak_mb=("rss", "max")
    )
    share = rules["imports"].sum() / rules["wall"].sum()
    return (
        f"{rules.round(1).to_string()}\n\n{len(table)} jobs, {rules['wall'].sum():.0f} job seconds in {wall:.0f} s on "
        f"{cores} cores; imports {100 * share:.0f} % of job time; highest peak {rules['peak_mb'].max():.0f} MB"
    )


if __name__ == "__main__":
    sys.exit(exit_code(main))
