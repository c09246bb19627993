"""Images and clips from files, as uint8 arrays [T, H, W, 3] in RGB; an image has T = 1.

ffmpeg reads users' videos, and decord reads the clips that `write_clip` wrote. decord is faster for small clips, but
exact only for 4:4:4: it darkens 4:2:0 and 10 bit by one to two levels of 255, returns neighbours in place of frames
that are damaged, hidden or in a transport stream, and opens neither Ogg nor animated PNG or WebP
(`benchmarks/reading.py` measures this).
"""

from __future__ import annotations

import logging
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageOps

from bico.core.errors import InputError
from bico.core.records import intact
from bico.media.ffmpeg import run_ffmpeg
from bico.media.inspecting import Video, check_start, fitted_mask, grey_mask, inspect_video, is_image, opened, upright
from bico.media.writing import subsampled

if TYPE_CHECKING:
    from bico.config.settings import Media

log = logging.getLogger("bico")

EXACT = "flags=bicubic+accurate_rnd+full_chroma_int"
"""Flags of ffmpeg's scaler: bicubic, with exact arithmetic and full colour resolution."""
TO_SDR = (
    "zscale=transfer=linear:npl=203,format=gbrpf32le,zscale=primaries=bt709,tonemap=mobius:desat=0,"
    "zscale=transfer=bt709:matrix=bt709:range=limited,format=yuv444p10le"
)
"""Filters that tone-map HLG and PQ to SDR; 203 nits are the white of graphics (ITU-R BT.2408)."""


def read_media(
    path: Path,
    *,
    height: int,
    width: int,
    num_frames: int,
    fps: float,
    read: Literal["time", "first"] = "time",
    start: float = 0,
) -> np.ndarray:
    """Reads an image as uint8 [1, H, W, 3] or a video as uint8 [num_frames, H, W, 3].

    Both are rotated by their metadata, resized to cover the frame and cropped at its centre. A video is resampled to
    `fps` from `start` seconds on. With `read` = "first" its first frames from there are used, at any rate. A video that
    is too short is stretched over all frames. Raises InputError if it cannot be read.
    """
    if is_image(intact(path)):
        return np.asarray(ImageOps.fit(_photograph(path), (width, height), Image.Resampling.BICUBIC))[None]
    video = inspect_video(path)
    check_start(path, video, start)
    indices, _ = _taken(video, num_frames, fps, read, start)
    return _decode(path, video, indices, _cover(height, width))


def read_source(paths: Iterable[Path], media: Media, start: float = 0) -> np.ndarray:
    """The frames of a source as `read_media` returns them, uint8 [T, H, W, 3]. T may be the number of photographs.

    Raises InputError if a file cannot be read.
    """
    return np.concatenate([read_media(path, **dict(media), start=start) for path in paths])


def read_mask(path: Path, media: Media) -> np.ndarray:
    """A mask at the size of the frames, float32 [H, W]: the white share of each pixel, 0 to 1.

    It is resized and cropped like its photograph in `read_media`. Raises InputError if it cannot be read.
    """
    return np.asarray(fitted_mask(grey_mask(path), (media.width, media.height)), np.float32) / 255


def read_original(path: Path, media: Media, start: float = 0) -> tuple[np.ndarray, float]:
    """The frames that `read_media` selects from a file, uint8 [T, H, W, 3], but uncropped and in the file's own size.

    Also returns their mean rate, in frames per second of the file's own time, which means nothing for an image (T = 1).
    Raises InputError if it cannot be read.
    """
    if is_image(intact(path)):
        return np.asarray(_photograph(path))[None], media.fps
    video = inspect_video(path)
    check_start(path, video, start)
    indices, rate = _taken(video, media.num_frames, media.fps, media.read, start)
    return _decode(path, video, indices), rate


def read_written(path: Path, media: Media) -> np.ndarray:
    """A clip that `write_clip` wrote, uint8 [T, H, W, 3]. The result equals that of `read_media`, but is much faster.

    Raises InputError unless it has the number of frames and the size of `media`.
    """
    expected = media.num_frames, media.height, media.width, 3
    frames = read_clip(intact(path)) if subsampled(media.height, media.width) else _decode_444(intact(path))
    if frames.shape != expected:
        found, wanted = ("{0} frames of {2} x {1}".format(*shape) for shape in (frames.shape, expected))
        raise InputError(f"{path}: {found}: expected {wanted}, delete the clip to have it made again")
    return frames


def read_clip(path: Path) -> np.ndarray:
    """All frames of a video as they are, uint8 [T, H, W, 3]. Raises InputError if it cannot be read."""
    return _decode(path, inspect_video(path))


def _photograph(path: Path) -> Image.Image:
    """An image upright in RGB, on white."""
    with opened(path) as image:
        return upright(image, "white")


def _cover(height: int, width: int) -> str:
    """Filters that resize frames to cover this size and crop them at their centre."""
    return f"scale={width}:{height}:force_original_aspect_ratio=increase:{EXACT},crop={width}:{height}"


