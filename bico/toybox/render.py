"""Renders a scene of the Toybox to frames, masks and trajectories: vector sprites over a painted backdrop.

Sprites are unions of signed-distance shapes in local coordinates (x to the right, y downwards, about -1..1). Therefore
they are anti-aliased at any size, and their rotation and scaling are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import reduce

import numpy as np

from bico.toybox.words import POST
from bico.toybox.world import NUM_FRAMES, SIZE, Actor, Backdrop, Clutter, Look, Scene

Array = np.ndarray
# A part of a sprite: its signed distance (negative inside), its colour, and whether the pattern covers it.
Part = tuple[Array, Array, bool]

DARK, LIGHT = np.array([0.08, 0.08, 0.1], np.float32), np.array([0.96, 0.96, 0.94], np.float32)
POST_WIDTH = 0.08  # of the frame
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


def hsv(hue: float, saturation: float, value: float) -> Array:
    """The RGB colour (3 values in 0..1) of a hue in 0..1."""
    wheel = np.clip(np.abs((hue * 6 + np.array([0, 4, 2], np.float32)) % 6 - 3) - 1, 0, 1)
    return (value * (1 - saturation * (1 - wheel))).astype(np.float32)


# --- signed distances, in local units -------------------------------------------------------------------------------


def _circle(x: Array, y: Array, cx: float, cy: float, radius: float) -> Array:
    return np.hypot(x - cx, y - cy) - radius


def _ellipse(x: Array, y: Array, cx: float, cy: float, rx: float, ry: float) -> Array:
    """The distance is accurate only near the outline, which is all that anti-aliasing needs."""
    u, v = (x - cx) / rx, (y - cy) / ry
    length = np.hypot(u, v) + 1e-6
    return (length - 1) * length / (np.hypot(u / rx, v / ry) + 1e-6)


def _box(x: Array, y: Array, cx: float, cy: float, hx: float, hy: float) -> Array:
    return np.maximum(np.abs(x - cx) - hx, np.abs(y - cy) - hy)


def _polygon(x: Array, y: Array, *corners: tuple[float, float]) -> Array:
    """A convex polygon, corners in clockwise order as seen on screen."""

    def edge(start: tuple[float, float], end: tuple[float, float]) -> Array:
        (ax, ay), (bx, by) = start, end
        return ((x - ax) * (by - ay) - (y - ay) * (bx - ax)) / np.hypot(bx - ax, by - ay)

    return reduce(np.maximum, map(edge, corners, corners[1:] + corners[:1]))


# --- sprites --------------------------------------------------------------------------------------------------------


def _cat(x: Array, y: Array, s: float, a: Array, b: Array) -> Iterator[Part]:
    ear = 0.75 + 0.35 * s
    yield _ellipse(x, y, 0.62, 0.35, 0.13, 0.5), b, False
    yield _ellipse(x, y, 0, 0.4, 0.5 + 0.15 * s, 0.58), a, True
    yield _polygon(x, y, (-0.5, -0.35), (-0.45, -ear), (-0.08, -0.6)), b, False
    yield _polygon(x, y, (0.08, -0.6), (0.45, -ear), (0.5, -0.35)), b, False
    yield _circle(x, y, 0, -0.3, 0.47), a, False
    for side in (-1, 1):
        yield _circle(x, y, 0.18 * side, -0.35, 0.12), LIGHT, False
        yield _circle(x, y, 0.18 * side, -0.35, 0.06), DARK, False


def _fish(x: Array, y: Array, s: float, a: Array, b: Array) -> Iterator[Part]:
    yield _polygon(x, y, (-1.0, 0.5), (-1.0, -0.5), (-0.4, 0.0)), b, False
    yield _polygon(x, y, (-0.2, -0.3), (0.1, -0.75), (0.35, -0.3)), b, False
    yield _ellipse(x, y, 0.1, 0, 0.78, 0.36 + 0.2 * s), a, True
    yield _circle(x, y, 0.55, -0.1, 0.14), LIGHT, False
    yield _circle(x, y, 0.58, -0.1, 0.07), DARK, False


def _car(x: Array, y: Array, s: float, a: Array, b: Array) -> Iterator[Part]:
    yield _polygon(x, y, (-0.65, -0.05), (-0.4, -0.55), (0.35, -0.55), (0.65, -0.05)), b, False
    yield _box(x, y, 0, -0.27, 0.3, 0.15), LIGHT, False
    yield _box(x, y, 0, 0.2, 0.98, 0.3), a, True
    for side in (-1, 1):
        yield _circle(x, y, 0.52 * side, 0.5, 0.2 + 0.12 * s), DARK, False
        yield _circle(x, y, 0.52 * side, 0.5, 0.09), LIGHT, False


def _rocket(x: Array, y: Array, s: float, a: Array, b: Array) -> Iterator[Part]:
    yield _ellipse(x, y, 0, 0.82, 0.16, 0.25), np.array([1.0, 0.65, 0.15], np.float32), False
    yield _polygon(x, y, (-0.75, 0.75), (-0.2, 0.0), (-0.2, 0.6)), b, False
    yield _polygon(x, y, (0.2, 0.6), (0.2, 0.0), (0.75, 0.75)), b, False
    yield _ellipse(x, y, 0, -0.1, 0.3 + 0.15 * s, 0.85), a, True
    yield _circle(x, y, 0, -0.3, 0.17), LIGHT, False


def _robot(x: Array, y: Array, s: float, a: Array, b: Array) -> Iterator[Part]:
    yield _box(x, y, 0, -0.92, 0.05, 0.1), DARK, False
    for side in (-1, 1):
        yield _box(x, y, 0.27 * side, 0.78, 0.13, 0.22), b, False
        yield _box(x, y, (0.6 + 0.12 * s) * side, 0.15, 0.1, 0.3), b, False
    yield _box(x, y, 0, 0.18, 0.46 + 0.12 * s, 0.42), a, True
    yield _box(x, y, 0, -0.55, 0.4, 0.28), a, False
    for side in (-1, 1):
        yield _box(x, y, 0.17 * side, -0.58, 0.1, 0.1), LIGHT, False


def _mushroom(x: Array, y: Array, s: float, a: Array, b: Array) -> Iterator[Part]:
    yield _box(x, y, 0, 0.45, 0.18 + 0.16 * s, 0.5), np.array([0.95, 0.9, 0.75], np.float32), False
    yield _ellipse(x, y, 0, 0.08, 0.7, 0.16), b, False
    yield np.maximum(_ellipse(x, y, 0, 0.05, 0.95, 0.85), y - 0.05), a, True


SPRITES: dict[str, Callable[[Array, Array, float, Array, Array], Iterator[Part]]] = {
    "cat": _cat,
    "fish": _fish,
    "car": _car,
    "rocket": _rocket,
    "robot": _robot,
    "mushroom": _mushroom,
}


def _pattern(actor: Actor, x: Array, y: Array, pixel: Array) -> Array:
    """Share of the second hue at each place of the body, in 0..1."""
    if actor.pattern == "striped":
        wave = np.abs((y * 1.6 + 0.25) % 1.0 - 0.5) - 0.25
        return np.clip(0.5 - wave / 1.6 / pixel, 0, 1)
    if actor.pattern == "spotted":
        cell = 0.46
        u, v = (x + cell / 2) % cell - cell / 2, (y + cell / 2) % cell - cell / 2
        return np.clip(0.5 - (np.hypot(u, v) - 0.14) / pixel, 0, 1)
    return np.zeros_like(x)


# --- motion ---------------------------------------------------------------------------------------------------------


def _trajectory(actor: Actor, num_frames: int) -> Array:
    """[T, 4]: centre x and y, half extent, angle in radians."""
    time = np.linspace(0, 1, num_frames) if num_frames > 1 else np.zeros(1)
    x, y = np.full(num_frames, actor.x), np.full(num_frames, actor.y)
    size, angle = np.full(num_frames, actor.size), np.zeros(num_frames)
    if (motion := actor.motion) is not None:
        wide, turn = 0.5 + 0.5 * motion.amplitude, 2 * np.pi * motion.direction
        match motion.word:
            case "sliding":
                x = x + motion.direction * (0.3 + 0.35 * motion.speed) * (time - 0.5)
            case "bouncing":
                cycle = (1.2 + 1.2 * motion.speed) * time + 0.5 * motion.phase
                y = y + 0.1 - 0.4 * wide * np.abs(np.sin(np.pi * cycle))
            case "spinning":
                angle = turn * (0.4 + 0.6 * motion.speed) * time
            case "circling":
                orbit = turn * (0.7 + 0.6 * motion.speed) * time + 2 * np.pi * motion.phase
                x, y = x + 0.22 * wide * np.cos(orbit), y + 0.22 * wide * np.sin(orbit) - 0.05
            case "rising":
                y = y + (0.3 + 0.35 * motion.speed) * (0.5 - time)
            case "growing":
                size = size * (0.5 + (0.5 + 0.5 * motion.speed) * time)
    return np.stack([x, y, size, angle], axis=1).astype(np.float32)


def trajectory(scene: Scene, num_frames: int = NUM_FRAMES) -> Array:
    """float32 [actors, T, 4]: centre x, centre y, half extent (all in frame sides), angle (radians, unwrapped)."""
    return np.stack([_trajectory(actor, num_frames) for actor in scene.actors])


# --- backdrops ------------------------------------------------------------------------------------------------------


def _over(canvas: Array, alpha: Array, colour: Array) -> Array:
    return canvas + alpha[..., None] * (colour - canvas)


def _sky(hue: float, y: Array, top: float = 0.75, bottom: float = 1.0) -> Array:
    ramp = np.clip(y, 0, 1)[..., None]
    return hsv(hue, 0.45, top) * (1 - ramp) + hsv(hue, 0.25, bottom) * ramp


def _backdrop(backdrop: Backdrop, size: int) -> Array:
    """float32 [size, size, 3] in 0..1."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = np.meshgrid(axis, axis)
    e = backdrop.layout
    sky, ground = backdrop.sky, backdrop.ground

    def cover(distance: Array) -> Array:
        return np.clip(0.5 - distance * size, 0, 1)

    canvas = _sky(sky, y)
    sun = cover(_circle(x, y, 0.15 + 0.7 * e[0], 0.14 + 0.1 * e[1], 0.08 + 0.04 * e[2]))
    match backdrop.word:
        case "beach":
            canvas = _over(canvas, sun, hsv(0.14, 0.4, 1.0))
            shore = 0.72 + 0.1 * e[3] + 0.03 * np.sin(2 * np.pi * ((1 + 2 * e[4]) * x + e[5]))
            canvas = _over(canvas, cover(0.45 + 0.1 * e[6] - y), hsv(sky, 0.8, 0.7))
            canvas = _over(canvas, cover(shore - 0.03 - y), LIGHT)
            canvas = _over(canvas, cover(shore - y), hsv(ground, 0.45, 0.95))
        case "forest":
            for row, (value, base) in enumerate(((0.55, 0.62), (0.35, 0.75))):
                width = 0.18 + 0.1 * e[3 + row]
                u = (x + e[5 + row]) % width / width - 0.5
                tree = base - (0.28 + 0.15 * e[7 + row]) * (1 - 2 * np.abs(u))
                canvas = _over(canvas, cover((tree - y) * 0.4), hsv(ground, 0.6, value))
            canvas = _over(canvas, cover(0.74 + 0.06 * e[9] - y), hsv(ground, 0.5, 0.25))
        case "desert":
            canvas = _over(canvas, sun, hsv(0.05, 0.5, 1.0))
            for row, value in enumerate((0.95, 0.75)):
                dune = 0.5 + 0.2 * row + 0.1 * e[3 + row]
                dune = dune + 0.09 * np.sin(2 * np.pi * ((0.6 + 0.8 * e[5 + row]) * x + e[7 + row]))
                canvas = _over(canvas, cover(dune - y), hsv(ground, 0.6, value))
        case "city":
            canvas = _sky(sky, y, 0.5, 0.8)
            for column in range(5):
                top = 0.2 + 0.4 * e[column]
                left = column / 5 + 0.02 * e[6]
                tower = cover(np.maximum(np.abs(x - left - 0.09) - 0.08, top - y))
                canvas = _over(canvas, tower, hsv(ground, 0.45, 0.35 + 0.25 * e[(column + 3) % 10]))
                window = (np.abs((x - left) % 0.09 - 0.05) < 0.02) & (np.abs((y - top) % 0.14 - 0.07) < 0.03)
                canvas = _over(canvas, tower * window, hsv(0.14, 0.4, 1.0))
            canvas = _over(canvas, cover(0.84 - y), hsv(ground, 0.2, 0.25))
        case "space":
            canvas = np.broadcast_to(hsv(sky, 0.7, 0.16), (size, size, 3))
            for star in range(12):
                u, v = (e[star % 10] * 7.3 + star * 0.37) % 1, (e[(star + 4) % 10] * 5.1 + star * 0.23) % 1
                canvas = _over(canvas, cover(_circle(x, y, u, v, 0.014)), LIGHT)
            px, py, radius = 0.2 + 0.6 * e[0], 0.2 + 0.2 * e[1], 0.14 + 0.08 * e[2]
            planet = cover(_circle(x, y, px, py, radius))
            canvas = _over(canvas, planet, hsv(ground, 0.6, 0.8))
            canvas = _over(canvas, planet * cover(np.abs(y - py) - 0.03), hsv(ground, 0.3, 1.0))
    return canvas.astype(np.float32)


