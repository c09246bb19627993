"""On a SLURM cluster: the profile as it is, and jobs that are cancelled, lose their node or run out of time."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml
from conftest import ROOT, needs_zoo
from dagtools import snakemake
from slurm.cluster import cluster, obstacle, slurm, wait_for

from bico.config.reading import load
from bico.toybox.scenes import write_source

PROFILE = Path("profiles") / "slurm" / "config.yaml"
ROWS = {"base": None, "textual_inversion": 1, "bico": 5}
CANCELLED, NODELESS, LATE = "bico", "textual_inversion", "base"


def test_jobs_that_open_large_models_ask_for_a_gpu_and_no_others(small, config_file):
    table = Path(small["results"]) / "table1.csv"
    dry = snakemake("-n", "--profile", PROFILE.parent, "--configfile", config_file, "--", table)
    assert dry.returncode == 0, dry.stdout
    jobs = [(job.split()[0].rstrip(":"), "gpu=1" in job) for job in dry.stdout.split("\nrule ")[1:]]
    assert {rule for rule, gpu in jobs if gpu} == {"concepts", "encode", "appearance", "learn", "generate", "score"}
    assert {rule for rule, gpu in jobs if not gpu} >= {"render", "truth", "calibrate", "table"}


# --- a cluster ------------------------------------------------------------------------------------------------------


@pytest.mark.slurm
@needs_zoo
@pytest.mark.skipif(obstacle() is not None, reason=str(obstacle()))
def test_faults_cost_time_and_nothing_else(small, _toybox, tmp_path, checkout):
    benchmark = few(small, _toybox["models"], tmp_path / "media")
    configs = {name: tmp_path / f"{name}.yaml" for name in ("local", "slurm")}
    for name, path in configs.items():
        path.write_text(yaml.safe_dump(benchmark | {"results": str(tmp_path / name)}, sort_keys=False))
    profile = yaml.safe_load((ROOT / PROFILE).read_text())
    (checkout / PROFILE).write_text(yaml.safe_dump(with_faults(profile)))
    with (
        cluster(tmp_path / "cluster"),
        running(checkout, configs["local"], "--cores", "2") as local,
        running(checkout, configs["slurm"], "--profile", PROFILE.parent) as remote,
    ):
        kept, struck = {}, set()
        while struck < {CANCELLED, NODELESS, LATE}:  # in the order in which they come up: this differs between machines
            row = wait_for(lambda: due(tmp_path, struck), "a clip's generation or a checkpoint", seconds=600)
            struck.add(row)
            if row == LATE:
                late = process("generate", LATE)
                late.suspend()
                assert late.environ()["CUDA_VISIBLE_DEVICES"] in ("0", "1")
                continue
            kept[row] = learned_so_far(tmp_path, row)
            if row == CANCELLED:
                slurm("scancel", *(job["id"] for job in queue("learn", row)))
            else:
                slurm("scontrol", "update", "nodename=n2", "state=down", "reason=fault")
        for run in (local, remote):
            assert run.wait(timeout=900) == 0, output(run)
        cancelled, nodeless, late = queue("learn", CANCELLED), queue("learn", NODELESS), queue("generate", LATE)

    results = [tmp_path / name for name in configs]
    learned = [f"learned/{row}/{source}/0.safetensors" for row in kept for source in small["sources"]]
    for file in ("table1.csv", *learned):
        assert len({(folder / file).read_bytes() for folder in results}) == 1, file
    again = snakemake("-n", "--configfile", configs["slurm"], "--", results[1] / "table1.csv", folder=checkout)
    assert "Nothing to be done" in again.stdout
    assert [job["state"] for job in cancelled] == ["CANCELLED", "COMPLETED"]
    assert [(job["state"], job["node"]) for job in nodeless] == [("NODE_FAIL", "n2"), ("COMPLETED", "n1")]
    assert (late[0]["state"], late[0]["limit"], late[1]["limit"]) == ("TIMEOUT", "1:00", "2:00")
    for row, (finished, lines) in kept.items():
        assert learned_so_far(tmp_path, row)[0] == finished  # what was learned is not learned again
        assert learned_so_far(tmp_path, row)[1][: len(lines)] == lines  # and what was begun goes on: seconds and all


PREEMPTED = """
rule preempted:
    output: "done"
    resources: mem_mb=500
    shell: "echo begun >> tries; sleep 20; touch {output}"
