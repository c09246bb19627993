"""Calls of ffmpeg: the binary that imageio-ffmpeg ships for every platform."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

import imageio_ffmpeg

from bico.core.errors import InputError


def ffmpeg(*arguments: str, stdin: bytes = b"") -> bytes:
    """Runs ffmpeg and returns its standard output; InputError with its last line if it fails."""
    done = run_ffmpeg(arguments, stdin)
    if done.returncode != 0:
        raise InputError(f"ffmpeg failed: {done.stderr.decode(errors='replace').strip().splitlines()[-1]}")
    return done.stdout


def run_ffmpeg(arguments: Sequence[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs ffmpeg; callers judge its exit status and warnings by themselves."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-v", "warning", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True)
