"""Writes images and clips, from uint8 arrays in RGB."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from bico.core.errors import InputError
from bico.core.files import replacing
from bico.media.ffmpeg import ffmpeg

# H.264 near its lossless end. 4:2:0 halves the resolution of colour: at full size every player shows it and the eye
# misses nothing, at 48 pixels it leaves 28 dB where 4:4:4 has 50. So small clips are written as 4:4:4, which VLC, mpv,
# ffplay and Chromium play (Safari and QuickTime do not).
CRF = 4
SMALL = 256
BT709 = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]


def write_image(path: Path, image: np.ndarray) -> None:
    """Writes uint8 [H, W, 3] in the format that the suffix names; the same pixels give the same bytes."""
    with replacing(path) as unfinished:
        Image.fromarray(image).save(unfinished, format=Image.registered_extensions()[path.suffix.lower()])


def check_frames(name: str, frames: np.ndarray, shape: tuple[int, int, int] | None = None) -> None:
    """Checks that frames are uint8 [T, H, W, 3], with this T, H and W if given. Raises InputError, which begins with
    `name`, if they are not."""
    wanted = "[T, H, W, 3]" if shape is None else f"[{', '.join(map(str, shape))}, 3]"
    fits = frames.dtype == np.uint8 and frames.ndim == 4 and frames.shape[3] == 3 and len(frames) > 0
    if not fits or (shape and frames.shape[:3] != shape):
        raise InputError(f"{name} {frames.dtype} {list(frames.shape)}: expected uint8 {wanted}, values 0 to 255")


def write_clip(path: Path, frames: np.ndarray, fps: float) -> None:
    """Writes uint8 [T, H, W, 3] as an MP4 that is almost lossless; the same frames give the same bytes."""
    _, height, width, _ = frames.shape
    with replacing(path) as unfinished:
        ffmpeg(
            *["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"],
            *["-vf", "scale=out_color_matrix=bt709:flags=accurate_rnd+full_chroma_int", *BT709],
            *["-c:v", "libx264", "-crf", str(CRF), "-pix_fmt", "yuv420p" if subsampled(height, width) else "yuv444p"],
            # One thread and no version strings: the same bytes on every run. The index in front lets browsers start.
            *["-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart"],
            *["-f", "mp4", "-y", str(unfinished)],
            stdin=np.ascontiguousarray(frames).tobytes(),
        )


def subsampled(height: int, width: int) -> bool:
    """Whether `write_clip` halves the resolution of colour at this size."""
    return min(height, width) >= SMALL and height % 2 == 0 and width % 2 == 0


def compressed(path: Path, crf: int) -> bytes:
    """A video as an MP4 for browsers, without sound or metadata, in H.264 with this `crf` (18: no visible loss)."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "clip.mp4"
        ffmpeg(
            *["-i", f"file:{path}", "-an", "-map_metadata", "-1", "-vf", "crop=trunc(iw/2)*2:trunc(ih/2)*2"],
            *["-c:v", "libx264", "-crf", str(crf), "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(made)],
        )
        return made.read_bytes()
