"""Images and clips from files, as uint8 arrays [T, H, W, 3] in RGB; an image has T = 1.

Videos go through ffmpeg: it applies rotation metadata, non-square pixels and variable frame rates before we see a
frame, and decodes no more than is asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageOps

from bico.core.errors import InputError
from bico.media.ffmpeg import run_ffmpeg
from bico.media.inspecting import broken_image, is_image, timing

if TYPE_CHECKING:
    from bico.config.settings import Media


def read_media(
    path: Path, *, height: int, width: int, num_frames: int, fps: float, read: Literal["time", "first"] = "time"
) -> np.ndarray:
    """Reads an image as uint8 [1, H, W, 3] or a video as uint8 [num_frames, H, W, 3].

    Both are resized to cover the frame and cropped at its centre, rotation metadata applied. A video is resampled to
    `fps` from its start on, or by `read` = "first" its first frames are taken, whatever their rate; one too short for
    that is spread over all frames. Raises InputError if it cannot be read.
    """
    if is_image(path):
        return _read_image(path, height, width)[None]
    times, seconds = timing(path)
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
    times, _ = timing(path)
    stream = imageio_ffmpeg.read_frames(str(path))
    width, height = next(stream)["size"]
    stream.close()
    return _decode(path, list(range(len(times))), height, width)


def _read_image(path: Path, height: int, width: int) -> np.ndarray:
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(_eight_bits(image)).convert("RGBA")
    except (OSError, SyntaxError) as error:
        raise broken_image(path, error) from None
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
    done = run_ffmpeg(
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
