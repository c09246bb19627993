"""The motion scores on clips whose motion is known: shifted textures, and the Toybox's own."""

import cv2
import numpy as np
import pytest
import toy

from bico.scoring.motion import dynamic_degree, motion_fidelity, smoothness, tracks
from bico.scoring.protocol import ScoredClip, ScoredSource
from bico.toybox.render import render

RIGHT, LEFT, DOWN = (2, 0), (-2, 0), (0, 2)


def texture(height: int, width: int) -> np.ndarray:
    """Blobs of all colours, without an edge."""
    noise = np.random.default_rng(0).normal(size=(height, width, 3)).astype(np.float32)
    blobs = cv2.GaussianBlur(noise, (0, 0), min(height, width) / 50)
    return np.uint8(np.clip(128 + 50 * blobs / blobs.std(), 0, 255))


def shifted(step: tuple[float, float], height: int = 96, width: int = 128, num_frames: int = 9) -> np.ndarray:
    """A texture that moves by `step`, in pixels a frame."""
    scene, frames = texture(2 * height, 2 * width), []
    for frame in range(num_frames):
        x, y = (frame - num_frames // 2) * np.float32(step) - np.float32([width, height]) / 2
        frames.append(cv2.warpAffine(scene, np.float32([[1, 0, x], [0, 1, y]]), (width, height)))
    return np.stack(frames)


def fidelity(clip: np.ndarray, reference: np.ndarray) -> float:
    return motion_fidelity(tracks(clip), tracks(reference))


# --- fidelity -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "expected"), [(RIGHT, 1), (LEFT, -1), (DOWN, 0), ((2, 2), 0.5**0.5), ((4, 0), 1)])
def test_fidelity_is_the_cosine_between_the_directions_of_textures(step, expected):
    assert fidelity(shifted(step), shifted(RIGHT)) == pytest.approx(expected, abs=0.02)


def test_a_long_fast_pan_is_compared_although_its_first_points_leave_the_frame():
    """At full size a camera that crosses the frame in two seconds would count as still."""
    scene = texture(96, 128)
    right, left, slow = (
        tracks(np.stack([np.roll(scene, step * frame, axis=1) for frame in range(81)])) for step in (5, -5, 1)
    )
    for one, other, expected in ((right, slow, 1), (slow, right, 1), (left, slow, -1), (left, right, -1)):
        assert motion_fidelity(one, other) == pytest.approx(expected, abs=0.02)
    assert smoothness(right) > 0.95


def test_a_still_clip_holds_no_motion_and_gives_none():
    moving, still = shifted(RIGHT), shifted((0, 0))
    assert fidelity(still, moving) == 0
    assert np.isnan(fidelity(moving, still)) and np.isnan(fidelity(still, still))
    assert np.isnan(fidelity(moving[:1], moving[:1]))  # one frame has no steps


def test_clips_that_move_may_change_places(tmp_path):
    config = toy.config(tmp_path)
    one, other = (tracks(render(toy.source_scene(config, name))) for name in toy.CLIPS)
    assert motion_fidelity(one, other) == pytest.approx(motion_fidelity(other, one), abs=1e-12)
    assert motion_fidelity(one, one) == pytest.approx(1, abs=1e-12)


def test_static_points_are_left_out_and_size_does_not_matter():
    """A patch that moves over a still texture moves as the whole texture does, at any size."""
    patch, backdrop = shifted((4, 0), 480, 640), shifted((0, 0), 480, 640)[..., ::-1].copy()
    backdrop[:, 160:320, 200:400] = patch[:, 160:320, 200:400]
    assert fidelity(backdrop, shifted((4, 0), 480, 640)) > 0.9
    small = np.stack([cv2.resize(frame, (128, 96), interpolation=cv2.INTER_AREA) for frame in backdrop])
    assert motion_fidelity(tracks(small), tracks(backdrop)) > 0.9


def path(*steps: tuple[float, float]) -> np.ndarray:
    """The tracks of a clip with one point, from its steps."""
    return np.cumsum([(0.5, 0.5), *steps], axis=0)[:, None]


def test_a_step_of_one_alone_counts_as_0_and_one_of_none_not_at_all():
    east, north, rest, lost = (0.1, 0.0), (0.0, -0.1), (0.0, 0.0), (np.nan, np.nan)
    going, paused = path(east, east, east, east), path(east, rest, east, rest)
    assert motion_fidelity(paused, paused) == 1
    assert motion_fidelity(paused, going) == motion_fidelity(going, paused) == 0.5
    assert motion_fidelity(path(east, east, lost, lost), path(east, east, north, north)) == 1
    assert motion_fidelity(path(east, lost, lost, lost), going) == 0  # too short a track says nothing
    assert motion_fidelity(path((0.02, 0), rest, rest, rest), going) == 0  # as does a twitch


def test_clips_of_other_lengths_are_compared_from_start_to_end():
    clip = tracks(shifted(RIGHT))
    assert motion_fidelity(clip[::2], clip) == motion_fidelity(clip, clip[::2]) == pytest.approx(1, abs=0.02)
    turning = path(*[(0.1, 0.0)] * 4, *[(0.0, 0.1)] * 4)
    assert motion_fidelity(turning[::2], turning) == 1 and motion_fidelity(turning[:5], turning) == pytest.approx(0.5)


def test_frames_that_repeat_do_not_break_a_long_clips_motion():
    """As where a source of 10 frames a second is read as one of 15 or more."""
    turn = np.linspace(0, np.pi, 80)
    smooth = path(*(0.01 * np.stack([np.cos(turn), np.sin(turn)], axis=1)))
    assert motion_fidelity(smooth[np.arange(81) // 2 * 2], smooth) > 0.95


def test_each_track_finds_its_best_match_in_both_directions():
    east, west, north = (path(*[step] * 4) for step in ((0.1, 0.0), (-0.1, 0.0), (0.0, -0.1)))
    both = np.concatenate([east, west], axis=1)
    assert motion_fidelity(both, both) == 1
    assert motion_fidelity(east, both) == motion_fidelity(both, east) == 0.5  # (1 + (1 - 1) / 2) / 2
    assert motion_fidelity(both, north) == pytest.approx(0)


def test_what_cannot_be_followed_holds_no_motion():
    clip = shifted(RIGHT)
    assert fidelity(np.random.default_rng(0).integers(0, 256, clip.shape, dtype=np.uint8), clip) == 0


def test_the_truth_moves_as_its_source_does_more_than_other_clips_do(tmp_path):
    config = toy.config(tmp_path)
    sources = {name: tracks(render(toy.source_scene(config, name))) for name in toy.CLIPS}
    for case_id, case in config.cases.items():
        truth = tracks(render(toy.truth_scene(config, case_id)))
        scores = {name: motion_fidelity(truth, source) for name, source in sources.items()}
        own = scores.pop(case.truth["motion"])
        assert own > 0.6 and own > 0.2 + max(scores.values())


# --- dynamic degree -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "step"), [(48, 48, (1.5, 0)), (96, 128, (3, 4)), (480, 832, (0, 12)), (832, 480, (2, 1))]
)
def test_dynamic_degree_is_the_speed_of_a_texture(height, width, step):
    speed = np.hypot(*step) / min(height, width)
    assert dynamic_degree(shifted(step, height, width, 5), fps=8) == pytest.approx(8 * speed, rel=0.03)


def test_dynamic_degree_of_a_still_clip_is_0():
    still = shifted((0, 0))
    assert dynamic_degree(still, 8) == dynamic_degree(still[:1], 8) == 0


# --- smoothness -----------------------------------------------------------------------------------------------------


def test_smoothness_is_1_for_what_goes_on_and_0_for_what_turns_back():
    step = np.array([0.1, 0.0])
    going = np.arange(5)[:, None, None] * step
    back = (np.arange(5) % 2)[:, None, None] * step
    starts = np.minimum(np.maximum(np.arange(5) - 2, 0), 1)[:, None, None] * step
    assert smoothness(going) == pytest.approx(1) and smoothness(back) == smoothness(starts) == pytest.approx(0)
    assert smoothness(np.concatenate([going, back], axis=1)) == pytest.approx(0.5)


def test_a_still_clip_and_one_of_two_frames_are_smooth():
    still = shifted((0, 0))
    assert smoothness(tracks(still)) == smoothness(tracks(still[:1])) == smoothness(tracks(shifted(RIGHT)[:2])) == 1
    noise = np.random.default_rng(0).integers(-3, 4, still.shape)  # as a codec leaves it
    assert smoothness(tracks((still + noise).clip(0, 255).astype(np.uint8))) == 1


def test_a_long_slow_clip_is_as_smooth_as_a_fast_one():
    """Between single frames a slow point moves by less than the tracker can tell."""
    slow, fast = (smoothness(tracks(shifted((step, 0), num_frames=81))) for step in (0.12, 0.6))
    assert slow > 0.95 and slow == pytest.approx(fast, abs=0.03)


def test_smoothness_falls_when_frames_are_shuffled_and_is_blind_to_direction():
    clip = shifted(RIGHT)
    assert smoothness(tracks(clip)) > 0.95 > 0.5 > smoothness(tracks(clip[np.random.default_rng(0).permutation(9)]))
    assert smoothness(tracks(clip[::-1])) == pytest.approx(smoothness(tracks(clip)), abs=0.02)


# --- both -----------------------------------------------------------------------------------------------------------


def test_fidelity_is_the_mean_over_the_sources_that_move(tmp_path):
    config = toy.config(tmp_path)
    sources = {
        name: ScoredSource(frames=shifted(step), kind="video")
        for name, step in (("right", RIGHT), ("left", LEFT), ("still", (0, 0)))
    }

    def measured(*names: str) -> dict[str, float]:
        chosen = {name: sources[name] for name in names}
        clip = ScoredClip(frames=shifted(RIGHT), prompt="", bind={}, sources=chosen, fps=8)
        scores = toy.opened(config, "motion_fidelity"), toy.opened(config, "dynamic_degree")
        return {column: value for score in scores for column, value in score.measure(clip).values.items()}

    both = measured("right", "left", "still")
    assert both["motion_fidelity"] == pytest.approx(0, abs=2)
    assert both["dynamic_degree"] == pytest.approx(100 * 8 * 2 / 96, rel=0.03)
    assert "motion_fidelity" not in measured() and "motion_fidelity" not in measured("still")
    assert measured("right") == measured("right")


def test_a_point_whose_window_leaves_the_frame_is_lost():
    clip = shifted((-4, 0))
    going = tracks(clip)
    followed = np.isfinite(going[1:]).all(axis=2)
    margin = (round(0.1 * 96) | 1) // 2 / 96  # half a window
    assert followed.any() and going[1:][followed].min() >= margin and going[0][followed[0]].min() >= margin