# --- looks ----------------------------------------------------------------------------------------------------------


def _light(frames: Array, light: Look) -> Array:
    amount = light.amount
    height = np.linspace(0, 1, frames.shape[1], dtype=np.float32)[None, :, None, None]
    match light.word:
        case "night":
            return frames * (0.5 - 0.25 * amount) * np.array([0.7, 0.8, 1.25], np.float32)
        case "sunset":
            warm = np.array([1.0, 0.6, 0.35], np.float32)
            return frames * (1 - (0.5 + 0.4 * amount) * (1 - warm)) + (0.12 + 0.15 * amount) * (1 - height) * warm
        case _:  # fog
            density = (0.4 + 0.3 * amount) * (1.15 - 0.3 * height)
            return frames * (1 - density) + density * np.array([0.85, 0.87, 0.9], np.float32)


def _style(frames: Array, style: Look) -> Array:
    amount = style.amount
    luminance = (frames @ LUMINANCE)[..., None]
    match style.word:
        case "sketch":
            edge = sum(np.abs(np.diff(luminance, axis=axis, append=luminance.take([-1], axis))) for axis in (1, 2))
            paper = 0.75 + 0.25 * luminance + (0.25 - 0.2 * amount) * (frames - luminance)
            return paper - np.clip(edge * (1.5 + 1.5 * amount), 0, 0.8)
        case "sepia":
            tint = luminance * np.array([1.1, 0.88, 0.62], np.float32) + 0.04
            return frames + (0.65 + 0.35 * amount) * (tint - frames)
        case _:  # poster
            vivid = np.clip(luminance + (1.3 + 0.7 * amount) * (frames - luminance), 0, 1)
            steps = 2.0
            return vivid + 0.85 * (np.round(vivid * steps) / steps - vivid)


