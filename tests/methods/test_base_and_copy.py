"""The two methods that learn nothing: the plain pipeline, and a copy of a source."""

from pathlib import Path

import numpy as np
import tiny
from learned import CASE, clips
from PIL import Image

from bico.config.benchmark import Case
from bico.media.reading import read_media
from bico.media.writing import write_clip
from bico.methods.shared.prompts import project
from bico.methods.shared.protocol import compose_of
from bico.models.wan.sampling import generate
from bico.plan.clips import Job


def test_base_is_the_plain_pipeline(backbone) -> None:
    negative = project(backbone, tiny.SAMPLING.negative_prompt)
    expected = generate(backbone, project(backbone, CASE.prompt), negative, [0], tiny.SAMPLING, tiny.MEDIA)
    assert np.array_equal(clips(backbone, "base", None, {})[0], expected[0])


def test_copy_returns_the_source_itself(backbone, tmp_path: Path) -> None:
    path = tmp_path / "still.png"
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(picture).save(path)
    case = Case(prompt="a cat", bind={"still": ["cat"]})
    job = Job("case", case, 0, media={"still": path})
    ((_, clip),) = compose_of("copy")(backbone, [job], None, tiny.SAMPLING, tiny.MEDIA)
    assert clip.shape == (5, 32, 32, 3)
    assert all(np.array_equal(frame, picture) for frame in clip)


def test_copy_shows_the_first_video_where_there_is_one(backbone, tmp_path: Path) -> None:
    picture, video = tmp_path / "still.png", tmp_path / "clip.mp4"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(picture)
    brighter = np.linspace(50, 250, 5).astype(np.uint8)[:, None, None, None]
    write_clip(video, np.tile(brighter, (1, 32, 32, 3)), 8)
    job = Job("case", CASE, 0, media={"still": picture, "clip": video})
    ((_, clip),) = compose_of("copy")(backbone, [job], None, tiny.SAMPLING, tiny.MEDIA)
    assert np.array_equal(clip, read_media(video, **dict(tiny.MEDIA)))
