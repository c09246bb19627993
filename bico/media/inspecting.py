"""What a file is: an image or a video, whole or broken, how large, and when each frame of a video starts.

No frame of a video is decoded for that, and numpy is not imported, because checks before a run have to be quick.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from operator import add
from pathlib import Path

from PIL import ExifTags, Image, ImageOps, PngImagePlugin, UnidentifiedImageError
from pillow_heif import register_heif_opener

from bico.core.errors import InputError
from bico.media.ffmpeg import run_ffmpeg

CONTAINERS = "mov,mp4,matroska,webm,avi,gif,webp,webp_anim,apng,mpegts,mpeg,flv,asf,ogg"
MOVING = ("GIF", "WEBP", "PNG", "AVIF")  # other formats' pictures are pages, previews or gain maps of the first
LONGEST = 200  # times the shorter side: Qwen2.5-VL takes no longer picture
LOST = 0.34  # of a picture: more than a third, from which on its crop is worth a notice
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # photographs of phones
ORIENTATION = ExifTags.Base.Orientation  # from 5 on it swaps the sides
HIDDEN = 4  # the flag of a packet that is decoded for the ones behind it, but not shown: before the cut of an edit

log = logging.getLogger("bico")
register_heif_opener()
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # ComfyUI keeps a whole workflow in one


@dataclass(frozen=True)
class Video:
    """A video but for its pixels.

    Attributes:
        times: when each frame that is shown starts, in seconds, ascending from 0 on.
        seconds: duration.
        rounded: by how many seconds the times may be late: GIF rounds them to a hundredth, others to a thousandth.
        first: when the first of them starts by the file's own clock, in seconds.
        size: width and height in pixels of one shape, upright.
        hdr: whether its light is that of HLG or PQ.
        transparent: whether its frames have an alpha channel.
        serial: whether it has to be decoded by one thread. By several, ffmpeg now and then mixes up Theora's frames.
        decoder: the one that it needs; None = ffmpeg's choice, which leaves out the alpha channel of VP8 and VP9.
    """

    times: list[float]
    seconds: float
    rounded: float
    first: float
    size: tuple[int, int]
    hdr: bool
    transparent: bool
    serial: bool
    decoder: str | None


def media_kind(path: Path) -> str:
    """Whether a file is an "image" or a "video", by its content. Animated GIF, PNG, WebP and AVIF files are videos.

    Raises InputError if it is missing, empty or neither.
    """
    if is_image(path):
        return "image"
    inspect_video(path)
    return "video"


def check_media(path: Path, kind: str, *, start: float = 0, frame: tuple[int, int] | None = None) -> None:
    """A quick look, without decoding a video. Raises InputError unless `path` is a whole `kind`, "image" or "video".

    A video has to go on after `start` seconds. With `frame`, a width and a height, a notice says how much is lost by
    the crop to its shape, if that is much.
    """
    found = "image" if is_image(path) else "video"
    video = inspect_video(path) if found == "video" else None
    if found != kind:
        raise InputError(f"{path}: this is {_article(found)}, expected {_article(kind)}: correct 'kind' or the file")
    if video is not None:
        check_start(path, video, start)
    size = _check_image(path) if video is None else video.size
    if frame and (lost := 1 - min(_aspect(size) / _aspect(frame), _aspect(frame) / _aspect(size))) > LOST:
        log.warning(
            "notice: %s: %d x %d pixels: %d %% lie outside the crop to %d x %d; crop it yourself to choose what stays",
            path, *size, round(100 * lost), *frame,
        )  # fmt: skip


def check_start(path: Path, video: Video, start: float) -> None:
    """Raises InputError unless a video goes on after `start` seconds."""
    if start >= video.seconds:
        raise InputError(
            f"{path}: start: {start:g} s, but this video ends after {video.seconds:.3g} s: expected an earlier start"
        )


def check_shape(path: Path) -> None:
    """The VLM can look at an image in its own size. Raises InputError if it is too long or too high."""
    with opened(path) as image:
        if max(image.size) > LONGEST * min(image.size):
            raise InputError(
                f"{path}: {image.width} x {image.height} pixels: expected a side of at most {LONGEST} times the other, "
                "as concepts.look: original needs; crop it"
            )


def check_mask(path: Path, photograph: Path, frame: tuple[int, int]) -> None:
    """A mask belongs to its photograph: it is an image of the same size, upright, and leaves something to learn.

    Args:
        frame: width and height to which both are cropped.

    Raises:
        InputError: it does not.
    """
    check_media(path, "image")
    mask = grey_mask(path)
    with opened(photograph) as image:
        size = _upright_size(image)
    if mask.size != size:
        found, wanted = ("{} x {}".format(*each) for each in (mask.size, size))
        raise InputError(f"{path}: this mask has {found} pixels: expected {wanted}, as {photograph} has")
    if fitted_mask(mask, frame).getbbox() is None:
        inside = "" if mask.getbbox() is None else f" inside the crop to {frame[0]} x {frame[1]}"
        raise InputError(f"{path}: this mask is all black{inside}: expected white where {photograph} is to be learned")


def grey_mask(path: Path) -> Image.Image:
    """A mask as 8 bits of grey, upright; what is transparent is black."""
    with opened(path) as image:
        if image.mode == "F":
            raise InputError(f"{path}: a mask of fractions: expected 8 or 16 bits of grey, export it as PNG")
        return upright(image, "black").convert("L")


def upright(image: Image.Image, ground: str) -> Image.Image:
    """An opened image in RGB as one looks at it: turned as its metadata say, its transparent parts in a colour."""
    turned = ImageOps.exif_transpose(image)
    if turned.mode.startswith("I"):  # 16 bits of grey: Pillow's own conversion makes white of all that is above 255
        turned = turned.point(lambda value: value / 257).convert("L")
    layers = turned.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layers.size, ground), layers).convert("RGB")


def fitted_mask(mask: Image.Image, frame: tuple[int, int]) -> Image.Image:
    """A mask at the size of the frame, a width and a height, by the crop of its photograph and the mean of areas."""
    return ImageOps.fit(mask, frame, Image.Resampling.BOX)


def frame_rate(path: Path) -> float:
    """Frames a second of a video, on average. Raises InputError if it cannot be read."""
    video = inspect_video(path)
    return len(video.times) / video.seconds


def is_image(path: Path) -> bool:
    """Whether Pillow opens a file as a picture, not as an animation; of several pages or pictures the first counts.

    Raises InputError if it is missing, empty or no usable image.
    """
    _check_exists(path)
    try:
        with opened(path) as image:
            return not (image.format in MOVING and getattr(image, "is_animated", False))
    except UnidentifiedImageError:
        if _brand(path) in HEIC_BRANDS:  # ffmpeg would take its first tile for a video of one frame
            raise InputError(
                f"{path}: a HEIC photograph that cannot be decoded: expected a whole file, copy it again or export it "
                "as JPEG"
            ) from None
        return False


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image, not decoded yet. What Pillow finds wrong, now or when the pixels are read, becomes an InputError.

    A file that is no image at all raises UnidentifiedImageError.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # half as many are fine
            with Image.open(path) as image:
                yield image
    except UnidentifiedImageError:
        raise
    except Image.DecompressionBombError as error:  # its message has both numbers
        pixels, most = (int(number) // 10**6 for number in re.findall(r"\d+", str(error)))
        raise InputError(f"{path}: {pixels} megapixels: expected at most {most}; scale it down") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(
            f"{path}: the image cannot be decoded ({error}): expected a whole JPEG, PNG or WebP, copy it again"
        ) from None


def inspect_video(path: Path) -> Video:
    """Reads off the packets of a video, without decoding them. Raises InputError unless all of it is there."""
    # Only real containers: left alone, ffmpeg also opens text files and plain lists of pictures. V: no cover art.
    opened = ["-format_whitelist", CONTAINERS, "-fflags", "+genpts", "-i", f"file:{path}"]
    done = run_ffmpeg([*opened, "-map", "0:V:0", "-c", "copy", "-f", "framecrc", "-"], say="level+info")
    said, lines = done.stderr.decode(errors="replace"), done.stdout.decode().splitlines()
    # Not what a file says of itself: a title may read "partial file".
    problems = "\n".join(re.findall(r"\[(?:warning|error|fatal)\] (.*)", said)).replace(str(path), "")
    if "matches no streams" in problems:
        raise InputError(f"{path}: the video has no frames: expected at least one, export it again")
    if "partial file" in problems or "ended prematurely" in problems:
        raise InputError(f"{path}: the video is truncated: expected a whole file, copy it again")
    packets = [packet for line in lines if not line.startswith("#") and (packet := _shown(line))]
    stream = re.search(r"Stream #0:\d+.*: Video: (?!.*\(attached pic\)).*", said)
    if done.returncode != 0 or not packets or stream is None:
        raise InputError(
            f"{path}: neither an image nor a video that can be opened: expected a whole JPEG, PNG, WebP, MP4 or MOV"
        )
    if damage := re.search(r"^\[in#0.*\[error\] (.*)", said, re.M):
        raise InputError(f"{path}: the video is damaged ({damage[1]}): expected a whole file, copy it again")
    unit, dimensions, aspect = (_header(lines, name) for name in ("tb", "dimensions", "sar"))
    starts, durations = ([Fraction(unit) * time for time in times] for times in zip(*packets, strict=True))
    first = min(starts)
    width, height = map(int, dimensions.split("x"))
    width = round(width * (Fraction(aspect.replace("/0", "/1")) or 1))
    codec, hidden_alpha = stream[0].partition(": Video: ")[2], re.search(r"^\[info\] +alpha_mode +: 1", said, re.M)
    turned = re.search(r"displaymatrix: rotation of (-?\d+)", said)
    return Video(
        times=[float(start - first) for start in sorted(set(starts))],
        seconds=float(max(map(add, starts, durations)) - first),
        rounded=0.0055 if unit == "1/100" else 0.001,
        first=float(first),
        size=(height, width) if turned and int(turned[1]) % 180 else (width, height),
        hdr=re.search("smpte2084|arib-std-b67", stream[0]) is not None,
        transparent=bool(hidden_alpha or re.search(r", (yuva|gbrap|argb|rgba|abgr|bgra|ya8|ya16)", stream[0])),
        serial=codec.startswith("theora"),
        decoder={"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(codec[:3]) if hidden_alpha else None,
    )


def _shown(line: str) -> tuple[int, int] | None:
    """Start and duration of a packet in ffmpeg's list, if its frame is shown; an empty one only repeats another."""
    _, _, start, duration, size, _, *more = line.split(",")
    flags = next((int(part.strip()[2:], 16) for part in more if part.strip().startswith("F=")), 0)
    return None if flags & HIDDEN or not int(size) else (int(start), int(duration))


def _header(lines: list[str], name: str) -> str:
    return next(line.split()[-1] for line in lines if line.startswith(f"#{name} "))


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


def _check_image(path: Path) -> tuple[int, int]:
    """Width and height of an image, upright; raises InputError unless it is whole."""
    with opened(path) as image:
        pages, size = getattr(image, "n_frames", 1), _upright_size(image)
        image.draft("RGB", (64, 64))  # JPEG: reads the whole file, at an eighth of the work
        image.load()
        if image.format == "TIFF" and pages > 1:
            log.warning("notice: %s: only the first of its %d pages is read", path, pages)
    return size


def _upright_size(image: Image.Image) -> tuple[int, int]:
    turned = image.getexif().get(ORIENTATION, 1) > 4
    return (image.height, image.width) if turned else image.size


def _aspect(size: tuple[int, int]) -> float:
    return size[0] / size[1]


def _article(kind: str) -> str:
    return "an image" if kind == "image" else "a video"