"""


@pytest.mark.slurm
@pytest.mark.skipif(obstacle() is not None, reason=str(obstacle()))
def test_a_job_that_is_preempted_runs_again(tmp_path):
    """Without requeueing, Snakemake waited for it without end. It is started from an interactive job, too, whose memory
    must not stand beside that of the rule."""
    run, tries = tmp_path / "run", tmp_path / "run" / "tries"
    run.mkdir()
    (run / "Snakefile").write_text(PREEMPTED)
    profile = yaml.safe_load((ROOT / PROFILE).read_text())
    del profile["set-resources"]
    (run / "config.yaml").write_text(
        yaml.safe_dump(profile | {"slurm-init-seconds-before-status-checks": 8, "latency-wait": 5})
    )
    interactive = {"SLURM_JOB_ID": "999", "SLURM_MEM_PER_CPU": "100", "SLURM_CPUS_PER_TASK": "4", "SLURM_NTASKS": "3"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = [sys.executable, "-m", "snakemake", "--profile", str(run), "done"]
    with cluster(tmp_path / "cluster"), (tmp_path / "log").open("w") as log:
        environment = os.environ | interactive | {"PATH": path}
        started = subprocess.Popen(command, cwd=run, env=environment, stdout=log, stderr=log)
        try:
            wait_for(tries.exists, "the job's start", seconds=240)
            urgent = ["--partition=urgent", "--exclusive", "--nodes=2", "--output=/dev/null", "--wrap=sleep 5"]
            assert slurm("sbatch", *urgent)
            assert started.wait(timeout=900) == 0, (tmp_path / "log").read_text()
            names = [job["what"] for job in queue("preempted", "")]
        finally:
            started.kill()
            started.wait()
    assert len(tries.read_text().splitlines()) == 2 and len(names) == 1


def few(small: dict, models: dict, media: Path) -> dict:
    """Three rows, one case of one's own media, few steps, many checkpoints; without the truth, to have fewer jobs."""
    rendered = load(small | {"results": str(media)})
    for source in small["sources"]:
        write_source(rendered, source)
    sources = {
        source: {"kind": entry.kind, "file": str(rendered.media_path(source))}
        for source, entry in rendered.sources.items()
    }
    cases = {name: {"prompt": case["prompt"], "bind": case["bind"]} for name, case in small["cases"].items()}
    methods = {row: small["methods"][row] for row in ROWS}
    frames, clip = {"global_steps": 1, "all_steps": 2}, {"global_steps": 9, "all_steps": 20}
    methods["bico"] |= {"stages": frames, "clip_stages": clip, "checkpoint_every": 4}
    methods["textual_inversion"] |= {"steps": 32, "checkpoint_every": 4}
    return {key: small[key] for key in ("name", "text_slots", "media", "scoring", "seeds", "compile")} | {
        "models": models | {"probe": None},
        "concepts": small["concepts"] | {"captions": 4, "frame_captions": 2},
        "sampling": small["sampling"] | {"steps": 2},
        "sources": sources,
        "cases": cases,
        "methods": methods,
        "tables": {"table1": ROWS},
    }


def with_faults(profile: dict) -> dict:
    """The profile with a place for each fault: n2 is for the first attempt of one row's learning alone, and clips have
    one minute, then two. Snakemake alone submits again."""
    node = f"'--nodelist=n2' if wildcards.method == '{NODELESS}' and attempt == 1 else '--nodelist=n1'"
    for resources in profile["set-resources"].values():
        resources["slurm_extra"] = "'--nodelist=n1'"
    profile["set-resources"]["learn"]["slurm_extra"] = node
    profile["set-resources"]["generate"]["runtime"] = "attempt"
    del profile["slurm-requeue"]  # it would go to the node again that is down
    return profile | {"slurm-no-requeue": True, "slurm-init-seconds-before-status-checks": 8, "latency-wait": 5}


@contextmanager
def running(folder: Path, config: Path, *options: object) -> Iterator[subprocess.Popen]:
    """Snakemake on its way to table1.csv, its output in a file."""
    table = Path(yaml.safe_load(config.read_text())["results"]) / "table1.csv"
    command = [sys.executable, "-m", "snakemake", *options, "--configfile", config, "--", table]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with config.with_suffix(".log").open("w") as log:
        run = subprocess.Popen(command, cwd=folder, env=os.environ | {"PATH": path}, stdout=log, stderr=log)
    try:
        yield run
    finally:
        run.kill()
        run.wait()


def output(run: subprocess.Popen) -> str:
    return Path(run.args[-3]).with_suffix(".log").read_text()[-4000:]


def process(*words: str) -> psutil.Process | None:
    """The process of `python -m bico.cli ...` that SLURM has started, without the shells around it."""
    for found in psutil.process_iter(["cmdline", "environ"]):
        command = found.info["cmdline"] or []
        if (
            command[1:3] == ["-m", "bico.cli"]
            and set(words) <= set(command)
            and "SLURM_JOB_ID" in found.info["environ"]
        ):
            return found
    return None


def queue(rule: str, row: str) -> list[dict[str, str]]:
    """The jobs of a rule for a row that SLURM remembers, in the order of their submission."""
    names = ("what", "state", "node", "limit", "id")
    listed = slurm("squeue", "--states=all", "--sort=i", "--noheader", "--format=%k|%T|%N|%l|%i").splitlines()
    jobs = [dict(zip(names, line.split("|"), strict=True)) for line in listed]
    return [job for job in jobs if rule in job["what"] and row in job["what"]]


def due(folder: Path, struck: set[str]) -> str | None:
    """A row, not struck yet, whose time has come: it generates its first clip, or it has learned of one source and has
    a checkpoint of the other."""
    checkpoint = Path("fish_bouncing/0.ckpt") / "checkpoint.safetensors"
    rows = [row for row in (CANCELLED, NODELESS) if row not in struck]
    learning = (row for row in rows if (folder / "slurm" / "learned" / row / checkpoint).exists())
    return next(learning, None) or (LATE if LATE not in struck and process("generate", LATE) else None)


def learned_so_far(folder: Path, row: str) -> tuple[int, list[str]]:
    """When the first source was learned, and the metrics of the second: up to its first checkpoint, or all."""
    learned = folder / "slurm" / "learned" / row
    second = learned / "fish_bouncing"
    unfinished, finished = second / "0.ckpt" / "metrics.jsonl", second / "0.metrics.jsonl"
    lines = finished.read_text().splitlines() if finished.exists() else unfinished.read_text().splitlines()[:4]
    return (learned / "cat_beach" / "0.safetensors").stat().st_mtime_ns, lines
