"""Motion, of any clip and without a truth: does it move as a video source does, and how fast?

A still clip has high similarity scores; these stand beside them. Both follow points on a regular grid by the pyramidal
Lucas-Kanade method. All lengths are in frame sides (the shorter side), so that they mean the same at every size.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

SIDE = 192  # pixels: larger frames are brought down to it
GRID = 24  # points along a side
WINDOW = 0.1  # of a side: what is compared around a point
LEVELS = 2  # of the pyramid, above the frame: a step of up to a fifth of a side is found
SEARCH = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 10, 0.03)  # steps of the search; pixels at which it ends
RETURN = 0.01  # sides: a point that does not come back this close, followed backwards, is lost
MOMENTS = 24  # of a longer clip: steps of single frames are mostly noise where things move slowly
FOLLOWED = 0.5  # a track lasts at least this share of the steps
MOVES = 0.05  # sides: a track that spans less stands still
STILL = 0.0005  # sides a step: below, a direction is the tracker's noise
FASTEST = 0.05  # the share of points whose speed counts

cv2.setNumThreads(1)  # a job that scores has one processor


def motion_scores(frames: np.ndarray, references: Iterable[np.ndarray], fps: float) -> dict[str, float]:
    """Both scores x100 of a clip uint8 [T, H, W, 3]: motion_fidelity, the mean over `references`, and dynamic_degree.

    The references are `tracks` of the case's video sources. Fidelity can be negative, so that its mean is no harmonic
    one; it is NaN where there is no source that moves.
    """
    found = tracks(frames)
    fidelities = [motion_fidelity(found, reference) for reference in references]
    defined = [fidelity for fidelity in fidelities if np.isfinite(fidelity)]
    return {
        "motion_fidelity": 100 * float(np.mean(defined)) if defined else np.nan,
        "dynamic_degree": 100 * dynamic_degree(frames, fps),
    }


def motion_fidelity(clip: np.ndarray, reference: np.ndarray) -> float:
    """How well the points of a clip move in the directions of those of another, in -1..1 (Yatim et al., "Space-Time
    Diffusion Features for Zero-Shot Text-Driven Motion Transfer", CVPR 2024, motion fidelity score).

    For each track that moves, the largest mean cosine of its steps with those of a track of the other clip; the mean
    over tracks, then over both directions. Where and how fast things move does not count. Steps count in which both
    tracks are followed and one of them moves; if just one does, by 0. The best of many matches flatters: clips of
    different motions have not 0 but 0.4, in the mean over the Toybox's.

    Args:
        clip, reference: `tracks` of two clips. They are compared at MOMENTS, spread evenly from start to end of each,
            or at as many as the shorter has frames.

    Returns:
        0 if nothing moves in the clip, or nothing that does can be followed: a still clip holds no motion. NaN if
        nothing does in the reference: there is none to hold. In all other cases both may change places.
    """
    moments = min(MOMENTS, len(clip), len(reference))
    steps, wanted = (_moving(paths[_spread(len(paths), moments)]) for paths in (clip, reference))
    if not wanted.shape[1]:
        return np.nan
    if not steps.shape[1]:
        return 0.0
    cosines = _mean_cosines(steps, wanted)
    return float(cosines.max(axis=0).mean() + cosines.max(axis=1).mean()) / 2


def dynamic_degree(frames: np.ndarray, fps: float) -> float:
    """How fast the fastest 5 % of points of a clip uint8 [T, H, W, 3] move, in frame sides a second; 0 if it is still.

    After the dynamic degree of VBench (Huang et al., CVPR 2024), as a value instead of a verdict. The points start anew
    in every frame, so that what comes in later counts, and those that cannot be followed for one step do not.
    """
    scaled, side = _scaled(frames)
    grid = _grid(scaled)
    fastest, speeds = int(np.ceil(FASTEST * len(grid))), []
    for before, after in pairwise(scaled):
        moved = np.linalg.norm(_followed(before, after, grid) - grid, axis=1)
        speeds.append(np.sort(moved[np.isfinite(moved)])[-fastest:])
    means = [speed.mean() if len(speed) else 0.0 for speed in speeds]
    return float(np.mean(means)) / side * fps if means else 0.0


def tracks(frames: np.ndarray) -> np.ndarray:
    """float64 [T, N, 2]: x and y, in frame sides, of points that start on a grid in the first of uint8 frames
    [T, H, W, 3]; NaN from the frame on in which a point is lost."""
    scaled, side = _scaled(frames)
    path = [_grid(scaled)]
    for before, after in pairwise(scaled):
        path.append(_followed(before, after, path[-1]))
    return np.stack(path).astype(float) / side


def _scaled(frames: np.ndarray) -> tuple[list[np.ndarray], int]:
    """The frames at the size in which points are followed, and its shorter side."""
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
    """float32 [N, 2]: where points [N, 2] of one frame are in the next, in pixels; NaN where they are lost."""
    there = np.isfinite(points).all(axis=1)
    moved = np.full_like(points, np.nan)
    if there.any():
        side = min(before.shape[:2])
        window = round(WINDOW * side) | 1
        # In colours: a thing may be as bright as what is behind it.
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


def _spread(length: int, moments: int) -> np.ndarray:
    return np.linspace(0, length - 1, moments).round().astype(int)


def _moving(paths: np.ndarray) -> np.ndarray:
    """[T - 1, M, 2]: steps of the tracks that last, and do not stand still."""
    steps = np.diff(paths, axis=0)
    if not len(steps):
        return steps[:, :0]
    lasts = np.isfinite(steps[..., 0]).mean(axis=0) >= FOLLOWED
    span = np.linalg.norm(np.nanmax(paths, axis=0) - np.nanmin(paths, axis=0), axis=1)
    return steps[:, lasts & (span >= MOVES)]


def _mean_cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[M, N]: mean cosine of steps [T, M, 2] and [T, N, 2], see `motion_fidelity`."""
    directions, followed, still = zip(*map(_directions, (first, second)), strict=True)
    total = np.einsum("tmc,tnc->mn", *directions)
    counted = np.einsum("tm,tn->mn", *followed) - np.einsum("tm,tn->mn", *still)
    return total / np.maximum(counted, 1)


def _directions(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit steps, 0 where a point stands still or is lost; 1 where it is followed; 1 where it stands still."""
    length = np.linalg.norm(steps, axis=2)
    moves = length > STILL
    unit = np.where(moves[..., None], steps / np.where(moves, length, 1)[..., None], 0)
    return unit, np.isfinite(length).astype(float), (length <= STILL).astype(float)
