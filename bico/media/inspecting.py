"""Inspects a file: an image or a video, whole or damaged, its size, and the times of a video's frames.

No frame of a video is decoded and numpy is not imported, because checks before a run have to be quick.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from operator import add
from pathlib import Path

from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin, UnidentifiedImageError
from pillow_heif import register_heif_opener

from bico.core.errors import InputError
from bico.media.ffmpeg import run_ffmpeg

CONTAINERS = "mov,mp4,matroska,webm,avi,gif,webp,webp_anim,apng,mpegts,mpeg,flv,asf,ogg"
MOVING = ("GIF", "WEBP", "PNG", "AVIF")  # other formats' pictures are pages, previews or gain maps of the first
LONGEST = 200  # largest ratio of a picture's sides that Qwen2.5-VL accepts
FEWEST = 3  # frames of a video, below which there is a notice
LOST = 0.34  # share of a picture outside its crop from which on there is a notice: more than a third
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # photographs of phones
ORIENTATION = ExifTags.Base.Orientation  # from 5 on it swaps the sides
HIDDEN = 4  # the flag of a packet before the cut of an edit: it is decoded for later ones, but not shown

log = logging.getLogger("bico")
register_heif_opener()
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # ComfyUI keeps a whole workflow in one


@dataclass(frozen=True)
class Video:
    """Properties of a video, without its pixels.

    Attributes:
        times: start of each shown frame in seconds, ascending from 0.
        seconds: duration.
        rounded: largest delay of the times by rounding, in seconds: GIF rounds to a hundredth, others to a thousandth.
        first: start of the first frame by the file's own clock, in seconds.
        size: width and height in square pixels, upright.
        hdr: whether its transfer function is HLG or PQ.
        transparent: whether its frames have an alpha channel.
        serial: whether it has to be decoded by one thread. With several, ffmpeg sometimes mixes up Theora's frames.
        decoder: the decoder that it needs; None = ffmpeg's choice, which leaves out the alpha channel of VP8 and VP9.
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


def check_media(
    path: Path, kind: str, *, start: float = 0, frame: tuple[int, int] | None = None, num_frames: int = 0
) -> None:
    """Checks a file without decoding a video. Raises InputError unless `path` is a whole `kind`, "image" or "video".

    A video must be longer than `start` seconds. With `frame`, a width and a height, a notice says how much the crop to
    its shape removes, if it is much. Another one says that a video has fewer than `num_frames` frames.
    """
    found = "image" if is_image(path) else "video"
    video = inspect_video(path) if found == "video" else None
    if found != kind:
        raise InputError(f"{path}: this is {_article(found)}, expected {_article(kind)}: correct 'kind' or the file")
    if video is not None:
        check_start(path, video, start)
        shown = len(video.times) - bisect_right(video.times, start + video.rounded) + 1
        if shown < FEWEST:
            log.warning(
                "notice: %s: only %d frames from %g s on: nothing can be learned of its motion", path, shown, start
            )
        elif shown < num_frames:
            log.warning(
                "notice: %s: %d frames from %g s on, and training reads %d: some are read twice, and motion is learned "
                "with these pauses; take a longer clip, or a smaller media.num_frames",
                path, shown, start, num_frames,
            )  # fmt: skip
    size = _check_image(path) if video is None else video.size
    if frame and (lost := 1 - min(_aspect(size) / _aspect(frame), _aspect(frame) / _aspect(size))) > LOST:
        log.warning(
            "notice: %s: %d x %d pixels: %d %% lie outside the crop to %d x %d; crop it yourself to choose what stays",
            path, *size, round(100 * lost), *frame,
        )  # fmt: skip


def check_start(path: Path, video: Video, start: float) -> None:
    """Raises InputError unless a video is longer than `start` seconds, which are not negative."""
    if start < 0:
        raise InputError(f"{path}: start: {start:g} s: expected 0 or more")
    if start >= video.seconds:
        raise InputError(
            f"{path}: start: {start:g} s, but this video ends after {video.seconds:.3g} s: expected an earlier start"
        )


