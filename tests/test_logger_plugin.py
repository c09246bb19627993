"""What a run prints: a line for each job with the share of the work done, and the last lines of jobs that fail."""

import io
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.tests import MockOutputSettings

from snakemake_logger_plugin_bico import LogHandler
from snakemake_logger_plugin_bico.hints import hint
from snakemake_logger_plugin_bico.share import Share

WORKFLOW = """
rule all:
    input: "made", "broken"
rule make:
    output: "{name}"
    log: "logs/{name}.log"
    wildcard_constraints: name="made"
    shell: "echo one of many lines > {log}; touch {output}"
rule fail:
    output: "broken"
    log: "logs/broken.log"
    shell: "echo error: no such model > {log}; exit 2"
onsuccess:
    logger.info("the table", extra={"shown": True})
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "Snakefile").write_text(WORKFLOW)
    command = [sys.executable, "-m", "snakemake", "--logger", "bico", "--keep-going", "--cores", "1", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=-2)


def test_a_run_prints_a_line_for_each_job_and_the_end_of_those_that_fail(tmp_path):
    done = run(tmp_path)
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert sum("make made (" in line for line in lines) == 1 and "one of many lines" not in done.stdout
    failed = next(number for number, line in enumerate(lines) if "FAILED: fail" in line)
    assert lines[failed + 1 : failed + 3] == ["    | error: no such model", "    all lines: logs/broken.log"]
    assert any("1 of 3 jobs failed: fail." in line and "run the same command again" in line for line in lines)
    assert len(lines) < 8 and "jobid" not in done.stdout and "Error" not in done.stdout
    whole = next((tmp_path / ".snakemake" / "log").iterdir()).read_text()
    assert "rule make:" in whole and "Error in rule fail" in whole

    again = run(tmp_path, "--", "made")
    assert again.returncode == 0 and "Nothing to be done" in again.stdout
    success = run(tmp_path, "--force", "--", "made")
    assert success.returncode == 0 and success.stdout.index("make made (") < success.stdout.index("the table")


def test_a_dry_run_prints_what_snakemake_prints(tmp_path):
    printed = run(tmp_path, "-n").stdout
    assert "Job stats:" in printed and "\nrule make:\n    output: made\n" in printed and "This was a dry-run" in printed


def test_a_target_that_is_read_as_a_setting_is_explained_in_one_line(tmp_path):
    done = run(tmp_path, "--config", "seeds=[0,1]", "made")
    errors = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and "Traceback" not in done.stdout
    assert len(errors) == 1 and "--config made: expected name=value" in errors[0] and " -- results/" in errors[0]


def test_a_target_that_is_read_as_a_config_file_is_explained():
    lost = "in load_configfile\n...\nFileNotFoundError: [Errno 2] No such file or directory: 'results/table1.csv'"
    explained = hint(f"Traceback (most recent call last):\n{lost}", []) or ""
    assert explained.startswith("error: --configfile results/table1.csv: not there") and "put `--` before" in explained
    no_config = "WorkflowError:\nConfig file must be given as JSON or YAML with keys at top level."
    read = hint(no_config, ["--configfile", "results/a.csv"]) or ""
    assert read.startswith("error: --configfile: ") and "put `--` before" in read
    assert hint("Nothing to be done (all requested files are present and up to date).", []) is None


def test_a_slip_in_a_config_is_named_with_its_file_and_line(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("name: own\nresults: 'results\n")
    explained = hint("Config file is not valid JSON or YAML.", ["--configfile", str(file), "--", "results/a.csv"]) or ""
    assert explained.startswith(f"error: {file} (line ") and "\n" not in explained and "--" not in explained


def test_notices_of_a_job_that_succeeded_are_shown(tmp_path, monkeypatch):
    """They say for instance that nothing will be learned under a word, before hours of training."""
    monkeypatch.setattr("sys.stderr", shown := io.StringIO())
    settings = MockOutputSettings()
    settings.printshellcmds = False
    log = tmp_path / "concepts.log"
    log.write_text("1 of 2\n" + "".join(f"notice: cases.{name}: no caption names it\n" for name in "aabcdefg"))
    handler = LogHandler(settings, None)
    handler.emit(message(LogEvent.RUN_INFO, stats={"total": 1}))
    handler.emit(message(LogEvent.JOB_INFO, jobid=1, rule_name="concepts", wildcards={}, log=[str(log)]))
    handler.emit(message(LogEvent.JOB_FINISHED, job_id=1))
    handler.emit(message(LogEvent.JOB_INFO, jobid=2, rule_name="coverage", wildcards={}, log=[str(log)]))
    handler.emit(message(LogEvent.JOB_FINISHED, job_id=2))
    handler.close()
    concepts, *notices, coverage = shown.getvalue().splitlines()
    assert "concepts (" in concepts and "coverage (" in coverage  # which says the same
    assert notices == [
        *(f"    notice: cases.{name}: no caption names it" for name in "abcde"),
        f"    and 2 more in {log}",
    ]


def test_the_profile_chooses_the_logger_and_jobs_print_into_their_logs_alone():
    assert yaml.safe_load((ROOT / "profiles" / "default" / "config.yaml").read_text())["logger"] == "bico"
    for rules in (ROOT / "workflow" / "rules").glob("*.smk"):
        commands = [line for line in rules.read_text().splitlines() if "python -m bico.cli" in line]
        assert all(line.endswith(' > {log:q} 2>&1"') for line in commands), rules.name


# --- a terminal -----------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def message(event: LogEvent | None, **fields: object) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": "", "levelno": logging.INFO, "event": event} | fields)


def test_a_terminal_shows_the_newest_line_of_running_jobs_in_one_line(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    settings = MockOutputSettings()
    settings.printshellcmds = False
    log = tmp_path / "learn.log"
    log.write_text("step 1/9\rstep 2/9\n")
    handler = LogHandler(settings, None)
    handler.emit(message(LogEvent.RUN_INFO, stats={"total": 2}))
    started = {"jobid": 1, "rule_name": "learn", "wildcards": {"method": "bico", "part": "0"}, "log": [str(log)]}
    handler.emit(message(LogEvent.JOB_INFO, **started))
    assert handler._status().endswith("running: learn bico 0 (step 2/9)")
    handler.screen.status("x" * 200)
    assert terminal.getvalue().endswith("\r\x1b[K" + "x" * 58 + "…")
    handler.emit(message(LogEvent.JOB_FINISHED, job_id=1))
    handler.close()
    assert terminal.getvalue().endswith("learn bico 0 (0 s)\n")


def test_without_a_terminal_a_job_takes_as_long_as_since_it_began(tmp_path, monkeypatch, clock):
    """Nothing is shown while it runs, so nothing else looks whether it has begun."""
    monkeypatch.setattr("sys.stderr", shown := io.StringIO())
    settings = MockOutputSettings()
    settings.printshellcmds = False
    (tmp_path / "learn.log").touch()
    handler = LogHandler(settings, None)
    handler.emit(message(LogEvent.RUN_INFO, stats={"total": 2}))
    started = {"jobid": 1, "rule_name": "learn", "wildcards": {}, "log": [str(tmp_path / "learn.log")]}
    handler.emit(message(LogEvent.JOB_INFO, **started))
    while not handler.share.running:  # it looks by itself, every second
        time.sleep(0.05)
    clock[0] = 26
    handler.emit(message(LogEvent.JOB_FINISHED, job_id=1))
    handler.close()
    assert "learn (26 s)" in shown.getvalue()


def test_jobs_that_ctrl_c_ends_are_no_failures(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    settings = MockOutputSettings()
    settings.printshellcmds = False
    handler = LogHandler(settings, None)
    handler.emit(message(LogEvent.RUN_INFO, stats={"total": 2}))
    handler.emit(message(LogEvent.JOB_INFO, jobid=1, rule_name="learn", wildcards={}, log=[]))
    handler.emit(message(None, msg="Terminating processes on user request, this might take some time."))
    handler.emit(message(LogEvent.JOB_ERROR, jobid=1, rule_name="learn", rule_msg=None, log=[], aux={}))
    handler.close()
    handler.close()
    assert "FAILED" not in terminal.getvalue() and terminal.getvalue().count("Stopped. Finished results are kept") == 1


# --- the share ------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("snakemake_logger_plugin_bico.share.time.monotonic", lambda: now[0])
    return now


def test_the_share_is_that_of_the_time_and_not_of_the_jobs(clock):
    share = Share()
    share.jobs = 3
    share.expect({1: 60, 2: 60, 3: 1080}, cores=1)
    share.submit(1, None)
    clock[0] = 60
    assert share.finish(1) == 60
    assert share.text().split() == ["5%", "19", "min", "left"]
    share.submit(2, None)
    clock[0] = 60 + 30
    assert share.text().startswith("  8%")  # half of a running job counts


def test_the_time_left_follows_the_pace_of_the_run_and_the_cores(clock):
    share = Share()
    share.expect(dict.fromkeys(range(10), 600.0), cores=2)
    for job in range(4):
        share.submit(job, None)
    clock[0] = 4000  # expected: 1200 on two cores
    for job in range(4):
        share.finish(job)
    left = int(share.text().split()[1])
    assert share.text().split()[0] == "40%" and left == 1 and "1 h 3" in share.text()


def test_without_expectations_the_share_is_that_of_the_jobs(clock):
    share = Share()
    share.jobs = 4
    share.submit(1, None)
    share.finish(1)
    assert share.text().strip() == "25%"


def test_a_job_in_the_queue_of_a_cluster_has_not_begun(tmp_path):
    share = Share()
    share.expect({1: 600.0}, cores=1)
    (tmp_path / "old.log").write_text("of an earlier run")
    os.utime(tmp_path / "old.log", (0, 0))
    share.submit(1, tmp_path / "old.log")
    assert share.text().startswith("  0%") and list(share.waiting) == [1] and not share.running
    (tmp_path / "old.log").write_text("of this run")
    share.text()
    assert list(share.running) == [1] and not share.waiting
