"""Tracked points of a clip: does it move like a video source, how fast, and how evenly?

Scores of motion complement the similarity scores, which are high for still clips. All track points on a regular grid by
the pyramidal Lucas-Kanade method. All lengths are in frame sides (the shorter side), so they do not depend on the size.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from bico.media.frames import spread

SIDE = 192  # pixels: larger frames are scaled down to this size
GRID = 24  # points along a side
WINDOW = 0.1  # sides: size of the window that is compared around a point
LEVELS = 2  # levels of the pyramid above the frame: steps of up to a fifth of a side are found
SEARCH = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 10, 0.03)  # steps of the search; pixels at which it ends
RETURN = 0.01  # sides: a point is lost if tracking it backwards ends farther than this from its start
MOMENTS = 24  # most moments that are compared: steps between single frames are mostly noise where motion is slow
LIFE = 27  # frames after which points start anew, about: in a long pan all points of the first frame leave it
FOLLOWED = 0.5  # smallest share of a life for which a track is followed
MOVES = 0.05  # sides: a track with a smaller extent stands still
STILL = 0.0005  # sides per step: the direction of a shorter step is noise of the tracker
FASTEST = 0.05  # share of points whose speed counts

cv2.setNumThreads(1)  # a scoring job has one processor


def motion_fidelity(clip: np.ndarray, reference: np.ndarray) -> float:
    """Similarity of the directions in which the points of two clips move, in -1..1 (Yatim et al., "Space-Time Diffusion
    Features for Zero-Shot Text-Driven Motion Transfer", CVPR 2024, motion fidelity score).

    For each track that moves it takes the largest mean cosine of its steps with those of a track of the other clip. The
    score is the mean over tracks, then over both directions. The place and the speed of motion do not count. A step
    counts if both tracks are followed and at least one of them moves; if only one moves, it counts as 0. The best of
    many matches is biased upwards: clips of different motions have a mean of 0.4 on the Toybox, not 0. Tracks are
    compared if they are followed together for half of a life. A track without any such partner counts as 0.

    Args:
        clip, reference: `tracks` of two clips. They are compared at MOMENTS moments, spread evenly from start to end of
            each, or at as many as the shorter clip has frames.

    Returns:
        0 if no point that moves can be followed in the clip. NaN if none can be followed in the reference. In all other
        cases the score is symmetric.
    """
    moments = min(MOMENTS, len(clip), len(reference))
    (steps, least), (wanted, other) = (_moving(paths[spread(len(paths), moments)]) for paths in (clip, reference))
    if not wanted.shape[1]:
        return np.nan
    if not steps.shape[1]:
        return 0.0
    cosines = _mean_cosines(steps, wanted, min(least, other))
    best = (np.nan_to_num(np.fmax.reduce(cosines, axis=axis)) for axis in (0, 1))
    return float(sum(of_each.mean() for of_each in best)) / 2


def dynamic_degree(frames: np.ndarray, fps: float) -> float:
    """Speed of the fastest 5 % of points of a clip uint8 [T, H, W, 3], in frame sides per second; 0 if it is still.

    It follows the dynamic degree of VBench (Huang et al., CVPR 2024), but is a value instead of yes or no. The points
    start anew in every frame, so things that appear later count. Points that cannot be followed for one step do not.
    """
    scaled, side = _scaled(frames)
    grid = _grid(scaled)
    fastest, speeds = int(np.ceil(FASTEST * len(grid))), []
    for before, after in pairwise(scaled):
        moved = np.linalg.norm(_followed(before, after, grid) - grid, axis=1)
        speeds.append(np.sort(moved[np.isfinite(moved)])[-fastest:])
    means = [speed.mean() if len(speed) else 0.0 for speed in speeds]
    return float(np.mean(means)) / side * fps if means else 0.0


def smoothness(paths: np.ndarray) -> float:
    """How evenly the points of a clip move, in 0..1, from its `tracks`: 1 minus the lengths of all changes of steps
    over the lengths of the steps.

    A change is the second difference of a path: a step minus the one before. VBench's motion smoothness (Huang et al.,
    CVPR 2024) asks for the same, but reconstructs every second frame with a network. A point that goes on as it came
    gives 1; one that turns back, starts or stops gives 0; one that takes steps of one length in random directions gives
    0.36. Points that stand still do not count, because their steps are noise. Of a long clip frames at equal distances
    count, about MOMENTS of them. It is 1 for a clip in which nothing moves, or that has fewer than three frames.
    """
    paths = paths[:: max(1, round(len(paths) / MOMENTS)), _spans(paths) >= MOVES]
    steps = np.diff(paths, axis=0)
    came, goes = steps[:-1], steps[1:]
    lengths = np.linalg.norm(came, axis=2) + np.linalg.norm(goes, axis=2)
    counted = lengths > 2 * STILL  # False where a point is lost
    changes, total = np.linalg.norm(goes - came, axis=2)[counted].sum(), lengths[counted].sum()
    return 1 - float(changes / total) if total else 1.0


def tracks(frames: np.ndarray) -> np.ndarray:
    """float64 [T, N, 2]: x and y, in frame sides, of points in uint8 frames [T, H, W, 3]. They start on a grid in the
    first frame, and again about every LIFE frames. A point is NaN before its start, and once it is lost."""
    scaled, side = _scaled(frames)
    grid = _grid(scaled)
    lives = max(1, round(len(frames) / LIFE))
    starts = np.linspace(0, len(frames), lives, endpoint=False).astype(int)
    path = np.full((len(frames), lives, *grid.shape), np.nan, np.float32)
    path[starts, np.arange(lives)] = grid
    for number, (before, after) in enumerate(pairwise(scaled), start=1):
        begun = slice(0, np.searchsorted(starts, number))
        points = path[number - 1, begun]
        path[number, begun] = _followed(before, after, points.reshape(-1, 2)).reshape(points.shape)
    return path.reshape(len(frames), -1, 2).astype(float) / side


def _scaled(frames: np.ndarray) -> tuple[list[np.ndarray], int]:
    """The frames at the size at which points are followed, and their shorter side in pixels."""
    height, width = frames.shape[1:3]
    scale = min(1.0, SIDE / min(height, width))
    size = round(width * scale), round(height * scale)
    return [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames], min(size)


def _grid(frames: list[np.ndarray]) -> np.ndarray:
    """float32 [N, 2]: points of a frame, GRID along its shorter side."""
    height, width = frames[0].shape[:2]
    gap = min(height, width) / GRID
    x, y = np.meshgrid(np.arange(gap / 2, width, gap), np.arange(gap / 2, height, gap))
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def _followed(before: np.ndarray, after: np.ndarray, points: np.ndarray) -> np.ndarray:
    """float32 [N, 2]: positions in the next frame of points [N, 2] of one frame, in pixels; NaN where they are lost."""
    there = np.isfinite(points).all(axis=1)
    moved = np.full_like(points, np.nan)
    if there.any():
        side = min(before.shape[:2])
        window = round(WINDOW * side) | 1
        # Frames keep their colours, because a thing may be as bright as what is behind it.
        search: dict[str, Any] = {"nextPts": None, "winSize": (window, window), "maxLevel": LEVELS, "criteria": SEARCH}
        ahead, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points[there], **search)
        back, found_again, _ = cv2.calcOpticalFlowPyrLK(after, before, ahead, **search)
        held = np.bitwise_and(found, found_again)[:, 0].astype(bool)
        held &= np.linalg.norm(back - points[there], axis=1) < RETURN * side
        # At the edge the window leaves the frame, and the fastest points would be mistakes.
        for place in (points[there], ahead):
            held &= ((place >= window // 2) & (place < np.flip(before.shape[:2]) - window // 2)).all(axis=1)
        moved[there] = np.where(held[:, None], ahead, np.nan)
    return moved


def _moving(paths: np.ndarray) -> tuple[np.ndarray, float]:
    """[T - 1, M, 2]: steps of the tracks that are followed long enough and do not stand still; and for how many steps a
    track has to be followed.
    """
    steps = np.diff(paths, axis=0)
    followed = np.isfinite(steps[..., 0])
    lives = len(np.unique(followed[:, followed.any(axis=0)].argmax(axis=0))) if len(steps) else 0
    least = FOLLOWED * len(steps) / max(1, lives)
    lasts = followed.sum(axis=0) >= least
    if not lives or not lasts.any():
        return steps[:, :0], least
    return steps[:, lasts][:, _spans(paths[:, lasts]) >= MOVES], least


def _spans(paths: np.ndarray) -> np.ndarray:
    """[N]: extents of tracks; 0 for a track that is never followed."""
    lowest, highest = (np.where(np.isnan(paths), end, paths) for end in (np.inf, -np.inf))
    return np.linalg.norm(np.maximum(highest.max(axis=0) - lowest.min(axis=0), 0), axis=1)


def _mean_cosines(first: np.ndarray, second: np.ndarray, least: float) -> np.ndarray:
    """[M, N]: mean cosine of steps [T, M, 2] and [T, N, 2], see `motion_fidelity`; NaN for tracks that are followed
    together for fewer than `least` steps."""
    directions, followed, still = zip(*map(_directions, (first, second)), strict=True)
    total = np.einsum("tmc,tnc->mn", *directions)
    together = np.einsum("tm,tn->mn", *followed)
    counted = together - np.einsum("tm,tn->mn", *still)
    return np.where(together >= least, total / np.maximum(counted, 1), np.nan)


def _directions(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three arrays: unit steps (0 where a point stands still or is lost); 1 where a point is followed; 1 where it
    stands still."""
    length = np.linalg.norm(steps, axis=2)
    moves = length > STILL
    unit = np.where(moves[..., None], steps / np.where(moves, length, 1)[..., None], 0)
    return unit, np.isfinite(length).astype(float), (length <= STILL).astype(float)
