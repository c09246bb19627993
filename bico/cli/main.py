"""All commands under their headings, and how a command runs and ends.

bico compose --prompt "a cat bouncing" --bind cat.jpg=cat --bind clip.mp4=bouncing --out out.mp4
bico check --config config/toybox.yaml
bico learn --config results/config.yaml bico 0
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from cyclopts import App, CycloptsError, Group

from bico.cli import analysis, before, checkpoints, joining, methods, own_files, results, sources
from bico.cli.arguments import forget_configs, is_result
from bico.core.errors import InputError
from bico.core.files import FULL

COMMANDS = {
    "Your own files": [own_files.compose, own_files.decompose, own_files.edit],
    "Before a run": [before.draw, before.check, before.doctor, before.estimate, before.bench],
    "Steps: sources": [
        sources.weights,
        sources.authors,
        sources.render,
        sources.truth,
        sources.concepts,
        sources.coverage,
        sources.encode,
        sources.appearance,
    ],
    "Steps: methods": [methods.learn, methods.generate],
    "Steps: results": [
        results.calibrate,
        results.score,
        results.published,
        results.table,
        results.plot,
        results.curve,
        results.training_plot,
        results.tensorboard,
        results.figures,
        results.gallery,
        results.entry,
        results.rating,
        results.power,
        results.verify,
    ],
    "Steps: analysis of what was learned": [
        analysis.unbound,
        analysis.binding,
        analysis.binding_table,
        analysis.applications,
        analysis.absorption,
        analysis.concept_parts,
        analysis.doses,
        analysis.scorers,
        analysis.control_diversification,
        analysis.control_counterparts,
        analysis.control_absorption,
        analysis.controls,
    ],
    "A benchmark that others join": [joining.bundle, joining.submit, joining.compare, joining.board],
    "Checkpoints and weights": [
        checkpoints.import_,
        checkpoints.export,
        checkpoints.export_lora,
        checkpoints.pin_weights,
    ],
}
"""Heading of `bico --help` -> functions of its commands. A function `training_plot` is called `bico training-plot`."""

app = App(
    name="bico",
    help="Compose concepts of images and videos: BiCo and its benchmark.",
    version_flags=[],
    result_action="return_value",  # the default would end the process
    suppress_keyboard_interrupt=False,
)
for heading, commands in COMMANDS.items():
    group = Group.create_ordered(heading)
    for command in commands:
        app.command(command, group=group)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    0: done. 2, with one line on stderr: bad input, no command, or a file that cannot be written. 130 and 143, with one
    line: interrupted, or terminated.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # an ASCII terminal shows "é" as "\\xe9"
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="%(message)s", stream=sys.stderr, force=True)
    logging.getLogger("bico").setLevel(logging.INFO)  # libraries keep their level
    forget_configs()
    given = sys.argv[1:] if arguments is None else list(arguments)
    if not given:
        return _refused("which command? `bico --help` lists them all")
    try:
        with _terminable():
            status = app(given, exit_on_error=False, print_error=False)
        _tell_gpu_memory()
    except InputError as error:
        return _refused(str(error))
    except CycloptsError as error:
        return _refused(" ".join(str(error).split()))  # the error may have several lines
    except OSError as error:
        if (reason := _why(error)) is None:
            raise
        return _refused(reason)
    except RuntimeError as error:
        if (reason := _why_not_compiled(error)) is None:
            raise
        return _refused(reason)
    except (KeyboardInterrupt, _Terminated) as error:
        print("stopped: finished files are kept", file=sys.stderr)
        return 128 + (signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM)
    return status or 0


class _Terminated(BaseException):
    """SIGTERM, with which a scheduler ends a job. As an exception it removes temporary folders and releases locks."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Within this context SIGTERM raises. Signals can only be handled in the main thread."""

    def terminate(*_: object) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _why(error: OSError) -> str | None:
    """A message for an error of the file system; None if it is an error of the program."""
    if isinstance(error.filename, str) and is_result(Path(error.filename)) and isinstance(error, FileNotFoundError):
        return f"{error.filename}: not there: expected what an earlier step makes; Snakemake runs all in order"
    if error.errno in FULL or isinstance(error, PermissionError):
        return f"{error.filename or 'a file'}: {error.strerror}: expected free space, and permission to read and write"
    if "temporary directory" in str(error):
        return f"{error.strerror}: expected free space in one of them, or set TMPDIR"
    return None


def _why_not_compiled(error: RuntimeError) -> str | None:
    """One line where torch could not write the kernels that it compiles in the first steps of a training's stages.

    torch wraps what went wrong in an error of its own; what a compiler or another process said is only in its text.
    """
    dynamo = sys.modules.get("torch._dynamo.exc")
    if dynamo is None or not isinstance(error, dynamo.TorchDynamoException):
        return None
    reasons = [*FULL.values(), os.strerror(errno.EACCES), os.strerror(errno.EROFS)]
    said = (line.strip() for line in str(error).splitlines() if any(reason in line for reason in reasons))
    if (line := next(said, None)) is None:
        return None
    folder = os.environ.get("TORCHINDUCTOR_CACHE_DIR") or tempfile.gettempdir()
    return (
        f"{folder}: training cannot be compiled there ({line}): expected room, and leave to write: make some, or set "
        "TMPDIR to another folder, and run again: training goes on from its checkpoint"
    )


def _refused(reason: str) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return 2


def _tell_gpu_memory() -> None:
    """Prints the peak GPU memory of a command as the last line of its log."""
    if (torch := sys.modules.get("torch")) and torch.cuda.is_initialized():
        print(f"GPU memory: {torch.cuda.max_memory_reserved() / 2**30:.1f} GiB at most", file=sys.stderr)
