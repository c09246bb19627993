"""The probe: a small network, trained only on renderings, that predicts the words and parameters of a Toybox clip.

The truth scores and the zoo's card use it. It predicts the contents of a clip with their places and looks, and the
motion of the subject frame by frame. It recognises one subject, the most prominent one, and clutter that no caption
names.
"""

from __future__ import annotations

import copy
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from bico.core.files import replacing
from bico.toybox.words import CLUTTER, LIGHTS, MOTIONS, PATTERNS, SCENES, STYLES, SUBJECTS
from bico.toybox.world import NUM_FRAMES, SIZE

NONE, STILL = "none", "still"
# Outputs of each part of the probe, words and numbers: hues as points on the unit circle, levels in 0..1.
LOOK = {"subject": SUBJECTS, "pattern": PATTERNS}, ("hue_a", "hue_b"), ("shape",)
MOTION = {"motion": (*MOTIONS, STILL)}, (), ()
BACKDROP = (
    {"scene": SCENES, "style": (NONE, *STYLES), "light": (NONE, *LIGHTS)},
    ("sky", "ground"),
    ("style_amount", "light_amount"),
)
WORDS = LOOK[0] | MOTION[0] | BACKDROP[0]
HUES, LEVELS = LOOK[1] + BACKDROP[1], LOOK[2] + BACKDROP[2]
Answers = tuple[dict[str, tuple[str, ...]], tuple[str, ...], tuple[str, ...]]

# Typical values and spreads of places, which scale the network's outputs.
CENTRE, SPREAD, TYPICAL_SIZE, SIZE_SPREAD = 0.5, 0.15, 0.25, 0.3


@dataclass(frozen=True)
class Reading:
    """The probe's predictions for one clip.

    Attributes:
        words: role -> word -> probability, for the roles in `WORDS`.
        values: hues (`HUES`) and levels (`LEVELS`), all in 0..1.
        trajectory: float32 [9, 4]: centre x, centre y, half extent (frame sides), angle (radians in -pi..pi).
        clutter: kind (`CLUTTER`) -> probability. A clip can have several kinds, or none.
    """

    words: dict[str, dict[str, float]]
    values: dict[str, float]
    trajectory: np.ndarray
    clutter: dict[str, float]

    def best(self, role: str) -> str:
        """The most probable word of a role."""
        return max(self.words[role], key=self.words[role].__getitem__)


