"""What a file is: an image or a video, whole or broken, and when each frame of a video starts.

No frame of a video is decoded for that, and numpy is not imported, because checks before a run have to be quick.
"""

from __future__ import annotations

import re
import warnings
from fractions import Fraction
from operator import add
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from bico.core.errors import InputError
from bico.media.ffmpeg import run_ffmpeg

CONTAINERS = "mov,mp4,matroska,webm,avi,gif,webp,webp_anim,apng,mpegts,mpeg,flv,asf,ogg"
LONGEST = 200  # times the shorter side: Qwen2.5-VL takes no longer picture
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # photographs of phones


def media_kind(path: Path) -> str:
    """Whether a file is an "image" or a "video", by its content. Animated GIF and WebP files are videos.

    Raises InputError if it is missing, empty or neither.
    """
    if is_image(path):
        return "image"
    timing(path)
    return "video"


def check_media(path: Path, kind: str) -> None:
    """A quick look, without decoding a video. Raises InputError unless `path` is a whole `kind`, "image" or "video"."""
    found = media_kind(path)
    if found != kind:
        raise InputError(f"{path}: this is {_article(found)}, expected {_article(kind)}: correct 'kind' or the file")
    if kind == "image":
        _check_image(path)


def check_shape(path: Path) -> None:
    """The VLM can look at an image in its own size. Raises InputError if it is too long or too high."""
    with open_image(path) as image:
        if max(image.size) > LONGEST * min(image.size):
            raise InputError(
                f"{path}: {image.width} x {image.height} pixels: expected a side of at most {LONGEST} times the other, "
                "as concepts.look: original needs; crop it"
            )


def frame_rate(path: Path) -> float:
    """Frames a second of a video, on average. Raises InputError if it cannot be read."""
    times, seconds = timing(path)
    return len(times) / seconds


def is_image(path: Path) -> bool:
    """Whether Pillow opens a file as one picture. Raises InputError if it is missing, empty or no usable image."""
    _check_exists(path)
    try:
        with open_image(path) as image:
            return not getattr(image, "is_animated", False)
    except UnidentifiedImageError:
        if _brand(path) in HEIC_BRANDS:  # ffmpeg would take its first tile for a video of one frame
            raise InputError(f"{path}: a HEIC photograph: expected a format that all read, export it as JPEG") from None
        return False


def open_image(path: Path) -> Image.Image:
    """Opens an image without decoding it. Raises InputError if it has more pixels than Pillow takes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # half as many are fine
            return Image.open(path)
    except Image.DecompressionBombError as error:  # its message has both numbers
        pixels, most = (int(number) // 10**6 for number in re.findall(r"\d+", str(error)))
        raise InputError(f"{path}: {pixels} megapixels: expected at most {most}; scale it down") from None


def timing(path: Path) -> tuple[list[float], float]:
    """When each frame of a video starts, from 0 s on, and its duration: read off its packets, without decoding them.

    Raises InputError unless all of it is there.
    """
    # Only real containers: left alone, ffmpeg also opens text files and plain lists of pictures.
    opened = ["-format_whitelist", CONTAINERS, "-fflags", "+genpts", "-i", f"file:{path}"]
    done = run_ffmpeg([*opened, "-map", "0:v:0", "-c", "copy", "-f", "framecrc", "-"])
    problems = done.stderr.decode(errors="replace")
    if "matches no streams" in problems:
        raise InputError(f"{path}: the video has no frames: expected at least one, export it again")
    if "partial file" in problems or "ended prematurely" in problems:
        raise InputError(f"{path}: the video is truncated: expected a whole file, copy it again")
    lines = done.stdout.decode().splitlines()
    packets = [line.split(",") for line in lines if not line.startswith("#")]
    if done.returncode != 0 or not packets:
        raise InputError(
            f"{path}: neither an image nor a video that can be opened: expected a whole JPEG, PNG, WebP, MP4 or MOV"
        )
    unit = next(Fraction(line.split()[-1]) for line in lines if line.startswith("#tb"))
    starts, durations = ([unit * int(packet[column]) for packet in packets] for column in (2, 3))
    first = min(starts)
    return [float(start - first) for start in sorted(starts)], float(max(map(add, starts, durations)) - first)


def broken_image(path: Path, error: Exception) -> InputError:
    """The error for an image that Pillow cannot decode."""
    return InputError(
        f"{path}: the image cannot be decoded ({error}): expected a whole JPEG, PNG or WebP, copy it again"
    )


def _brand(path: Path) -> bytes:
    """What kind of MP4-like file this is; of others something else."""
    with path.open("rb") as file:
        return file.read(12).partition(b"ftyp")[2]


def _check_exists(path: Path) -> None:
    if not path.is_file():
        found = "this is a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {found}: expected an image or a video, correct the path")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty: expected an image or a video, copy it again")


def _check_image(path: Path) -> None:
    try:
        with open_image(path) as image:
            image.draft("RGB", (64, 64))  # JPEG: reads the whole file, at an eighth of the work
            image.load()
    except (OSError, SyntaxError) as error:
        raise broken_image(path, error) from None


def _article(kind: str) -> str:
    return "an image" if kind == "image" else "a video"