def _decode(path: Path, video: Video, indices: list[int] | None = None, fit: str = f"scale={EXACT}") -> np.ndarray:
    """Frames of a video, uint8 [T, H, W, 3], after the filters `fit`; by default all of them in their own size.

    Raises InputError if one of them is missing, or damaged.
    """
    wanted = list(range(len(video.times))) if indices is None else sorted(set(indices))
    filters = [f"select='{_windows(video, wanted)}'"] if indices is not None else []
    filters += [TO_SDR] if video.hdr else []
    done = run_ffmpeg(
        [
            *(["-threads", "1"] if video.serial else []),
            *(["-c:v", video.decoder] if video.decoder else []),
            *["-fflags", "+genpts", "-i", f"file:{path}", "-map", "0:V:0", "-fps_mode", "passthrough"],
            *["-frames:v", str(len(wanted)), "-vf", ",".join([*filters, "scale=iw*sar:ih", "setsar=1", fit])],
            *["-f", "image2pipe", "-c:v", "pam", "-pix_fmt", "rgba" if video.transparent else "rgb24", "-"],
        ],
        say="level+warning",
    )
    said = done.stderr.decode(errors="replace")
    if "No such filter" in said:
        raise InputError(f"{path}: an HDR video, and this ffmpeg cannot tone-map it: export it as SDR")
    frames = _pictures(done.stdout)
    if not len(frames):
        raise InputError(f"{path}: no frame of this video can be decoded: expected a whole file, export it again")
    # ffmpeg fills in damaged parts from neighbouring frames where it can.
    if len(frames) < len(wanted) or re.search("corrupt decoded frame|Error submitting packet", said):
        until = video.times[wanted[-1]]
        raise InputError(
            f"{path}: the video is damaged between 0 and {until:.3g} s: expected whole frames, copy or export it again"
        )
    if complaint := re.search(r"^\[\w+ @ \w+\] \[error\] (.*)", said, re.M):
        log.warning("notice: %s: its decoder says '%s', look at its frames", path, complaint[1])
    return frames if indices is None else frames[[bisect_left(wanted, index) for index in indices]]


def _windows(video: Video, wanted: list[int]) -> str:
    """Expression by which ffmpeg selects frames: for each wanted frame the first that is nearest to its time."""
    edges = [-1e9, *((before + after) / 2 for before, after in zip(video.times, video.times[1:], strict=False)), 1e9]
    windows = [(edges[index] + video.first, edges[index + 1] + video.first) for index in wanted]
    return "+".join(
        f"gte(t,{lower:.6f})*lt(t,{upper:.6f})*not(gte(prev_selected_t,{lower:.6f}))" for lower, upper in windows
    )


def _pictures(stream: bytes) -> np.ndarray:
    """PAM pictures of one size on white, uint8 [T, H, W, 3]. An incomplete picture at the end is left out."""
    header = re.match(rb"P7\nWIDTH (\d+)\nHEIGHT (\d+)\nDEPTH (\d)\n.*?ENDHDR\n", stream, re.S)
    if header is None:
        return np.empty((0, 1, 1, 3), np.uint8)
    width, height, depth = map(int, header.groups())
    length = header.end() + height * width * depth
    whole = len(stream) // length
    pixels = np.frombuffer(stream, np.uint8, whole * length).reshape(whole, length)[:, header.end() :]
    frames = pixels.reshape(whole, height, width, depth)
    if depth == 3:
        return frames
    opacity = frames[..., 3:].astype(np.uint16)
    return ((frames[..., :3] * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)


def _decode_444(path: Path) -> np.ndarray:
    """All frames of an H.264 clip in 4:4:4, uint8 [T, H, W, 3]. Raises InputError if it is missing or damaged."""
    import decord  # takes a while to load

    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        return np.stack([_unpadded(reader[index].asnumpy()) for index in range(len(reader))])
    except (decord.DECORDError, RuntimeError):
        raise InputError(
            f"{path}: this clip cannot be decoded: expected a whole one, delete it to have it made again"
        ) from None


def _unpadded(frame: np.ndarray) -> np.ndarray:
    """A frame of decord as uint8 [H, W, 3]. For some sizes decord takes the padding of lines for a fourth channel."""
    height, width, _ = frame.shape
    return frame.reshape(height, -1)[:, : 3 * width].reshape(height, width, 3)


def _taken(
    video: Video, num_frames: int, fps: float, read: Literal["time", "first"], start: float
) -> tuple[list[int], float]:
    """Numbers of the frames of a video that are read from `start` on, and their rate per second of its own time."""
    before = bisect_right(video.times, start + video.rounded) - 1
    times, seconds = [max(0.0, time - start) for time in video.times[before:]], video.seconds - start
    if read == "first" and len(times) >= num_frames:
        return list(range(before, before + num_frames)), num_frames / [*times, seconds][num_frames]
    indices = _frame_indices(times, seconds, num_frames, fps, video.rounded)
    return [before + index for index in indices], 1 / _step(seconds, num_frames, fps)


def _frame_indices(
    times: list[float], seconds: float, num_frames: int, fps: float, rounded: float = 0.001
) -> list[int]:
    """Numbers of the frames at `num_frames` moments, 1 / fps apart, or spread over the video if it is too short.

    A frame that starts up to `rounded` seconds later also counts, because times are rounded.
    """
    step = _step(seconds, num_frames, fps)
    return [bisect_right(times, moment * step + rounded) - 1 for moment in range(num_frames)]


def _step(seconds: float, num_frames: int, fps: float) -> float:
    """Seconds between the moments at which frames are read."""
    # If less than half a frame is missing, only the duration was rounded: the video is not too short.
    return 1 / fps if seconds * fps > num_frames - 0.5 else seconds / num_frames