class Residual(nn.Module):
    """Two 3x3 convolutions within each frame and one over three frames at each place, added to the input."""

    def __init__(self, width: int):
        super().__init__()
        self.space = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip
        self.time = nn.Sequential(nn.Conv1d(width, width, 3, padding=1, bias=False), nn.BatchNorm1d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, T, C, H, W] to the same shape."""
        b, t, c, h, w = x.shape
        x = F.relu(x + self.space(x.flatten(0, 1)).unflatten(0, (b, t)))
        pixels = x.permute(0, 3, 4, 2, 1).reshape(b * h * w, c, t)
        return F.relu(x + self.time(pixels).view(b, h, w, c, t).permute(0, 4, 3, 1, 2))


class CutOut(nn.Module):
    """Convolutions over a small crop of a frame around the subject."""

    SIZE, MARGIN = 24, 1.15  # pixels; half side in the subject's half extents

    def __init__(self, outputs: int, width: int):
        super().__init__()
        layers = [_layer(3, 24, 3, 1), _layer(24, 48, 3, 2), _layer(48, width, 3, 2), _layer(width, width, 3, 1)]
        self.net = nn.Sequential(*itertools.chain(*layers))
        self.head = nn.Sequential(nn.Linear(width * 9, 128), nn.GELU(), nn.Linear(128, outputs))

    def features(self, clips: torch.Tensor, poses: torch.Tensor) -> torch.Tensor:
        """Clips [B, 3, T, H, W] and poses [B, T, 4] (as `render.trajectory`) to [B, T, 9 * width]."""
        pictures = self.upright(clips.transpose(1, 2).flatten(0, 1), poses.flatten(0, 1))
        return F.avg_pool2d(self.net(pictures), 2).flatten(1).view(*poses.shape[:2], -1)

    @classmethod
    def upright(cls, frames: torch.Tensor, poses: torch.Tensor) -> torch.Tensor:
        """Frames [N, 3, H, W] and poses [N, 4] to [N, 3, 24, 24]: the subject centred, at unit size, upright."""
        x, y, size, angle = poses.unbind(dim=1)
        along, across = 2 * cls.MARGIN * size * angle.cos(), 2 * cls.MARGIN * size * angle.sin()
        rows = [torch.stack([along, -across, 2 * x - 1], 1), torch.stack([across, along, 2 * y - 1], 1)]
        grid = F.affine_grid(torch.stack(rows, 1), [len(frames), 3, cls.SIZE, cls.SIZE], align_corners=False)
        return F.grid_sample(frames, grid, padding_mode="border", align_corners=False)


class Turn(CutOut):
    """The subject's exact pose, given a rough one: refines centre and size, and reads the angle."""

    def __init__(self) -> None:
        super().__init__(outputs=5, width=48)

    def forward(self, clips: torch.Tensor, rough: torch.Tensor) -> torch.Tensor:
        """Clips [B, 3, T, H, W] and rough poses [B, T, 4] to [B, T, 5]: shift of the centre in half extents along the
        axes of the crop, logarithm of the factor on the size, cosine and sine of the remaining angle.
        """
        return self.head(self.features(clips, rough))


class Look(CutOut):
    """The subject's look, given its exact pose. Its features are averaged over the frames."""

    def __init__(self) -> None:
        super().__init__(outputs=_size(LOOK), width=64)

    def forward(self, clips: torch.Tensor, poses: torch.Tensor) -> dict[str, torch.Tensor]:
        """Clips [B, 3, T, H, W] and poses [B, T, 4] to predictions, one for each clip."""
        return _split(self.head(self.features(clips, poses).mean(dim=1)), LOOK)


class ClutterReader(nn.Module):
    """Predicts the kinds of clutter in a clip, by convolutions over whole frames, averaged over time. It shares no
    weights with the rest of the probe, and its weights have a separate file, so that it can be trained alone.
    """

    FILE, CELLS = "clutter.safetensors", 36

    def __init__(self) -> None:
        super().__init__()
        layers = [_layer(3, 24, 3, 2), _layer(24, 48, 3, 2), _layer(48, 64, 3, 2), _layer(64, 64, 3, 1)]
        self.net = nn.Sequential(*itertools.chain(*layers))
        self.head = nn.Linear(64 * self.CELLS, len(CLUTTER))

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """[B, 3, T, 48, 48] in -1..1 to logits [B, 3], in the order of `CLUTTER`."""
        features = self.net(clips.transpose(1, 2).flatten(0, 1)).flatten(1)
        return self.head(features.view(len(clips), -1, features.shape[1]).mean(dim=1))

    def save(self, folder: Path) -> None:
        """Writes the weights, in half precision, to the folder of a probe."""
        with replacing(folder / self.FILE) as unfinished:
            save_file(copy.deepcopy(self).half().state_dict(), unfinished)


