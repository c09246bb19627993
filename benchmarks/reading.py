"""Reading of video: decord against ffmpeg, in speed and in what it gives, in one run.

    uv run python benchmarks/reading.py [--rounds 5]

First our own clips of the Toybox's size (H.264 in 4:4:4), as scores read them. Then a clip of each other kind, whose
frames are known: how far off each reader is. All are read in turns, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import decord
import imageio_ffmpeg
import numpy as np
from scipy.ndimage import gaussian_filter

from bico.config.settings import Media
from bico.core.errors import InputError, exit_code
from bico.media.reading import read_clip, read_written
from bico.media.writing import write_clip

FRAMES, HEIGHT, WIDTH, FPS = 24, 96, 128, 8
H264, TAGGED = ["-c:v", "libx264", "-crf", "2"], ["-vf", "scale=out_color_matrix=bt709", "-colorspace", "bt709"]
KINDS = {
    "4:4:4.mp4": [*H264, *TAGGED, "-pix_fmt", "yuv444p"],
    "4:2:0.mp4": [*H264, "-pix_fmt", "yuv420p"],
    "4:2:0 bt709.mp4": [*H264, *TAGGED, "-pix_fmt", "yuv420p"],
    "4:2:2 10 bit.mov": ["-c:v", "prores_ks", "-pix_fmt", "yuv422p10le"],
    "4:2:0.ts": [*H264, "-pix_fmt", "yuv420p"],
    "theora.ogv": ["-q:v", "10"],
    "animated.png": ["-f", "apng"],
    "animated.webp": ["-c:v", "libwebp_anim", "-lossless", "1"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    decord.logging.set_level(decord.logging.QUIET)
    with tempfile.TemporaryDirectory() as folder:
        speed(Path(folder), rounds)
        for name, options in KINDS.items():
            exactness(Path(folder) / name, options)


def speed(folder: Path, rounds: int) -> None:
    """Seconds for a clip of the Toybox, the ratio of both, and the largest difference of their pixels."""
    path, media = folder / "own.mp4", Media(height=48, width=48, num_frames=9, fps=8)
    write_clip(path, _moving(9, 48, 48), media.fps)
    ways: dict[str, Callable[[], np.ndarray]] = {
        "ffmpeg": lambda: read_clip(path),
        "decord": lambda: read_written(path, media),
    }
    largest = np.abs(np.subtract(*(read().astype(int) for read in ways.values()))).max()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, read in ways.items():
            begin = time.perf_counter()
            read()
            times[name].append(time.perf_counter() - begin)
    of_ffmpeg, of_decord = (statistics.median(each) for each in times.values())
    print(
        f"a clip of the Toybox: ffmpeg {1e3 * of_ffmpeg:.1f} ms, decord {1e3 * of_decord:.1f} ms: "
        f"{of_ffmpeg / of_decord:.1f} times as fast; largest difference {largest}"
    )


def exactness(path: Path, options: list[str]) -> None:
    """PSNR to the frames that were written, and the mean difference, of both readers."""
    frames = _moving(FRAMES, HEIGHT, WIDTH)
    given = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS), "-i", "-"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *given, *options, str(path)]
    subprocess.run(command, input=frames.tobytes(), check=True)
    print(f"{path.name}: ffmpeg {_held(read_clip, path, frames)}; decord {_held(_decord, path, frames)}")


def _decord(path: Path) -> np.ndarray:
    reader = decord.VideoReader(str(path))
    frames = np.stack([reader[index].asnumpy() for index in range(len(reader))])
    return frames.reshape(len(frames), HEIGHT, -1)[:, :, : 3 * WIDTH].reshape(-1, HEIGHT, WIDTH, 3)


def _held(read: Callable[[Path], np.ndarray], path: Path, frames: np.ndarray) -> str:
    try:
        error = read(path).astype(float) - frames
    except (InputError, decord.DECORDError, ValueError):
        return "fails"
    with np.errstate(divide="ignore"):
        return f"{10 * np.log10(255**2 / np.square(error).mean()):.1f} dB, {error.mean():+.2f} levels"


def _moving(frames: int, height: int, width: int) -> np.ndarray:
    """Smooth noise of every hue that changes with time, uint8 [T, H, W, 3]."""
    noise = np.random.default_rng(0).normal(size=(frames, height, width, 3))
    smooth = gaussian_filter(noise, (2, 6, 6, 0))
    return ((smooth - smooth.min()) / np.ptp(smooth) * 255).astype(np.uint8)


if __name__ == "__main__":
    sys.exit(exit_code(main))
