"""What the absorption token absorbs: attention maps of bound words and of the token, with it and without. Toybox only.

BiCo's claim (Diversify-and-Absorb Mechanism) is that details which no key word names go into the absorption token, and
not into the key words. So with the token a key word should attend to its own subject as much as before, and the token
to things that no word names, such as clutter. The cross-attention maps of the source's own clip are compared with known
masks.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import cast

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from bico.config.schema import Config
from bico.core.errors import InputError
from bico.core.saving import save_csv
from bico.media.reading import read_media
from bico.methods.bico.absorption import with_absorption
from bico.methods.bico.artifact import LearnedBinder
from bico.methods.bico.settings import Settings
from bico.models.binder_form import ABSORPTION
from bico.models.wan.attention_maps import word_maps
from bico.models.wan.backbone import Backbone
from bico.plan.absorption import compared_rows
from bico.plan.passes import MAP_CAPTIONS
from bico.plan.trainings import artifact_path, toybox_items
from bico.report.names import counted, scope
from bico.report.style import GREY, INK, save_pair, styled
from bico.sources.encoding import EncodedSource
from bico.toybox.render import masks, render
from bico.toybox.scenes import scene_of, toy_scene
from bico.toybox.world import Scene

WORD, TOKEN = "subject's word", "absorption token"
DRAWN = 4
"""Number of sources in the figure, those with clutter first."""
CLUTTER_SHOWS = 24
"""Smallest change of a pixel, in 0..255, at which clutter counts as visible there."""

Maps = dict[str, Tensor]


def absorption(config: Config, backbone: Backbone) -> pd.DataFrame:
    """Compares the paper's full model with the one without absorption token, on every source of the Toybox.

    Writes `results/absorption.csv` and draws `results/figures/absorption.png` and `.pdf`. Columns: source, row
    ("unbound" for the plain prompt, or one of `config.methods`), word ("subject's word" or "absorption token"), and the
    density of its attention on the subject, on clutter and elsewhere, relative to the whole frame (1 = uniform; empty
    where a source has no clutter).
    """
    rows, maps = [], {}
    for source in toybox_items(config, with_and_without(config)[0]):
        scene = scene_of(config.sources[source])
        encoded = EncodedSource.load(config.paths.encoded(source))
        maps[source] = source_maps(config, backbone, source, encoded, scene.actors[0].word)
        frames, height, width = encoded.latents.shape[1:]
        areas = regions(scene, (frames, height, width))
        for (row, word), looks in maps[source].items():
            rows.append({"source": source, "row": row or "unbound", "word": word} | density(looks, areas))
    table = pd.DataFrame(rows)
    save_csv(config.paths.table("absorption"), table)
    shown = sorted(maps, key=lambda source: not toy_scene(config.sources[source]).clutter)[:DRAWN]
    with styled(map(config.label, with_and_without(config))):
        figure = maps_figure(config, {source: maps[source] for source in shown})
        save_pair(figure, config.paths.figure("absorption"))
    return table


def with_and_without(config: Config) -> tuple[str, str]:
    """The rows that are compared: with the absorption token, and without.

    Raises InputError if the config lacks one of them.
    """
    rows = compared_rows(config)
    if rows is None:
        raise InputError("tables.table2: this compares the rows beside the paper's rows 5 and 7: expected both")
    return rows


@torch.no_grad()
def source_maps(
    config: Config, backbone: Backbone, source: str, encoded: EncodedSource, subject: str
) -> dict[tuple[str | None, str], Tensor]:
    """(row, word) -> attention of the word on the source's own clip [t, h, w], mean over its first captions.

    Row None is the plain prompt. All rows use the same captions, with all words bound as in training, and their first
    training.
    """
    number = 1 + encoded.spatial.index(subject) if subject in encoded.spatial else None
    seed, rows = config.learning_seeds[0], with_and_without(config)
    learned = {row: LearnedBinder.load(artifact_path(config, row, source, seed)) for row in rows}
    binders = {row: binder.on(backbone).to(backbone.device) for row, binder in learned.items()}
    taken: dict[tuple[str | None, str], list[Tensor]] = {}
    for caption in range(min(MAP_CAPTIONS, len(encoded.prompt_embeds))):
        one = slice(caption, caption + 1)
        context = backbone.context(encoded.prompt_embeds[one]).float()
        slots = {WORD: _where(encoded.key_slots[caption] == number)} if number else {}
        for row in (None, *learned):
            contexts, here = [context] * backbone.num_blocks, slots
            if row is not None:
                settings, counts = cast(Settings, config.methods[row]).absorption, encoded.token_counts[one]
                token = learned[row].tensors[ABSORPTION].to(context.device)
                _, words = with_absorption(context, counts, token[:0], settings)
                placed, mask = with_absorption(context, counts, token, settings)
                contexts = binders[row](placed, mask)
                here = slots | ({TOKEN: _where(mask[0] & ~words[0])} if len(token) else {})
            for word, looks in word_maps(backbone, encoded.latents, contexts, here).items():
                taken.setdefault((row, word), []).append(looks)
    return {key: torch.stack(looks).mean(dim=0) for key, looks in taken.items()}


def _where(slots: Tensor) -> list[int]:
    return torch.nonzero(slots)[:, 0].tolist()


def regions(scene: Scene, grid: tuple[int, int, int]) -> Maps:
    """Share of each latent cell [t, h, w] that the subject, clutter and everything else cover."""
    num_frames = grid[0]
    seen = render(scene, num_frames).astype(int) - render(replace(scene, clutter=()), num_frames)
    subject = masks(scene, num_frames)[0]
    clutter = (np.abs(seen).max(axis=-1) > CLUTTER_SHOWS) & ~subject
    covered = {"subject": subject, "clutter": clutter, "elsewhere": ~(subject | clutter)}
    return {
        name: F.adaptive_avg_pool3d(torch.from_numpy(mask).float()[None], grid)[0] for name, mask in covered.items()
    }


def density(looks: Tensor, areas: Maps) -> dict[str, float]:
    """Mean of a map within each area over its mean over all; NaN for an area that is empty."""
    return {
        name: ((looks * area).sum() / area.sum() / looks.mean()).item() if area.any() else np.nan
        for name, area in areas.items()
    }


def maps_figure(config: Config, maps: dict[str, dict[tuple[str | None, str], Tensor]]) -> Figure:
    """A row for each source: its middle frame, then every map on top of it, brighter where attention is higher."""
    columns = list(dict.fromkeys(chain.from_iterable(maps.values())))
    figure = Figure(figsize=(1.7 * (1 + len(columns)), 0.7 + 1.75 * len(maps)), dpi=120, layout="constrained")
    shown = f"{counted(len(maps), 'source')} of {len(config.sources)}, training seed {config.learning_seeds[0]}"
    figure.suptitle(f"{scope(config)}; here {shown}", x=0.01, ha="left", fontsize=8, color=GREY)
    grid = figure.subplots(len(maps), 1 + len(columns), squeeze=False)
    for panels, (source, looks) in zip(grid, maps.items(), strict=True):
        frames = read_media(config.media_path(source), **dict(config.media))
        frame = frames[len(frames) // 2]
        panels[0].imshow(frame)
        panels[0].set_title(source.replace("_", " "), fontsize=8, color=INK)
        for axes, (row, word) in zip(panels[1:], columns, strict=True):
            if (row, word) in looks:
                here = looks[row, word][looks[row, word].shape[0] // 2]
                here = F.interpolate(here[None, None], frame.shape[:2], mode="bilinear")[0, 0]
                axes.imshow(frame.mean(axis=-1), cmap="gray", alpha=0.5)
                axes.imshow(here, cmap="viridis", alpha=0.7, vmin=0)
                label = "plain prompt" if row is None else config.label(row)
                axes.set_title(f"{label}:\n{word}", fontsize=8, color=INK)
        for axes in panels:
            axes.axis("off")
    return figure