def settle(rough: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Exact poses [..., 4] from rough ones [..., 4] and the outputs of `Turn` [..., 5]; angles in -pi..pi."""
    centre = rough[..., :2] + rough[..., 2:3] * _rotated(turns[..., :2], rough[..., 3])
    size = rough[..., 2] * torch.exp(turns[..., 2])
    angle = torch.remainder(rough[..., 3] + torch.atan2(turns[..., 4], turns[..., 3]) + torch.pi, 2 * torch.pi)
    return torch.cat([centre, torch.stack([size, angle - torch.pi], dim=-1)], dim=-1)


def turns_of(rough: torch.Tensor, poses: torch.Tensor) -> torch.Tensor:
    """The inverse of `settle`: the target of `Turn` for rough poses, given the exact ones."""
    shift = _rotated((poses[..., :2] - rough[..., :2]) / rough[..., 2:3], -rough[..., 3])
    growth, missing = torch.log(poses[..., 2] / rough[..., 2]), poses[..., 3] - rough[..., 3]
    return torch.cat([shift, torch.stack([growth, missing.cos(), missing.sin()], dim=-1)], dim=-1)


def _rotated(points: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    x, y = points.unbind(dim=-1)
    return torch.stack([angle.cos() * x - angle.sin() * y, angle.sin() * x + angle.cos() * y], dim=-1)


class Probe(nn.Module):
    """The whole probe, about 0.7 M parameters. Convolutions over frames, with attention that follows the subject,
    predict its rough place, its motion and the backdrop. A crop around that place gives its exact pose, and an upright
    crop its look. A separate network predicts clutter.
    """

    GRID = 6
    grid: torch.Tensor

    def __init__(self, width: int = 64):
        super().__init__()
        half, quarter = width // 2, width // 4
        self.stem = nn.Sequential(
            *_layer(3, quarter, 4, 2),
            *_layer(quarter, half, 3, 2),
            *_layer(half, half, 3, 1),
            *_layer(half, width, 3, 2),
        )
        self.blocks = nn.Sequential(Residual(width), Residual(width))
        self.find = nn.Linear(width, 1)
        self.frame = nn.Sequential(nn.Linear(width + 2, 96), nn.GELU())
        self.place = nn.Linear(96, 3)
        self.trace = nn.Linear(96, 24)
        self.motion = nn.Sequential(nn.Linear(96 + 27 * NUM_FRAMES, 128), nn.GELU(), nn.Linear(128, _size(MOTION)))
        self.plan = nn.Linear(width, 12)
        self.backdrop = nn.Sequential(
            nn.Linear(width + 12 * self.GRID**2, 128), nn.GELU(), nn.Linear(128, _size(BACKDROP))
        )
        self.turn, self.look, self.clutter = Turn(), Look(), ClutterReader()
        axis = (torch.arange(self.GRID) + 0.5) / self.GRID - 0.5
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).view(-1, 2)
        self.register_buffer("grid", grid, persistent=False)

    def forward(self, clips: torch.Tensor) -> dict[str, torch.Tensor]:
        """[B, 3, 9, 48, 48] in -1..1 to logits by role, points [B, 2] by hue, levels [B], `poses` [B, 9, 4]
        and logits of `clutter` [B, 3].
        """
        answers = self.story(clips)
        rough = from_scale(answers["places"])
        poses = settle(rough, self.turn(clips, rough))
        return answers | self.look(clips, poses) | {"poses": poses, "clutter": self.clutter(clips)}

    def story(self, clips: torch.Tensor) -> dict[str, torch.Tensor]:
        """The subject's rough places, `places` [B, 9, 3] at unit scale; words of the motion; the backdrop."""
        b, _, t, _, _ = clips.shape
        features = self.blocks(self.stem(clips.transpose(1, 2).flatten(0, 1)).unflatten(0, (b, t)))
        cells = features.flatten(3).transpose(2, 3)  # [B, T, 36, C]
        focus = self.find(cells).softmax(dim=2)
        seen = self.frame((focus * torch.cat([cells, 4 * self.grid.expand(b, t, -1, -1)], dim=-1)).sum(dim=2))
        places = self.place(seen)
        course = torch.cat([seen.mean(dim=1), self.trace(seen).flatten(1), places.flatten(1)], dim=1)
        # The median over time removes a moving subject.
        scenery = cells.median(dim=1).values
        view = torch.cat([scenery.mean(dim=1), self.plan(scenery).flatten(1)], dim=1)
        return _split(self.motion(course), MOTION) | _split(self.backdrop(view), BACKDROP) | {"places": places}

    @torch.no_grad()
    def read(self, clips: np.ndarray) -> list[Reading]:
        """Reads uint8 clips [B, T, H, W, 3] of any length and size; frames are picked evenly, stills repeated."""
        device = self.grid.device
        outputs = {key: value.float().cpu() for key, value in self(prepare(clips).to(device)).items()}
        return [_reading({key: value[i] for key, value in outputs.items()}) for i in range(len(clips))]

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        weights = copy.deepcopy(self).half().state_dict()
        own = {key: value for key, value in weights.items() if not key.startswith("clutter.")}
        save_file(own, folder / "model.safetensors")
        self.clutter.save(folder)
        config = {"width": self.find.in_features, "num_frames": NUM_FRAMES, "size": SIZE}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def open(cls, folder: Path | str, device: str | torch.device = "cpu") -> Probe:
        """Opens a folder of `save`, ready to read."""
        probe = cls(json.loads((Path(folder) / "config.json").read_text())["width"])
        clutter = load_file(Path(folder) / ClutterReader.FILE)
        own = load_file(Path(folder) / "model.safetensors")
        probe.load_state_dict(own | {f"clutter.{key}": value for key, value in clutter.items()})
        return probe.eval().to(device)


def _layer(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


def _sizes(answers: Answers) -> dict[str, int]:
    words, hues, levels = answers
    return {role: len(choices) for role, choices in words.items()} | dict.fromkeys(hues, 2) | dict.fromkeys(levels, 1)


def _size(answers: Answers) -> int:
    return sum(_sizes(answers).values())


def _split(flat: torch.Tensor, answers: Answers) -> dict[str, torch.Tensor]:
    """A head's output [B, N], split by name."""
    sizes = _sizes(answers)
    parts = dict(zip(sizes, flat.split(list(sizes.values()), dim=1), strict=True))
    return parts | {name: parts[name].squeeze(1) for name in answers[2]}


def prepare(clips: np.ndarray) -> torch.Tensor:
    """uint8 [B, T, H, W, 3] to the probe's input, float32 [B, 3, 9, 48, 48] in -1..1."""
    picked = np.linspace(0, clips.shape[1] - 1, NUM_FRAMES).round().astype(int)
    frames = torch.from_numpy(np.ascontiguousarray(clips[:, picked])).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    if frames.shape[-2:] != (SIZE, SIZE):
        frames = F.interpolate(frames, (NUM_FRAMES, SIZE, SIZE), mode="area")
    return frames


def to_scale(poses: torch.Tensor) -> torch.Tensor:
    """Centre and size of poses [..., 4] at unit scale [..., 3]."""
    centre, size = (poses[..., :2] - CENTRE) / SPREAD, torch.log(poses[..., 2:3] / TYPICAL_SIZE) / SIZE_SPREAD
    return torch.cat([centre, size], dim=-1)


def from_scale(places: torch.Tensor) -> torch.Tensor:
    """Rough poses [..., 4] from places [..., 3], the inverse of `to_scale`; the angle is 0."""
    centre, size = CENTRE + SPREAD * places[..., :2], TYPICAL_SIZE * torch.exp(SIZE_SPREAD * places[..., 2:])
    return F.pad(torch.cat([centre, size], dim=-1), (0, 1))


def _reading(output: dict[str, torch.Tensor]) -> Reading:
    words = {
        role: dict(zip(choices, output[role].softmax(dim=0).tolist(), strict=True)) for role, choices in WORDS.items()
    }
    points = {name: output[name].tolist() for name in HUES}
    hues = {name: float(np.arctan2(sine, cosine) / (2 * np.pi)) % 1.0 for name, (cosine, sine) in points.items()}
    levels = {name: float(output[name].clamp(0, 1)) for name in LEVELS}
    clutter: dict[str, float] = dict(zip(CLUTTER, output["clutter"].sigmoid().tolist(), strict=True))
    return Reading(words, hues | levels, output["poses"].numpy(), clutter)
