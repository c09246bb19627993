"""Calls of ffmpeg: the binary that imageio-ffmpeg ships for every platform."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Sequence

import imageio_ffmpeg

from bico.core.errors import InputError


def ffmpeg(*arguments: str, stdin: bytes = b"") -> bytes:
    """Runs ffmpeg and returns its standard output. Raises InputError with its last line, or its exit code."""
    done = run_ffmpeg(arguments, stdin)
    if done.returncode == 0:
        return done.stdout
    if done.returncode == -signal.SIGXFSZ:  # Python itself ignores this signal and gets the error
        raise InputError(f"ffmpeg failed: {os.strerror(errno.EFBIG)}")
    said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
    raise InputError(f"ffmpeg failed: {said[-1]}")


def run_ffmpeg(
    arguments: Sequence[str], stdin: bytes = b"", say: str = "warning"
) -> subprocess.CompletedProcess[bytes]:
    """Runs ffmpeg, which logs from the level `say` on. Callers check its exit status and its log."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostats", "-v", say, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True)