def check_shape(path: Path) -> None:
    """Checks that the VLM can read an image in its own size. Raises InputError if it is too wide or too high."""
    with opened(path) as image:
        if max(image.size) > LONGEST * min(image.size):
            raise InputError(
                f"{path}: {image.width} x {image.height} pixels: expected a side of at most {LONGEST} times the other, "
                "as concepts.look: original needs; crop it"
            )


def check_mask(path: Path, photograph: Path, frame: tuple[int, int]) -> None:
    """Checks that a mask fits its photograph: it is an image of the same size, upright, and not all black.

    Args:
        frame: width and height to which both are cropped.

    Raises:
        InputError: it does not fit.
    """
    for file in (path, photograph):
        check_media(file, "image")
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
    """A mask as 8-bit grey, upright. Transparent pixels are black."""
    with opened(path) as image:
        return upright(image, "black").convert("L")


def upright(image: Image.Image, ground: str) -> Image.Image:
    """An opened image in sRGB as viewers show it: rotated by its metadata, with its colour profile applied, and with
    transparent parts in a colour."""
    turned = _in_srgb(ImageOps.exif_transpose(image))
    if turned.mode.startswith("I"):  # 16 bits of grey: Pillow's own conversion makes white of all that is above 255
        turned = turned.point(lambda value: value / 257).convert("L")
    layers = turned.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layers.size, ground), layers).convert("RGB")


def _in_srgb(image: Image.Image) -> Image.Image:
    """The image in sRGB if it has a profile of another space, such as the Display P3 of phones. A profile that cannot
    be read is ignored, as viewers do."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "CMYK"):
        return image
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(own).lower():
            return image
        mode = "RGB" if image.mode == "CMYK" else image.mode
        converted = ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError):
        return image
    return image if converted is None else converted


def fitted_mask(mask: Image.Image, frame: tuple[int, int]) -> Image.Image:
    """A mask at the size of the frame (width, height), cropped like its photograph and averaged over areas."""
    return ImageOps.fit(mask, frame, Image.Resampling.BOX)


def frame_rate(path: Path) -> float:
    """Mean number of frames per second of a video. Raises InputError if it cannot be read."""
    video = inspect_video(path)
    return len(video.times) / video.seconds


def is_image(path: Path) -> bool:
    """Whether Pillow opens a file as a picture, not as an animation. Of several pages or pictures the first is used.

    Raises InputError if it is missing, empty or not a usable image.
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
    """An image, not decoded yet. Errors of Pillow, now or when the pixels are read, become InputErrors.

    A file that is not an image raises UnidentifiedImageError.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # half as many are fine
            with Image.open(path) as image:
                if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
                    raise InputError(f"{path}: fractions or 32 bits: expected 8 or 16 bits, export it as PNG")
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
    """Reads the packets of a video without decoding them. Raises InputError unless it is complete."""
    # Only real containers are allowed: by default ffmpeg also opens text files and lists of pictures. V: no cover art.
    opened = ["-format_whitelist", CONTAINERS, "-fflags", "+genpts", "-i", f"file:{path}"]
    done = run_ffmpeg([*opened, "-map", "0:V:0", "-c", "copy", "-f", "framecrc", "-"], say="level+info")
    said, lines = done.stderr.decode(errors="replace"), done.stdout.decode().splitlines()
    # Metadata of the file is left out, because a title may read "partial file".
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
    """Start and duration of a packet in ffmpeg's list, if its frame is shown. An empty packet only repeats a frame."""
    _, _, start, duration, size, _, *more = line.split(",")
    flags = next((int(part.strip()[2:], 16) for part in more if part.strip().startswith("F=")), 0)
    return None if flags & HIDDEN or not int(size) else (int(start), int(duration))


def _header(lines: list[str], name: str) -> str:
    return next(line.split()[-1] for line in lines if line.startswith(f"#{name} "))


def _brand(path: Path) -> bytes:
    """The brand of an MP4-like file; for other files meaningless bytes."""
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
