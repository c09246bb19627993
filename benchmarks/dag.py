"""How long Snakemake takes to plan a large benchmark, and where that time goes.

    uv run python benchmarks/dag.py [--jobs 10000] [--profile]

One job makes all of a row, so a large DAG has many rows and parts: 200 variants of BiCo, each learned in as many parts
as the number of jobs asks for, from 40 sources, for 400 cases with two seeds. It lies in a temporary folder, and
nothing of it runs. A run submits its first jobs as soon as it has planned; a dry run goes through all of them. CPU
seconds say what an idle machine would take, wall seconds what this one took.
"""

from __future__ import annotations

import argparse
import math
import os
import pstats
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from bico.core.errors import exit_code
from bico.profiling.measuring import cpu_of_children

ROOT = Path(__file__).resolve().parents[1]
SUBJECTS = ("cat", "fish", "car", "rocket", "robot", "mushroom")
ROWS, SOURCES, CASES = 200, 40, 400


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10_000, help="about so many; 1,000 at least")
    parser.add_argument("--profile", action="store_true", help="once more, slower: what takes the time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(yaml.safe_dump(large(Path(folder) / "results", options.jobs), sort_keys=False))
        jobs, built, wall, cpu = plan(config)
        print(
            f"{jobs} jobs planned in {built:.1f} s; with the dry run's walk through all of them {wall:.1f} s "
            f"({cpu:.1f} s of CPU)"
        )
        if options.profile:
            stats = Path(folder) / "stats"
            plan(config, "-m", "cProfile", "-o", str(stats))
            pstats.Stats(str(stats)).sort_stats("cumulative").print_stats(
                "snakemake/(dag|rules|workflow)|/bico/|smk", 40
            )


def large(results: Path, jobs: int) -> dict[str, Any]:
    """A config of the Toybox with so many jobs."""
    config = yaml.safe_load((ROOT / "config" / "toybox.yaml").read_text(encoding="utf-8"))
    settings = config["methods"]["bico"] | {"method": "bico"}
    sources = {f"source_{number}": source(number) for number in range(SOURCES)}
    rows = {f"bico_{number}": settings | {"learning_rate": 1e-3 + number * 1e-6} for number in range(ROWS)}
    for section in ("tuning", "tables", "curves", "applications", "controls"):
        config.pop(section, None)
    return config | {
        "results": str(results),
        "sources": sources,
        "cases": {f"case_{number}": case(number) for number in range(CASES)},
        "methods": {"base": {}} | rows,
        "parts": max(1, math.ceil((jobs - SOURCES - 2 * ROWS) / ROWS)),
    }


def source(number: int) -> dict[str, Any]:
    """An image at even numbers, a video at odd ones."""
    scene = {"seed": number, "subject": SUBJECTS[number % len(SUBJECTS)], "scene": "beach"}
    if number % 2:
        return {"kind": "video", "scene": scene | {"motion": "bouncing"}}
    return {"kind": "image", "scene": scene}


def case(number: int) -> dict[str, Any]:
    """An image and the video after it."""
    image = 2 * number % SOURCES
    subject = SUBJECTS[image % len(SUBJECTS)]
    bind = {f"source_{image}": [subject], f"source_{image + 1}": ["bouncing"]}
    truth = {"subject": f"source_{image}", "motion": f"source_{image + 1}"}
    return {"prompt": f"a {subject} bouncing in space", "bind": bind, "truth": truth}


def plan(config: Path, *profiler: str) -> tuple[int, float, float, float]:
    """Jobs of a dry run, seconds until it has planned them, its wall seconds and its CPU seconds."""
    command = [*profiler, "-m", "snakemake"] if profiler else ["-m", "snakemake"]
    lines, planned = [], None
    started, before = time.monotonic(), cpu_of_children()
    with subprocess.Popen(
        [sys.executable, *command, "--dry-run", "--quiet", "rules", "--cores", "2", "--configfile", str(config)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        for line in process.stdout or ():
            lines.append(line)
            if line.startswith("Job stats") and planned is None:
                planned = time.monotonic() - started
    wall, cpu, said = time.monotonic() - started, cpu_of_children() - before, "".join(lines)
    total = re.search(r"^total +(\d+)$", said, re.MULTILINE)
    if process.returncode or total is None or planned is None:
        sys.exit(said)
    return int(total[1]), planned, wall, cpu


if __name__ == "__main__":
    sys.exit(exit_code(main))
