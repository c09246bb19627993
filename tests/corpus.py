"""Media as people have them, odd and broken, each with what becomes of it: the frames that are read, or the line.

    uv run python tests/corpus.py FOLDER    # writes all of them, to try a program on

Videos show a field of grey that gets brighter, 8 levels a frame, eight frames a second, unless they are about colour.
"""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image, PngImagePlugin
from pillow_heif import register_heif_opener

FPS, FRAMES, SIDE = 8, 24, 64
SIZE = {"height": 48, "width": 48, "num_frames": 9, "fps": FPS}
COLOURS = np.array([(200, 40, 40), (40, 180, 60), (50, 60, 200), (128, 128, 128)], np.uint8)
"""Of the quarters of a picture, line by line."""
WHITE = (255, 255, 255)
H264 = ["-c:v", "libx264", "-crf", "2", "-pix_fmt", "yuv420p"]


register_heif_opener()


@dataclass(frozen=True)
class Odd:
    """A file, and what becomes of it: one of `frames`, `colours` and `line`.

    Attributes:
        frames: the numbers of the frames that are read at `SIZE`.
        colours: of the quarters of what is read.
        line: a part of the one line that refuses it.
        notice: a part of what is said beside.
        near: levels of 255 by which colours may differ: codecs lose so many, and tone-mapping more.
        given: what `read_media` is given besides.
    """

    name: str
    write: Callable[[Path], None]
    kind: str = "video"
    frames: Sequence[int] | None = None
    colours: np.ndarray | None = None
    line: str | None = None
    notice: str | None = None
    near: int = 5
    given: dict[str, float] = field(default_factory=dict)


def ffmpeg(*arguments: object, stdin: bytes = b"") -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *map(str, arguments)]
    subprocess.run(command, check=True, input=stdin, capture_output=True)


def grey(frames: int = FRAMES) -> np.ndarray:
    levels = (8 * np.arange(frames) + 20).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (frames, SIDE, SIDE, 3))


