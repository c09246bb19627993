"""Estimates a run before it starts: jobs, hours and disk, rule by rule.

    bico estimate --config config/toybox.yaml
    bico estimate --config config/paper.yaml --machine rtx4090
    bico estimate --config my.yaml --measure

The text has four parts: hours and disk by rule; the same by row; the cost of one more photo or clip; and, for GPUs,
suitable `parts` and time limits of SLURM jobs.

Snakemake's dry run knows the jobs, and records know which trainings and clips a job will keep, so what is already there
costs nothing; the config knows how much work is in the rest; `machines.yaml` knows what a unit of work takes. The unit
of all that passes through the transformer is the TFLOP that its matrix products need: one speed serves clips of any
size, best those near the ones that it was measured on.

A training that was interrupted counts in full, and so do jobs of other rules that keep a part of their results. Rules
that `Work` does not name (tables, figures, ...) count as one short command each, without disk; so do downloads, but
with theirs.
"""

from __future__ import annotations

import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pandas as pd
import yaml

from bico.config.schema import Config
from bico.core.errors import InputError
from bico.core.files import write_text
from bico.core.progress import duration
from bico.plan.trainings import trainings
from bico.profiling.costs import Costs, costs_of
from bico.profiling.memory import Memory
from bico.profiling.work import RuleJob, Work

LONGEST = 8.0
"""Hours that the longest job of `learn` takes with the `parts` that are recommended."""
MARGIN = 2.0
"""Time limit of a job, in multiples of its estimate."""
DAY = 24 * 60
"""Minutes that most partitions allow. SLURM keeps a job that asks for more in the queue for ever."""
ATTEMPTS = 4
"""Attempts of a job with the `retries` of profiles/slurm."""


def estimated(config: Config, machine: str, *, measure: bool, targets: Sequence[str]) -> str:
    """`estimate` with the costs of a machine of `machines.yaml`; with `measure` of this one, which stand below."""
    if not measure:
        return estimate(config, costs_of(machine), targets)
    from bico.profiling.measuring import measure as measured  # opens torch, which takes seconds

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
    rows = pd.DataFrame([{"rule": job.rule, "wildcards": job.wildcards, "jobs": 1} | work.of(job) for job in jobs])
    table = rows.drop(columns="wildcards").groupby("rule", sort=False).sum()
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
    parts = [table.to_string(float_format="{:.2f}".format), _by_row(rows, hours), _of_one(work)]
    shared = "Time is that of one GPU or core: jobs side by side on several take so many times less, at best."
    if learned := {job.wildcards["method"] for job in jobs if job.rule == "learn"}:
        size = max(map(work.checkpoint, learned))
        shared += f"\ngb: without checkpoints; a training at work keeps one of up to {size:.2f} GB."
    if costs.gpu:
        shared += "\ngpu_gib: estimated GPU memory of the rule's largest job, on a GPU of less than 32 GiB; 0 = little."
        parts.append(_for_slurm(work, jobs))
    return "\n\n".join([*parts, f"{shared}\n{costs.origin}"])


def _by_row(rows: pd.DataFrame, hours: list[str]) -> str:
    """Hours and disk of each row of the tables, in the order of its jobs."""
    method = [wildcards.get("method", "(shared by all rows)") for wildcards in rows["wildcards"]]
    table = rows.assign(row=method).groupby("row", sort=False)[["jobs", *hours, "gb"]].sum()
    return f"By row, hours:\n{table.to_string(float_format='{:.2f}'.format)}"


def _of_one(work: Work) -> str:
    """What one source or clip more costs in each row of table 1."""
    costs = {row: work.of_one(row) for row in work.config.table("table1")}
    columns = ["a photo", "a clip", "a case", "a composition"]
    cells_of = {what: [duration(of[what]) if what in of else "" for of in costs.values()] for what in columns}
    table = pd.DataFrame({what: cells for what, cells in cells_of.items() if any(cells)}, index=list(costs))
    return (
        "One more of your own: learning from a photo, a clip or, where a method does so, a case; and making one clip\n"
        f"of a composition. Every job also takes {duration(work.costs.start)} to start.\n{table.to_string()}"
    )


def _for_slurm(work: Work, jobs: list[RuleJob]) -> str:
    """`parts` that make no job of `learn` too long, and a time limit for every rule that opens models."""
    parts, longest = _fitting_parts(work, {job.wildcards["method"] for job in jobs if job.rule == "learn"})
    hours: dict[str, float] = {}
    for job in jobs:
        hours[job.rule] = max(hours.get(job.rule, 0.0), work.of(job)["gpu_hours"])
    if "learn" in hours:
        hours["learn"] = longest
    limits = [f"  {rule}: {_limit(of)}" for rule, of in hours.items() if of]
    division = (
        f"On several GPUs: with parts={parts} in the config, the longest job of learn takes {duration(3600 * longest)}."
    )
    return "\n".join(
        [
            *([division] if "learn" in hours else []),
            f"Time limits (minutes) for `runtime` in profiles/slurm/config.yaml, {MARGIN:g} times the estimate, with "
            f"parts={parts}:",
            *limits,
        ]
    )


def _limit(hours: float) -> str:
    """Minutes, a multiple of 30, for each attempt; no more than a day, if one attempt does not need more."""
    minutes = 30 * math.ceil(MARGIN * 60 * hours / 30)
    most = max(1, DAY // minutes)
    return f"{'attempt' if most >= ATTEMPTS else f'min(attempt, {most})'} * {minutes}"


def _fitting_parts(work: Work, learned: Collection[str]) -> tuple[int, float]:
    """The smallest `parts` with which no job of `learn` of these rows takes more than `LONGEST`, or with which each job
    is a single training; and the hours of the longest job then."""
    config = work.config
    most = max((len(list(trainings(config, row))) for row in learned), default=1)

    def longest(parts: int) -> float:
        divided = Work(config.model_copy(update={"parts": parts}), work.costs)
        each = (RuleJob("learn", {"method": row, "part": str(part)}) for row in learned for part in range(parts))
        return max((divided.of(job)["gpu_hours"] for job in each), default=0.0)

    parts = next((parts for parts in range(1, most) if longest(parts) <= LONGEST), most)
    return parts, longest(parts)


def planned(config: Config, targets: Sequence[str]) -> list[RuleJob]:
    """The jobs that Snakemake would run, from its dry run in this folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        write_text(path, config.to_yaml())
        command = [sys.executable, "-m", "snakemake", "--dry-run", "--configfile", str(path), "--", *targets]
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise InputError(f"snakemake cannot plan this run: {done.stdout.strip().splitlines()[-1]}")
    return list(jobs_in(done.stdout))


def jobs_in(output: str) -> Iterator[RuleJob]:
    """The jobs in the output of a dry run; `all` and the like, which only name targets, are none."""
    for rule, body in re.findall(r"^(?:local)?rule (\w+):\n((?: {4}.*\n)+)", output, re.MULTILINE):
        fields = dict(line.strip().split(": ", 1) for line in body.splitlines() if ": " in line)
        if "output" in fields:
            pairs = fields["wildcards"].split(", ") if "wildcards" in fields else []
            yield RuleJob(rule, dict(pair.split("=", 1) for pair in pairs))
