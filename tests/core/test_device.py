"""Jobs side by side on one node take different GPUs. Processes of their own, with GPUs that are only counted."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from bico.config.reading import load
from bico.core import device as lease
from bico.core.device import VISIBLE, free_device
from bico.core.errors import InputError

# Takes one of `sys.argv[1]` GPUs, tells which, and ends when its stdin does.
JOB = """
import logging, os, sys
from bico.core import device as lease
logging.basicConfig(level="INFO", format="%(message)s")
lease.POLL = 0.02
lease.device_count = lambda: int(sys.argv[1])
lease.take_device()
lease.take_device()
print(os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def job(tmp_path):
    """Starts a job on a node of `count` GPUs."""
    started = []

    def start(count: int, **environment: str) -> subprocess.Popen[str]:
        clean = {name: value for name, value in os.environ.items() if name != VISIBLE}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", JOB, str(count)],
                cwd=ROOT,
                env=clean | {"TMPDIR": str(tmp_path)} | environment,
                text=True,
                **pipes,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def device(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline().strip()


def test_jobs_side_by_side_take_different_devices(job):
    assert {device(process) for process in [job(3), job(3), job(3)]} == {"0", "1", "2"}


@pytest.mark.parametrize("end", ["terminate", "kill", "normally"])
def test_a_job_waits_until_a_device_is_free_however_the_other_ends(job, end, tmp_path):
    first = job(1)
    assert device(first) == "0"
    second = job(1)
    notice = second.stderr.readline()
    assert notice.startswith("all GPUs are taken (1, locks in ") and str(tmp_path) in notice
    first.stdin.close() if end == "normally" else getattr(first, end)()
    assert device(second) == "0"


def test_jobs_share_the_devices_that_are_visible(job):
    """As in an allocation of two GPUs on a node of four, or on a workstation whose others are somebody else's."""
    visible = {"CUDA_VISIBLE_DEVICES": "2,GPU-5c0f/1"}
    first, second = job(2, **visible), job(2, **visible)
    assert {device(first), device(second)} == {"2", "GPU-5c0f/1"}
    assert job(2, **visible).stderr.readline().startswith("all GPUs are taken (2, ")


def test_jobs_of_a_scheduler_do_not_wait_for_each_other(job):
    """It may call the GPU of each of them 0."""
    own = [{"CUDA_VISIBLE_DEVICES": "0", "SLURM_JOB_ID": number} for number in ("11", "12")]
    assert [device(job(1, **environment)) for environment in own] == ["0", "0"]
    assert job(1, **own[0]).stderr.readline().startswith("all GPUs are taken (1, ")


def test_where_nothing_is_visible_nothing_is_taken(job, tmp_path):
    assert device(job(0, CUDA_VISIBLE_DEVICES="")) == "" and list(Path(tmp_path).iterdir()) == []


def test_without_a_gpu_nothing_is_taken(job, tmp_path):
    assert device(job(0)) == "None" and list(Path(tmp_path).iterdir()) == []


@pytest.mark.parametrize(("setting", "taken"), [("auto", "0"), ("cuda", "0"), ("cpu", None)])
def test_commands_take_a_device_unless_they_run_on_the_cpu(small, tmp_path, monkeypatch, setting, taken):
    monkeypatch.setenv(VISIBLE, "")
    monkeypatch.delenv(VISIBLE)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(lease, "device_count", lambda: 1)
    monkeypatch.setattr(lease, "_held", [])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    free_device(load(small | {"device": setting}).device)
    assert os.environ.get(VISIBLE) == taken


def test_a_gpu_that_is_not_there_is_told(small, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="device: 'cuda', but torch sees no GPU"):
        free_device(load(small | {"device": "cuda"}).device)
