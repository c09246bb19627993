"""A SLURM cluster to be thrown away: two nodes on this host, without a database, systemd or cgroups.

munge (who is who), slurmctld (the controller) and a slurmd for each node keep everything in one folder, but for two
links in /etc/slurm: jobs of Snakemake drop SLURM_CONF from their environment, so that is where their steps look.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
ETC = Path("/etc/slurm")
NAME = "throwaway"
NODES = ("n1", "n2")


def obstacle() -> str | None:
    """Why there can be no cluster here; None if there can."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"no {', '.join(missing)}: install munge, slurmctld, slurmd and slurm-client as .ci/run does"
    if os.getuid() != 0:
        return "a SLURM cluster of one host is started by root"
    if (ETC / "slurm.conf").exists():
        return f"{ETC}/slurm.conf exists: this machine belongs to a SLURM cluster already"
    return None


@contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """Starts it, with all its nodes idle; stops it and all its jobs at the end.

    Raises:
        TimeoutError: the nodes do not come up; the folder's logs say why.
    """
    try:
        _configure(folder)
        _start(folder)
        wait_for(
            lambda: slurm("sinfo", "--noheader", "--format=%D %t") == f"{len(NODES)} idle", "idle nodes", seconds=120
        )
        yield
    finally:
        _stop(folder)


def slurm(*command: str) -> str:
    """What a client of SLURM prints; nothing, if it fails."""
    return subprocess.run(command, text=True, capture_output=True).stdout.strip()


def wait_for(condition: Callable[[], object], what: str, *, seconds: float) -> object:
    """The first true value of a condition. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.1)
    return value


def _configure(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    for name in ("state", *(f"spool.{node}" for node in NODES)):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    for device in range(2):  # SLURM wants device nodes: these are /dev/null once more
        os.mknod(folder / f"gpu{device}", 0o666 | 0o020000, os.makedev(1, 3))
    template = Path(__file__).with_name("slurm.conf").read_text()
    host = socket.gethostname().partition(".")[0]
    (folder / "slurm.conf").write_text(template.format(host=host, folder=folder))
    (folder / "gres.conf").write_text(f"NodeName=n[1-2] Name=gpu Flags=nvidia_gpu_env File={folder}/gpu[0-1]\n")
    ETC.mkdir(exist_ok=True)
    for name in ("slurm.conf", "gres.conf"):
        (ETC / name).symlink_to(folder / name)


def _start(folder: Path) -> None:
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munge = [f"--{option}={folder}/munge.{suffix}" for option, suffix in files.items()]
    # By force, because the test's folder is closed to all but root, who is all that munge has to serve.
    daemons = [["munged", "--force", *munge], ["slurmctld"], *(["slurmd", "-N", node] for node in NODES)]
    for daemon in daemons:
        subprocess.run(daemon, check=True)


def _stop(folder: Path) -> None:
    slurm("scancel", "--user=root", "--signal=KILL", "--full")
    for process in psutil.process_iter(["environ"]):  # of a node that is down, the shell of a job lives on
        if (process.info["environ"] or {}).get("SLURM_CLUSTER_NAME") == NAME:
            process.kill()
    for pid in [*folder.glob("slurmd.*.pid"), folder / "slurmctld.pid", folder / "munge.pid"]:
        _end(pid)
    for name in ("slurm.conf", "gres.conf"):
        (ETC / name).unlink(missing_ok=True)


def _end(pid: Path) -> None:
    """Ends a daemon, which removes its file."""
    if pid.exists():
        os.kill(int(pid.read_text()), signal.SIGTERM)
        wait_for(lambda: not pid.exists(), f"the end of {pid.name}", seconds=60)