def _lens(frames: Array) -> Array:
    """Blurs by (1, 2, 1) / 4 along both axes. The optics of a camera limit detail below what a pixel grid can hold, but
    vector sprites have no such limit. Without the blur models would spend capacity on edges that no photograph has."""
    tall = np.pad(frames, ((0, 0), (1, 1), (0, 0), (0, 0)), mode="edge")
    frames = (tall[:, :-2] + 2 * tall[:, 1:-1] + tall[:, 2:]) / 4
    wide = np.pad(frames, ((0, 0), (0, 0), (1, 1), (0, 0)), mode="edge")
    return (wide[:, :, :-2] + 2 * wide[:, :, 1:-1] + wide[:, :, 2:]) / 4


# --- the whole ------------------------------------------------------------------------------------------------------


def _sprite(actor: Actor, path: Array, size: int) -> tuple[Array, Array]:
    """Premultiplied colour [T, size, size, 3] and coverage [T, size, size] of one actor along its trajectory."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    px, py = np.meshgrid(axis, axis)
    cx, cy, extent, angle = (path[:, column, None, None] for column in range(4))
    u, v = (px - cx) / extent, (py - cy) / extent
    x, y = np.cos(angle) * u + np.sin(angle) * v, np.cos(angle) * v - np.sin(angle) * u
    pixel = 1 / (extent * size)  # one pixel in local units
    a, b = hsv(actor.hue_a, 0.85, 0.9), hsv(actor.hue_b, 0.85, 0.75)
    pattern = _pattern(actor, x, y, pixel)[..., None]
    colour, coverage = np.zeros((*x.shape, 3), np.float32), np.zeros_like(x)
    for distance, fill, patterned in SPRITES[actor.word](x, y, actor.shape, a, b):
        alpha = np.clip(0.5 - distance / pixel, 0, 1)
        paint = fill + pattern * (b - fill) if patterned else fill
        colour = colour + alpha[..., None] * (paint - colour)
        coverage = coverage + alpha * (1 - coverage)
    return colour, coverage


def _clutter(frames: Array, clutter: Clutter, size: int) -> Array:
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = np.meshgrid(axis, axis)
    if clutter.kind == "ball":
        frames = _over(frames, np.clip(0.5 - _circle(x, y, clutter.x, clutter.y, 0.1) * size, 0, 1), LIGHT)
        return _over(
            frames, np.clip(0.5 - _circle(x, y, clutter.x, clutter.y, 0.08) * size, 0, 1), hsv(clutter.hue, 0.8, 0.9)
        )
    if clutter.kind == POST:
        post = _box(x, y, clutter.x, (1 + clutter.y) / 2, POST_WIDTH / 2, (1 - clutter.y) / 2)
        return _over(frames, np.clip(0.5 - post * size, 0, 1), hsv(clutter.hue, 0.6, 0.55))
    if clutter.kind == "frame":
        edge = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
        return _over(frames, (edge < 0.07).astype(np.float32), hsv(clutter.hue, 0.8, 0.7))
    letters = (np.abs(y - 0.08) < 0.035) & (np.abs(x - clutter.x) < 0.13) & (x * size % 4 < 2.5)
    return _over(frames, 0.8 * letters.astype(np.float32), LIGHT)


def render(scene: Scene, num_frames: int = NUM_FRAMES, size: int = SIZE, paths: Array | None = None) -> Array:
    """uint8 [T, size, size, 3]: the scene's frames, evenly spaced over its motion; one frame shows its start.

    `paths`, float [actors, T, 4], replaces the `trajectory` of the actors.
    """
    behind, before, on_top = (
        [item for item in scene.clutter if item.kind in kinds] for kinds in (("ball",), (POST,), ("frame", "watermark"))
    )
    frames = np.repeat(_backdrop(scene.backdrop, size)[None], num_frames, axis=0)
    for item in behind:
        frames = _clutter(frames, item, size)
    paths = trajectory(scene, num_frames) if paths is None else paths
    for actor, path in zip(scene.actors, paths, strict=True):
        colour, coverage = _sprite(actor, path, size)
        frames = colour * coverage[..., None] + frames * (1 - coverage[..., None])
    for item in before:
        frames = _clutter(frames, item, size)
    if scene.light:
        frames = _light(frames, scene.light)
    if scene.style:
        frames = _style(frames, scene.style)
    for item in on_top:
        frames = _clutter(frames, item, size)
    return np.clip(_lens(frames) * 255 + 0.5, 0, 255).astype(np.uint8)


def masks(scene: Scene, num_frames: int = NUM_FRAMES, size: int = SIZE) -> Array:
    """bool [actors, T, size, size]: where each actor is visible. Actors later in the list are in front."""
    paths = trajectory(scene, num_frames)
    shapes = [_sprite(a, p, size)[1] > 0.5 for a, p in zip(scene.actors, paths, strict=True)]
    for position, shape in enumerate(shapes):
        for front in shapes[position + 1 :]:
            shape &= ~front
    return np.stack(shapes)


def ground_mask(backdrop: Backdrop, size: int = SIZE) -> Array:
    """bool [size, size]: pixels with the ground's hue, also in front; the rest is sky."""
    repainted = replace(backdrop, ground=(backdrop.ground + 0.5) % 1.0)
    return (_backdrop(backdrop, size) != _backdrop(repainted, size)).any(axis=-1)


def regions(scene: Scene, num_frames: int, cells: int, actors: int) -> Array:
    """float32 [actors + 2, T, cells, cells]: the share of each grid cell that each actor covers (zero for a missing
    actor), the ground and the sky.
    """
    seen = np.zeros((actors + 2, num_frames, SIZE, SIZE), bool)
    seen[: len(scene.actors)] = masks(scene, num_frames)
    ground = ground_mask(scene.backdrop)
    seen[actors:] = ~seen.any(axis=0) & np.stack([ground, ~ground])[:, None]
    side = SIZE // cells
    return seen.reshape(actors + 2, num_frames, cells, side, cells, side).mean((3, 5), dtype=np.float32)


def render_with_regions(scene: Scene, num_frames: int, cells: int, actors: int) -> tuple[Array, Array]:
    """`render` and `regions`."""
    return render(scene, num_frames), regions(scene, num_frames, cells, actors)
