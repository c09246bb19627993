"""Images and clips from files, as uint8 arrays [T, H, W, 3] in RGB; an image has T = 1.

Videos go through ffmpeg: it applies rotation metadata, non-square pixels and variable frame rates before we see a
frame, and decodes no more than is asked for.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageOps

from bico.core.errors import InputError
from bico.media.ffmpeg import run_ffmpeg
from bico.media.inspecting import broken_image, is_image, open_image, timing

if TYPE_CHECKING:
    from bico.config.settings import Media

EXACT = "flags=bicubic+accurate_rnd+full_chroma_int"
"""Of ffmpeg's scaler: bicubic, exact in its arithmetic and in full resolution of colour."""


def read_media(
    path: Path, *, height: int, width: int, num_frames: int, fps: float, read: Literal["time", "first"] = "time"
) -> np.ndarray:
    """Reads an image as uint8 [1, H, W, 3] or a video as uint8 [num_frames, H, W, 3].

    Both are resized to cover the frame and cropped at its centre, rotation metadata applied. A video is resampled to
    `fps` from its start on, or by `read` = "first" its first frames are taken, whatever their rate; one too short for
    that is spread over all frames. Raises InputError if it cannot be read.
    """
    if is_image(path):
        return np.asarray(ImageOps.fit(_upright(path), (width, height), Image.Resampling.BICUBIC))[None]
    indices, _ = _taken(path, num_frames, fps, read)
    return _decode(path, indices, _cover(height, width))


def read_original(path: Path, media: Media) -> tuple[np.ndarray, float]:
    """The frames that `read_media` takes of a file, uint8 [T, H, W, 3], but whole and in the file's own size.

    Beside them their rate in frames a second of the file's own time, on average; of an image, T = 1, it means nothing.
    Raises InputError if it cannot be read.
    """
    if is_image(path):
        return np.asarray(_upright(path))[None], media.fps
    indices, rate = _taken(path, media.num_frames, media.fps, media.read)
    return _decode(path, indices), rate


def read_written(path: Path, media: Media) -> np.ndarray:
    """A clip that `write_clip` wrote, uint8 [T, H, W, 3]: as `read_media` gives it, in half the time.

    Raises InputError if it cannot be read.
    """
    return _decode(path, list(range(media.num_frames)), _cover(media.height, media.width))


def read_clip(path: Path) -> np.ndarray:
    """All frames of a video as they are, uint8 [T, H, W, 3]. Raises InputError if it cannot be read."""
    times, _ = timing(path)
    return _decode(path, list(range(len(times))))


def _upright(path: Path) -> Image.Image:
    """An image in RGB as one looks at it: turned as its metadata say, on white."""
    try:
        with open_image(path) as image:
            upright = ImageOps.exif_transpose(_eight_bits(image)).convert("RGBA")
    except (OSError, SyntaxError) as error:
        raise broken_image(path, error) from None
    return Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as grey of 8: Pillow's own conversion makes white of all that is brighter than 255."""
    if not image.mode.startswith("I"):
        return image
    grey = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    grey.info = image.info  # its rotation, too
    return grey


def _cover(height: int, width: int) -> str:
    """Filters by which frames cover this size and are cropped at their centre."""
    return f"scale={width}:{height}:force_original_aspect_ratio=increase:{EXACT},crop={width}:{height}"


def _decode(path: Path, indices: list[int], fit: str = f"scale={EXACT}") -> np.ndarray:
    """Frames of a video, uint8 [len(indices), H, W, 3], after the filters `fit`; by default in their own size."""
    wanted = sorted(set(indices))
    select = "+".join(f"eq(n,{index})" for index in wanted)
    done = run_ffmpeg(
        [
            *["-i", f"file:{path}", "-map", "0:v:0", "-fps_mode", "passthrough", "-frames:v", str(len(wanted))],
            *["-vf", f"select='{select}',scale=iw*sar:ih,setsar=1,{fit}"],
            *["-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "-"],
        ]
    )
    frames = _pictures(done.stdout)
    if not len(frames):
        raise InputError(f"{path}: no frame of this video can be decoded: expected a whole file, export it again")
    # A packet that gives no frame makes the last ones be missing: the last there is stands for them.
    return frames[[min(wanted.index(index), len(frames) - 1) for index in indices]]


def _pictures(stream: bytes) -> np.ndarray:
    """PPM pictures of one size, uint8 [T, H, W, 3]; one that broke off does not count."""
    header = re.match(rb"P6\n(\d+) (\d+)\n255\n", stream)
    if header is None:
        return np.empty((0, 1, 1, 3), np.uint8)
    width, height = map(int, header.groups())
    length = header.end() + height * width * 3
    whole = len(stream) // length
    pixels = np.frombuffer(stream, np.uint8, whole * length).reshape(whole, length)[:, header.end() :]
    return pixels.reshape(whole, height, width, 3)


def _taken(path: Path, num_frames: int, fps: float, read: Literal["time", "first"]) -> tuple[list[int], float]:
    """Which frames of a video are read, and how many of them pass in a second of its own time."""
    times, seconds = timing(path)
    if read == "first" and len(times) >= num_frames:
        return list(range(num_frames)), num_frames / [*times, seconds][num_frames]
    return _frame_indices(times, seconds, num_frames, fps), 1 / _step(seconds, num_frames, fps)


def _frame_indices(times: list[float], seconds: float, num_frames: int, fps: float) -> list[int]:
    """Which frames are seen at `num_frames` moments, 1 / fps apart or, if the video is too short, spread over it."""
    # Some containers round times to a millisecond: a frame that starts that much later is the one that is seen.
    step = _step(seconds, num_frames, fps)
    return [bisect_right(times, moment * step + 1e-3) - 1 for moment in range(num_frames)]


def _step(seconds: float, num_frames: int, fps: float) -> float:
    """Seconds between the moments at which frames are seen."""
    # Short by less than half a frame is no short video but the rounding of its duration.
    return 1 / fps if seconds * fps > num_frames - 0.5 else seconds / num_frames
