"""The output of a run: one line for each job that ends, with the share of finished work and the time left.

Snakemake finds this package by its name, and `logger: bico` in profiles/default/config.yaml chooses it. What jobs print
is in their log files. On a terminal the last line shows the running jobs, each with the newest line of its log.

Dry runs, and runs with `--verbose`, `--printshellcmds` or `--debug-dag`, print what Snakemake prints without this
package. The file in .snakemake/log always holds that.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from logging import INFO, LogRecord
from pathlib import Path
from typing import TextIO

from snakemake.logging import ColorizingTextHandler
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from bico.core.progress import duration
from snakemake_logger_plugin_bico.hints import hint
from snakemake_logger_plugin_bico.share import Share

HIDDEN = (
    "Building DAG of jobs",
    "Assuming unrestricted shared filesystem usage",
    "Using shell:",
    "Conda environments: ignored",
    "Select jobs to execute",
    "Execute ",
    "Elapsed time:",
    "Shutting down",
    "Exiting because a job execution failed",
    "RuleException:\nCalledProcessError",
)
"""First words of Snakemake's messages that are not shown."""
FAILURE = "WorkflowError:\nAt least one job did not complete successfully."
STOPPING = "Terminating processes on user request"
LAST_LINES = 15
"""Number of lines that are shown from the log of a failed job."""
NOTICES = 5
"""Number of notices that are shown from the log of a job that has ended."""
QUIET = 300.0
"""Seconds without a line, after which a run without a terminal prints its progress."""