def quarters(side: int = SIDE) -> np.ndarray:
    return COLOURS.reshape(2, 2, 3).repeat(side // 2, 0).repeat(side // 2, 1)


def noise() -> np.ndarray:
    """Frames that differ in each part, so that packets are large enough to be damaged."""
    return np.random.default_rng(0).integers(0, 256, (FRAMES, SIDE, SIDE, 3), np.uint8)


def encode(path: Path, frames: np.ndarray, *options: object, fps: float = FPS) -> None:
    given = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{frames.shape[2]}x{frames.shape[1]}", "-r", fps, "-i", "-"]
    ffmpeg(*given, *options, path, stdin=np.ascontiguousarray(frames).tobytes())


def clip(*options: object, frames: Callable[[], np.ndarray] = grey, fps: float = FPS) -> Callable[[Path], None]:
    return lambda path: encode(path, frames(), *(options or H264), fps=fps)


def remuxed(*options: object, before: Sequence[object] = (), made: Sequence[object] = H264) -> Callable[[Path], None]:
    """A clip, copied with these options of ffmpeg, without decoding it."""

    def write(path: Path) -> None:
        first = path.with_name("first.mp4")
        encode(first, grey(), *made)
        ffmpeg(*before, "-i", first, *(options or ["-c", "copy"]), path)

    return write


def coloured(*options: object) -> Callable[[Path], None]:
    return clip(*options, frames=lambda: np.repeat(quarters()[None], 9, 0))


def hdr(transfer: str) -> Callable[[Path], None]:
    """The colours in HLG or PQ, as a phone films them: white of 203 nits, wide primaries, 10 bit."""
    tags = ["-colorspace", "bt2020nc", "-color_primaries", "bt2020", "-color_trc", transfer]
    light = "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709,zscale=t=linear:npl=203,format=gbrpf32le"
    bright = f"zscale=p=bt2020:t={transfer}:m=bt2020nc:r=limited:npl=203,format=yuv420p10le"
    filters = ["-vf", f"scale=out_color_matrix=bt709,format=yuv444p,{light},{bright}"]
    return coloured(*filters, *tags, "-c:v", "libx265", "-crf", 4, "-x265-params", "log-level=none")


def damaged(
    write: Callable[[Path], None], share: tuple[float, float], fill: Callable[[int], bytes] = bytes
) -> Callable[[Path], None]:
    """What `write` writes, with nothing in the bytes between two shares of its length."""

    def broken(path: Path) -> None:
        write(path)
        content = bytearray(path.read_bytes())
        first, last = (int(len(content) * part) for part in share)
        content[first:last] = fill(last - first)
        path.write_bytes(content)

    return broken


def rubbish(length: int) -> bytes:
    return np.random.default_rng(0).bytes(length)


def cut(write: Callable[[Path], None], share: float) -> Callable[[Path], None]:
    def short(path: Path) -> None:
        write(path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    return short


def music(path: Path) -> None:
    """A second of sound with a picture on its cover."""
    cover = path.with_name("cover.png")
    Image.fromarray(quarters()).save(cover)
    sound = ["-f", "lavfi", "-i", "sine=duration=1", "-i", cover, "-map", 0, "-map", 1]
    ffmpeg(*sound, "-c:v", "copy", "-disposition:v", "attached_pic", path)


def with_cover(path: Path) -> None:
    """A video behind the picture on its cover."""
    first, cover = path.with_name("first.mp4"), path.with_name("cover.png")
    encode(first, grey(), *H264)
    Image.fromarray(quarters()).save(cover)
    ffmpeg("-i", cover, "-i", first, "-map", 0, "-map", 1, "-c", "copy", "-disposition:v:0", "attached_pic", path)


TRANSPARENT = {
    "transparent": ["-c:v", "png"],
    "transparent_vp8": ["-c:v", "libvpx", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0"],
    "transparent_vp9": ["-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p"],
}


def transparent(path: Path) -> None:
    """Colours without opacity."""
    if path.suffix == ".gif":
        clear = [Image.new("P", (SIDE, SIDE)) for _ in range(9)]
        for index, frame in enumerate(clear):
            frame.putpalette(COLOURS.tobytes())
            frame.putpixel((index % 2, 0), 1)  # Pillow joins frames that are the same
        clear[0].save(path, save_all=True, append_images=clear[1:], duration=120, transparency=0, disposal=2)
        return
    frames = np.concatenate([np.repeat(quarters()[None], 9, 0), np.zeros((9, SIDE, SIDE, 1), np.uint8)], axis=-1)
    given = ["-f", "rawvideo", "-pix_fmt", "rgba", "-s", f"{SIDE}x{SIDE}", "-r", FPS, "-i", "-"]
    codec = TRANSPARENT[path.stem]
    ffmpeg(*given, *codec, path, stdin=np.ascontiguousarray(frames).tobytes())


def picture(**options: object) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(quarters()).save(path, **options)


def turned(path: Path) -> None:
    """Stored on its side, as phones do."""
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = Image.fromarray(quarters()).transpose(Image.Transpose.ROTATE_90)
    sideways.save(path, exif=exif.tobytes(), quality=95)


def gain_map(path: Path) -> None:
    small = Image.new("RGB", (SIDE // 2, SIDE // 2))
    Image.fromarray(quarters()).save(path, format="MPO", save_all=True, append_images=[small], quality=95)


def workflow(path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "node " * 10**6, zip=True)
    Image.fromarray(quarters()).save(path, pnginfo=text)


def pages(path: Path) -> None:
    others = [Image.new("RGB", (SIDE, SIDE))] * 2
    Image.fromarray(quarters()).save(path, save_all=True, append_images=others)


def in_mode(mode: str) -> Callable[[Path], None]:
    return lambda path: Image.new("RGB", (33, 17), "white").convert(mode).save(path)


def huge_jpeg(path: Path) -> None:
    """201 megapixels by its header."""
    stream = io.BytesIO()
    Image.fromarray(quarters()).save(stream, "JPEG")
    small, large = struct.pack(">HH", SIDE, SIDE), struct.pack(">HH", 12300, 16400)
    path.write_bytes(stream.getvalue().replace(small, large, 1))


def huge_png(path: Path) -> None:
    """The same as PNG."""
    stream = io.BytesIO()
    Image.fromarray(quarters()).save(stream, "PNG")
    header = b"IHDR" + struct.pack(">II", 16400, 12300) + stream.getvalue()[24:29]
    path.write_bytes(stream.getvalue()[:12] + header + struct.pack(">I", zlib.crc32(header)) + stream.getvalue()[33:])


SEEN, TAGS = range(9), ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]
HEVC = ["-c:v", "libx265", "-crf", 4, "-x265-params", "log-level=none"]
EVERY_THIRD = ["-vf", "select='lt(n,4)+not(mod(n,3))'", "-fps_mode", "vfr", *H264]

ODD = [
    # Videos in any container, of any rate.
    Odd("plain.mp4", clip(), frames=SEEN),
    Odd("milliseconds.mkv", clip(), frames=SEEN),
    Odd("vp9.webm", clip("-c:v", "libvpx-vp9", "-crf", 4, "-b:v", 0), frames=SEEN),
    Odd("without_times.avi", clip("-c:v", "mpeg4", "-q:v", 1, "-bf", 2), frames=SEEN),
    Odd("broadcast.ts", clip(), frames=SEEN),
    Odd("flash.flv", clip(), frames=SEEN),
    Odd("windows.wmv", clip("-q:v", 1), frames=SEEN),
    Odd("theora.ogv", clip("-q:v", 10), frames=SEEN),
    Odd("moving.gif", clip("-f", "gif"), frames=SEEN),
    Odd("moving.png", clip("-f", "apng"), frames=SEEN),
    Odd("moving.webp", clip("-c:v", "libwebp_anim", "-lossless", 1), frames=SEEN),
    Odd("hevc.mov", clip(*HEVC, "-pix_fmt", "yuv420p10le"), frames=SEEN),
    Odd("fragments.mp4", remuxed("-c", "copy", "-movflags", "frag_keyframe+empty_moov"), frames=SEEN),
    Odd("late.mp4", remuxed(before=["-itsoffset", 1.5]), frames=SEEN),
    Odd("cover_first.mp4", with_cover, frames=SEEN),
    Odd("half_the_rate.mp4", clip(fps=4), frames=[0, 0, 1, 1, 2, 2, 3, 3, 4]),
    Odd("three_frames.mp4", clip(frames=lambda: grey(3)), frames=[0, 0, 0, 1, 1, 1, 2, 2, 2]),
    Odd("screen_capture.mp4", clip(*EVERY_THIRD), frames=[0, 1, 2, 3, 3, 3, 6, 6, 6]),
    Odd("screen_capture.mkv", clip(*EVERY_THIRD), frames=[0, 1, 2, 3, 3, 3, 6, 6, 6]),
    Odd("trimmed.mp4", remuxed(before=["-ss", 0.75], made=["-g", 4, *H264]), frames=range(6, 15)),
    Odd("started.mp4", clip(), frames=range(8, 17), given={"start": 1.0}),
    Odd("started_between.mp4", clip(), frames=range(7, 16), given={"start": 0.99}),
    Odd("started_near_the_end.mp4", clip(), frames=[20, 20, 20, 21, 21, 22, 22, 23, 23], given={"start": 2.5}),
    # Videos and their colours.
    Odd("untagged.mp4", coloured(*H264), colours=COLOURS),
    Odd("tagged.mp4", coloured("-vf", "scale=out_color_matrix=bt709", *TAGS, *H264), colours=COLOURS),
    Odd(
        "ten_bit.mp4",
        coloured("-vf", "scale=out_color_matrix=bt709", *TAGS, *HEVC, "-pix_fmt", "yuv420p10le"),
        colours=COLOURS,
    ),
    Odd("full_range.mp4", coloured("-vf", "scale=out_range=full", "-color_range", "pc", *H264), colours=COLOURS),
    Odd("prores.mov", coloured("-c:v", "prores_ks"), colours=COLOURS),
    Odd("hlg.mp4", hdr("arib-std-b67"), colours=COLOURS, near=12),
    Odd("pq.mov", hdr("smpte2084"), colours=COLOURS, near=12),
    Odd("transparent.mov", transparent, colours=np.array([WHITE] * 4)),
    Odd("transparent.gif", transparent, colours=np.array([WHITE] * 4)),
    Odd("transparent_vp8.webm", transparent, colours=np.array([WHITE] * 4)),
    Odd("transparent_vp9.webm", transparent, colours=np.array([WHITE] * 4)),
    # Videos that are broken, or none.
    Odd(
        "damaged_inside.avi",
        damaged(clip("-c:v", "mjpeg", frames=noise), (0.12, 0.2), rubbish),
        notice="its decoder says",
    ),
    Odd("damaged_inside.mp4", damaged(clip(frames=noise), (0.1, 0.2)), line="the video is damaged"),
    Odd("damaged_inside.mov", damaged(clip(*HEVC, frames=noise), (0.1, 0.2)), line="the video is damaged"),
    Odd(
        "damaged_inside.webm",
        damaged(clip("-c:v", "libvpx-vp9", frames=noise), (0.1, 0.2)),
        line="the video is damaged",
    ),
    Odd("cut_off.mp4", cut(clip(*H264, "-movflags", "+faststart", frames=noise), 0.6), line="the video is truncated"),
    Odd("index_lost.mp4", cut(clip(frames=noise), 0.6), line="neither an image nor a video that can be opened"),
    Odd("too_late.mp4", clip(), given={"start": 3.0}, line="start: 3 s, but this video ends after 3 s"),
    Odd("no_frames.mp4", clip(*H264, "-frames:v", 0), line="the video has no frames"),
    Odd(
        "sound.mp4",
        lambda path: ffmpeg("-f", "lavfi", "-i", "anullsrc", "-t", 1, path),
        line="the video has no frames",
    ),
    Odd("music.m4a", music, line="the video has no frames"),
    Odd("music.mp3", music, line="neither an image nor a video"),
    Odd("text.mp4", lambda path: path.write_text("this is no video"), line="neither an image nor a video"),
    Odd(
        "playlist.mp4",
        lambda path: path.write_text("#EXTM3U\n#EXTINF:1,\nfirst.mp4\n"),
        line="neither an image nor a video",
    ),
    Odd("empty.mp4", lambda path: path.touch(), line="the file is empty"),
    Odd("folder.mp4", lambda path: path.mkdir(), line="this is a folder"),
    Odd("missing.mp4", lambda path: None, line="no such file"),
    # Images.
    Odd("gain_map.jpg", gain_map, kind="image", colours=COLOURS),
    Odd("comfyui.png", workflow, kind="image", colours=COLOURS),
    Odd("pages.tiff", pages, kind="image", colours=COLOURS, notice="only the first of its 3 pages"),
    Odd("phone.heic", picture(quality=95), kind="image", colours=COLOURS),
    Odd("turned.heic", turned, kind="image", colours=COLOURS),
    Odd("turned.jpg", turned, kind="image", colours=COLOURS),
    Odd("still.avif", picture(quality=95), kind="image", colours=COLOURS),
    Odd("print.jpg", in_mode("CMYK"), kind="image", colours=np.array([WHITE] * 4)),
    Odd("huge.jpg", huge_jpeg, kind="image", line="201 megapixels: expected at most 178; scale it down"),
    Odd("huge.png", huge_png, kind="image", line="201 megapixels: expected at most 178; scale it down"),
    Odd("cut_off.jpg", cut(picture(quality=95), 0.6), kind="image", line="the image cannot be decoded"),
    Odd("cut_off.png", cut(picture(compress_level=0), 0.6), kind="image", line="the image cannot be decoded"),
    Odd("cut_off.heic", cut(picture(quality=95), 0.6), kind="image", line="cannot be decoded"),
    Odd("film.jpg", clip("-f", "mp4", *H264), kind="image", line="this is a video, expected an image"),
    Odd("photograph.mp4", picture(format="PNG"), line="this is an image, expected a video"),
]  # fmt: skip


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for odd in ODD:
        odd.write(folder / odd.name)
