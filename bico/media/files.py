"""Images and clips in and out, as uint8 arrays [T, H, W, 3] in RGB; an image has T = 1.

Videos go through the ffmpeg binary that imageio-ffmpeg ships for every platform: it applies rotation metadata,
non-square pixels and variable frame rates before we see a frame, and decodes no more than is asked for.
"""

from __future__ import annotations

import subprocess
import tempfile
from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from bico.core.errors import InputError
from bico.core.files import replacing

if TYPE_CHECKING:
    from bico.config.schema import Media

# H.264 near its lossless end. 4:2:0 halves the resolution of colour: at full size every player shows it and the eye
# misses nothing, at 48 pixels it leaves 28 dB where 4:4:4 has 50. So small clips are written as 4:4:4, which VLC, mpv,
# ffplay and Chromium play (Safari and QuickTime do not).
CRF = 4
SMALL = 256
CONTAINERS = "mov,mp4,matroska,webm,avi,gif,webp,webp_anim,apng,mpegts,mpeg,flv,asf,ogg"
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # photographs of phones
BT709 = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]


def media_kind(path: Path) -> str:
    """Whether a file is an "image" or a "video", by its content. Animated GIF and WebP files are videos.

    Raises InputError if it is missing, empty or neither.
    """
    if _is_image(path):
        return "image"
    _timing(path)
    return "video"


def check_media(path: Path, kind: str) -> None:
    """A quick look, without decoding a video. Raises InputError unless `path` is a whole `kind`, "image" or "video"."""
    found = media_kind(path)
    if found != kind:
        raise InputError(f"{path}: this is {_article(found)}, expected {_article(kind)}: correct 'kind' or the file")
    if kind == "image":
        _check_image(path)


def read_media(
    path: Path, *, height: int, width: int, num_frames: int, fps: float, read: Literal["time", "first"] = "time"
) -> np.ndarray:
    """Reads an image as uint8 [1, H, W, 3] or a video as uint8 [num_frames, H, W, 3].

    Both are resized to cover the frame and cropped at its centre, rotation metadata applied. A video is resampled to
    `fps` from its start on, or by `read` = "first" its first frames are taken, whatever their rate; one too short for
    that is spread over all frames. Raises InputError if it cannot be read.
    """
    if _is_image(path):
        return _read_image(path, height, width)[None]
    times, seconds = _timing(path)
    if read == "first" and len(times) >= num_frames:
        indices = list(range(num_frames))
    else:
        indices = _frame_indices(times, seconds, num_frames, fps)
    return _decode(path, indices, height, width)


def read_written(path: Path, media: Media) -> np.ndarray:
    """A clip that `write_clip` wrote, uint8 [T, H, W, 3]: as `read_media` gives it, in half the time.

    Raises InputError if it cannot be read.
    """
    return _decode(path, list(range(media.num_frames)), media.height, media.width)


def read_clip(path: Path) -> np.ndarray:
    """All frames of a video as they are, uint8 [T, H, W, 3]. Raises InputError if it cannot be read."""
    times, _ = _timing(path)
    stream = imageio_ffmpeg.read_frames(str(path))
    width, height = next(stream)["size"]
    stream.close()
    return _decode(path, list(range(len(times))), height, width)


def frame_rate(path: Path) -> float:
    """Frames a second of a video, on average. Raises InputError if it cannot be read."""
    times, seconds = _timing(path)
    return len(times) / seconds


def write_image(path: Path, image: np.ndarray) -> None:
    """Writes uint8 [H, W, 3] in the format that the suffix names; the same pixels give the same bytes."""
    with replacing(path) as unfinished:
        Image.fromarray(image).save(unfinished, format=Image.registered_extensions()[path.suffix.lower()])


def write_clip(path: Path, frames: np.ndarray, fps: float) -> None:
    """Writes uint8 [T, H, W, 3] as an MP4 that is almost lossless; the same frames give the same bytes."""
    _, height, width, _ = frames.shape
    subsampled = min(height, width) >= SMALL and height % 2 == 0 and width % 2 == 0
    with replacing(path) as unfinished:
        _ffmpeg(
            *["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"],
            *["-vf", "scale=out_color_matrix=bt709:flags=accurate_rnd+full_chroma_int", *BT709],
            *["-c:v", "libx264", "-crf", str(CRF), "-pix_fmt", "yuv420p" if subsampled else "yuv444p"],
            # One thread and no version strings: the same bytes on every run. The index in front lets browsers start.
            *["-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart"],
            *["-f", "mp4", "-y", str(unfinished)],
            stdin=np.ascontiguousarray(frames).tobytes(),
        )