class LogHandler(LogHandlerBase):
    """The handler that Snakemake calls with each of its messages, all in one thread."""

    def __post_init__(self) -> None:
        asked = self.common_settings
        stream = sys.stdout if asked.stdout else sys.stderr
        self.engine = ColorizingTextHandler(nocolor=asked.nocolor, stream=stream)
        self.plain = asked.dryrun or asked.verbose or asked.printshellcmds or asked.debug_dag
        self.screen = _Screen(stream)
        self.share = Share()
        self.names: dict[int, str] = {}
        self.logs: dict[int, Path] = {}
        self.noticed: set[str] = set()
        self.failed: dict[int, str] = {}
        self.stopped = False  # by Ctrl-C, after which failed jobs are not reported
        self.closing = threading.Event()
        self.ticker: threading.Thread | None = None

    @property
    def writes_to_stream(self) -> bool:
        return True

    @property
    def writes_to_file(self) -> bool:
        return False

    @property
    def has_filter(self) -> bool:
        return False  # Snakemake's own, which knows --quiet

    @property
    def has_formatter(self) -> bool:
        return False

    @property
    def needs_rulegraph(self) -> bool:
        return False

    def emit(self, record: LogRecord) -> None:
        """Prints a message of Snakemake, or our own line in its place."""
        try:
            event = getattr(record, "event", None)
            if event in (None, LogEvent.ERROR) and (advice := hint(record.getMessage(), sys.argv[1:])):
                self.screen.line(advice)
                return
            if self.plain:
                self.engine.setFormatter(self.formatter)
                self.engine.emit(record)
                return
            handlers = {
                LogEvent.RUN_INFO: self._run,
                LogEvent.JOB_INFO: self._started,
                LogEvent.JOB_FINISHED: self._finished,
                LogEvent.JOB_ERROR: self._failed,
            }
            if event is not None and event in handlers:
                handlers[event](record)
            elif event in (None, LogEvent.ERROR):
                self._message(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Ends the line of running jobs. If jobs failed, the last lines name them and say what to do."""
        if self.closing.is_set():  # Python closes all handlers once more when it ends
            return
        self.closing.set()
        if self.ticker:
            self.ticker.join()
        with self.screen.lock:
            self.screen.status("")
        if self.stopped:
            self.screen.line("Stopped. Finished results are kept: run the same command again to continue from here.")
        elif self.failed:
            names, of = ", ".join(self.failed.values()), f" of {self.share.jobs}" if self.share.jobs else ""
            self.screen.line(
                f"{len(self.failed)}{of} jobs failed: {names}. Their last lines are above. All other "
                "results are kept. Correct the cause, then run the same command again to continue from here."
            )
        super().close()

    # Each of these tells one kind of message.

    def _run(self, record: LogRecord) -> None:
        self.share.jobs = record.__dict__["stats"]["total"]
        self.ticker = threading.Thread(target=self._tick, daemon=True)
        self.ticker.start()

    def _started(self, record: LogRecord) -> None:
        job = record.__dict__
        number = job["jobid"]
        with self.screen.lock:
            self.names[number] = " ".join([job["rule_name"], *map(str, job["wildcards"].values())])
            if job["log"]:
                self.logs[number] = Path(job["log"][0])
            self.failed.pop(number, None)  # it runs again
            self.share.submit(number, self.logs.get(number))

    def _finished(self, record: LogRecord) -> None:
        number = record.__dict__["job_id"]
        with self.screen.lock:
            took = self.share.finish(number)
        self._print(f"{self.names.get(number, number)} ({duration(took)})")
        if number in self.logs:
            notices = [line for line in _notices(self.logs[number]) if line not in self.noticed]
            self.noticed.update(notices)
            for line in notices[:NOTICES]:
                self.screen.line(f"    {line}")
            if len(notices) > NOTICES:
                self.screen.line(f"    and {len(notices) - NOTICES} more in {self.logs[number]}")

    def _failed(self, record: LogRecord) -> None:
        job = record.__dict__
        number = job["jobid"]
        with self.screen.lock:
            took = self.share.give_up(number)
        self.failed[number] = name = self.names.get(number, str(job["rule_name"]))
        if self.stopped:
            return
        lines = [line for file in job["log"] for line in _last_lines(Path(file), LAST_LINES)]
        self._print(f"FAILED: {name} (after {duration(took)})")
        for line in lines:
            self.screen.line(f"    | {line}")
        if job["rule_msg"]:
            self.screen.line(f"    {job['rule_msg']}")
        for key, value in job["aux"].items():
            self.screen.line(f"    {key}: {value}")
        for file in job["log"]:
            self.screen.line(f"    all lines: {file}")

    def _message(self, record: LogRecord) -> None:
        if hasattr(record, "seconds"):  # the Snakefile sends the expected time of each job
            with self.screen.lock:
                self.share.expect(record.__dict__["seconds"], record.__dict__["cores"])
            return
        message = self.format(record)
        self.stopped = self.stopped or message.startswith(STOPPING)
        if message.startswith(FAILURE) and self.failed:  # the last lines say it
            return
        if message.startswith(HIDDEN) or (self._running() and record.levelno <= INFO and not _matters(record)):
            return
        self.screen.line(message)

    def _running(self) -> bool:
        return self.ticker is not None and self.share.jobs > self.share.done

    def _print(self, what: str) -> None:
        self.screen.line(f"{self.share.text()}  {what}")

    # The line of running jobs.

    def _tick(self) -> None:
        while not self.closing.wait(1.0):
            with self.screen.lock:
                self.share.look()
                if self.screen.is_terminal and self.share.expected:  # jobs of other Snakefiles print there themselves
                    self.screen.status(self._status())
                elif (self.share.running or self.share.waiting) and time.monotonic() - self.screen.last > QUIET:
                    self.screen.line(self._status())

    def _status(self) -> str:
        share = self.share.text()
        running = [f"{self.names[number]}{self._newest(number)}" for number in self.share.running]
        waiting = [f"{len(self.share.waiting)} in the queue"] if self.share.waiting else []
        return f"{share}  running: {'; '.join(running + waiting)}" if running + waiting else ""

    def _newest(self, number: int) -> str:
        """The newest line of a job's log, in parentheses."""
        lines = _last_lines(self.logs[number], 1) if number in self.logs else []
        return f" ({lines[0]})" if lines else ""


def _matters(record: LogRecord) -> bool:
    """Whether a message of Snakemake or its executors between jobs is shown."""
    message = record.getMessage()
    return hasattr(record, "shown") or message.startswith(("Trying to restart", STOPPING, "Will exit", "Complete log"))


def _notices(path: Path) -> list[str]:
    """The notices in a job's log, each once: what a user should know although the job succeeded."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return list(dict.fromkeys(line.strip() for line in text.splitlines() if line.startswith("notice:")))


def _last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a file, which may be long, still be written, or not exist."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16384))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()][-count:]


class _Screen:
    """Prints lines and, on a terminal, a status line below them that changes."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.is_terminal = stream, stream.isatty()
        self.lock, self.last = threading.RLock(), time.monotonic()
        self.shown = ""

    def line(self, text: str) -> None:
        with self.lock:
            self.status("")  # it comes back within a second
            print(text, file=self.stream, flush=True)
            self.last = time.monotonic()

    def status(self, text: str) -> None:
        if self.is_terminal and (text or self.shown):
            width = shutil.get_terminal_size().columns
            self.shown = text if len(text) < width else f"{text[: width - 2]}…"
            self.stream.write(f"\r\x1b[K{self.shown}")
            self.stream.flush()
