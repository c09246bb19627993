"""What a run will take, before it starts: jobs, hours and disk, rule by rule.

    bico estimate --config config/toybox.yaml
    bico estimate --config config/paper.yaml --machine h100
    bico estimate --config my.yaml --measure

Snakemake's dry run knows the jobs, so what is already there costs nothing; the config knows how much work is in each;
`machines.yaml` knows what a unit of work takes. The unit of all that passes through the transformer is the TFLOP that
its matrix products need: one speed serves clips of any size, best those near the ones that it was measured on.

Jobs count in full, although a job that runs again keeps what is up to date (see `bico.core.records`). Rules that `Work`
does not name (tables, figures, applications, ...) count as one short command each, without disk; so do downloads, but
with theirs. While it runs, a training also keeps a checkpoint of three times the size of what it learns.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import yaml

from bico.config.schema import Config
from bico.core.errors import InputError
from bico.core.files import write_text
from bico.profiling.costs import Costs, costs_of
from bico.profiling.measuring import measure as measured
from bico.profiling.memory import Memory
from bico.profiling.work import Job, Work


def estimated(config: Config, machine: str, *, measure: bool, targets: Sequence[str]) -> str:
    """`estimate` with the costs of a machine of `machines.yaml`; with `measure` of this one, which stand below."""
    if not measure:
        return estimate(config, costs_of(machine), targets)
    costs = measured(config)
    entry = yaml.safe_dump({"this_machine": costs.model_dump()}, sort_keys=False)
    return f"{estimate(config, costs, targets)}\n\n{entry}"


def estimate(config: Config, costs: Costs, targets: Sequence[str]) -> str:
    """The table: a line for each rule that would run for these targets, and their sum.

    Raises InputError if Snakemake cannot plan the run.
    """
    chosen = config.chosen()
    jobs, work = planned(config, targets), Work(chosen, costs)
    if not jobs:
        return "nothing to be done"
    rows = pd.DataFrame([{"rule": job.rule, "jobs": 1} | work.of(job) for job in jobs])
    table = rows.groupby("rule", sort=False).sum()
    table.loc["total"] = table.sum()
    if costs.gpu:
        memory = Memory(chosen)
        rows["gpu_gib"] = [memory.of(job.rule, job.wildcards.get("method")) for job in jobs]
        table["gpu_gib"] = rows.groupby("rule", sort=False)["gpu_gib"].max()
        table.loc["total", "gpu_gib"] = rows["gpu_gib"].max()
    table["jobs"] = table["jobs"].astype(int)
    hours = ["gpu_hours", "cpu_hours"]
    if table[hours].sum(axis=1)["total"] < 1:
        table[hours] *= 60
        table = table.rename(columns=dict(zip(hours, ["gpu_minutes", "cpu_minutes"], strict=True)))
    shared = "Time is that of one GPU or core: jobs side by side on several take so many times less, at best."
    if costs.gpu:
        shared += "\ngpu_gib: estimated GPU memory of the rule's largest job, on a GPU of less than 32 GiB; 0 = little."
    return f"{table.to_string(float_format='{:.2f}'.format)}\n\n{shared}\n{costs.origin}"


def planned(config: Config, targets: Sequence[str]) -> list[Job]:
    """The jobs that Snakemake would run, from its dry run in this folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        write_text(path, config.to_yaml())
        command = [sys.executable, "-m", "snakemake", "--dry-run", "--configfile", str(path), "--", *targets]
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise InputError(f"snakemake cannot plan this run: {done.stdout.strip().splitlines()[-1]}")
    return list(jobs_in(done.stdout))


def jobs_in(output: str) -> Iterator[Job]:
    """The jobs in the output of a dry run; `all` and the like, which only name targets, are none."""
    for rule, body in re.findall(r"^(?:local)?rule (\w+):\n((?: {4}.*\n)+)", output, re.MULTILINE):
        fields = dict(line.strip().split(": ", 1) for line in body.splitlines() if ": " in line)
        if "output" in fields:
            pairs = fields["wildcards"].split(", ") if "wildcards" in fields else []
            yield Job(rule, dict(pair.split("=", 1) for pair in pairs))