def compressed(path: Path, crf: int) -> bytes:
    """A video as an MP4 for browsers, without sound or metadata, in H.264 of this quality (18: no loss is seen)."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "clip.mp4"
        _ffmpeg(
            *["-i", f"file:{path}", "-an", "-map_metadata", "-1", "-vf", "crop=trunc(iw/2)*2:trunc(ih/2)*2"],
            *["-c:v", "libx264", "-crf", str(crf), "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(made)],
        )
        return made.read_bytes()


def _is_image(path: Path) -> bool:
    _check_exists(path)
    try:
        with Image.open(path) as image:
            return not getattr(image, "is_animated", False)
    except UnidentifiedImageError:
        if _brand(path) in HEIC_BRANDS:  # ffmpeg would take its first tile for a video of one frame
            raise InputError(f"{path}: a HEIC photograph: expected a format that all read, export it as JPEG") from None
        return False
    except Image.DecompressionBombError as error:
        raise _broken_image(path, error) from None


def _brand(path: Path) -> bytes:
    """What kind of MP4-like file this is; of others something else."""
    with path.open("rb") as file:
        return file.read(12).partition(b"ftyp")[2]


def _read_image(path: Path, height: int, width: int) -> np.ndarray:
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(_eight_bits(image)).convert("RGBA")
    except (OSError, SyntaxError) as error:
        raise _broken_image(path, error) from None
    flat = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB")
    return np.asarray(ImageOps.fit(flat, (width, height), Image.Resampling.BICUBIC))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as grey of 8: Pillow's own conversion makes white of all that is brighter than 255."""
    if not image.mode.startswith("I"):
        return image
    grey = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    grey.info = image.info  # its rotation, too
    return grey


def _decode(path: Path, indices: list[int], height: int, width: int) -> np.ndarray:
    wanted = sorted(set(indices))
    select = "+".join(f"eq(n,{index})" for index in wanted)
    scale = f"scale={width}:{height}:force_original_aspect_ratio=increase:flags=bicubic+accurate_rnd+full_chroma_int"
    done = _run(
        [
            *["-i", f"file:{path}", "-map", "0:v:0", "-fps_mode", "passthrough", "-frames:v", str(len(wanted))],
            *["-vf", f"select='{select}',scale=iw*sar:ih,setsar=1,{scale},crop={width}:{height}"],
            *["-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        ]
    )
    whole = len(done.stdout) // (height * width * 3)  # frames; one that broke off does not count
    frames = np.frombuffer(done.stdout, np.uint8)[: whole * height * width * 3].reshape(-1, height, width, 3)
    if not len(frames):
        raise InputError(f"{path}: no frame of this video can be decoded: expected a whole file, export it again")
    # A packet that gives no frame makes the last ones be missing: the last there is stands for them.
    return frames[[min(wanted.index(index), len(frames) - 1) for index in indices]]


def _frame_indices(times: list[float], seconds: float, num_frames: int, fps: float) -> list[int]:
    """Which frames are seen at `num_frames` moments, 1 / fps apart or, if the video is too short, spread over it."""
    # Short by less than half a frame is no short video but the rounding of its duration. Some containers round times to
    # a millisecond: a frame that starts that much later is the one that is seen.
    step = 1 / fps if seconds * fps > num_frames - 0.5 else seconds / num_frames
    return [bisect_right(times, moment * step + 1e-3) - 1 for moment in range(num_frames)]


def _check_exists(path: Path) -> None:
    if not path.is_file():
        found = "this is a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {found}: expected an image or a video, correct the path")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty: expected an image or a video, copy it again")


def _check_image(path: Path) -> None:
    try:
        with Image.open(path) as image:
            image.draft("RGB", (64, 64))  # JPEG: reads the whole file, at an eighth of the work
            image.load()
    except (OSError, SyntaxError) as error:
        raise _broken_image(path, error) from None


def _timing(path: Path) -> tuple[list[float], float]:
    """When each frame of a video starts, from 0 s on, and its duration: read off its packets, without decoding them.

    Raises InputError unless all of it is there.
    """
    # Only real containers: left alone, ffmpeg also opens text files and plain lists of pictures.
    opened = ["-format_whitelist", CONTAINERS, "-fflags", "+genpts", "-i", f"file:{path}"]
    done = _run([*opened, "-map", "0:v:0", "-c", "copy", "-f", "framecrc", "-"])
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


def _broken_image(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path}: the image cannot be decoded ({error}): expected a whole JPEG, PNG or WebP, copy it again"
    )


def _article(kind: str) -> str:
    return "an image" if kind == "image" else "a video"


def _ffmpeg(*arguments: str, stdin: bytes = b"") -> bytes:
    """Runs ffmpeg and returns its standard output; InputError with its last line if it fails."""
    done = _run(arguments, stdin)
    if done.returncode != 0:
        raise InputError(f"ffmpeg failed: {done.stderr.decode(errors='replace').strip().splitlines()[-1]}")
    return done.stdout


def _run(arguments: Sequence[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-v", "warning", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True)
