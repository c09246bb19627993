"""Decomposition and editing: clips made with the binder of one source only. Toybox only.

* decomposition: only the wanted words are bound. The clip should keep what they name, and lose the rest of the source.
* editing: a word of the source's own caption is swapped, all others stay bound. The clip should show the new word and
  keep the rest.

Each is compared with clips of the plain prompt with the same seeds, and drawn beside its exact rendering.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from bico.analysis.one_source import of_one_source
from bico.config.benchmark import Application
from bico.config.schema import Config
from bico.core.saving import save_csv
from bico.media.reading import read_media
from bico.media.writing import write_clip
from bico.models.wan.backbone import Backbone
from bico.plan.clips import as_case
from bico.plan.trainings import applying_rows
from bico.report.figures import Row, strip
from bico.report.names import TRUTH_LABEL, scope
from bico.report.statistics import bootstrap, case_interval, named
from bico.report.style import INK, PALETTE, save_pair, styled
from bico.scoring import truth
from bico.toybox.probe import Reading
from bico.toybox.render import render
from bico.toybox.scenes import composition, scene_of
from bico.toybox.words import names
from bico.toybox.world import Scene


def applications(config: Config, backbone: Backbone) -> pd.DataFrame:
    """Makes the clips `results/applications/<row>/<name>/<seed>.mp4`, draws `results/figures/applications/<name>.png`
    and `.pdf`, and writes the measurements to `results/applications.csv`.

    Columns: application, kind, method, measured ("kept"; "gone" for a decomposition, "changed" for an edit), clips,
    unbound and bound_value in 0..1, gain and its 95 % interval (bootstrap over clips; none below five).
    """
    probe, rows = truth.open_probe(config), []
    for name, entry in config.applications.items():
        # None is the plain prompt: any name could also be a row's.
        clips = {row: list(_clips(config, row, name, entry, backbone)) for row in (None, *applying_rows(config))}
        readings = {row: probe.read(np.stack(of_row)) for row, of_row in clips.items()}
        values = {row: [measure(config, entry, each) for each in of_row] for row, of_row in readings.items()}
        for row in applying_rows(config):
            for measured in values[row][0]:
                before, after = (np.array([each[measured] for each in values[of]]) for of in (None, row))
                rows.append(_row(config, name, entry, row, measured, before, after))
        _draw(config, name, entry, {row: of_row[0] for row, of_row in clips.items()})
    table = pd.DataFrame(rows)
    save_csv(config.paths.table("applications"), table)
    return table


def roles_kept(config: Config, entry: Application) -> set[str]:
    """Roles of the source whose words are bound."""
    bound = " / ".join(as_case(entry).bind[entry.source])
    words = scene_of(config.sources[entry.source]).words()
    return {role for role, word in words.items() if names(bound, word)}


def target(config: Config, entry: Application) -> Scene:
    """The scene that the clip should show. It stands still if no word names a motion."""
    prompt, kept = as_case(entry).prompt, roles_kept(config, entry)
    scene = composition(config, prompt, dict.fromkeys(kept, entry.source))
    return scene if "motion" in truth.asked_words(prompt, scene, frozenset(kept)) else scene.still()


def measure(config: Config, entry: Application, reading: Reading) -> dict[str, float]:
    """How much of the wanted part the clip keeps, and how much of the rest is gone or changed, in 0..1."""
    own, kept = scene_of(config.sources[entry.source]), roles_kept(config, entry)
    values = {"kept": _match(reading, target(config, entry), kept)}
    if entry.keep:
        return values | {"gone": 1 - _match(reading, own, set(own.words()) - kept)}
    asked, swapped_in = target(config, entry).words(), " / ".join((entry.swap or {}).values())
    new = [reading.words[role][word] for role, word in asked.items() if names(swapped_in, word)]
    return values | {"changed": float(np.mean(new))}


def _match(reading: Reading, scene: Scene, roles: set[str]) -> float:
    """How well a clip shows these roles of a scene, in 0..1."""
    asked = truth.Truth(scene, frozenset(roles), {}, frozenset())
    answers = [truth.concept(reading, asked), truth.motion(reading, asked) if "motion" in roles else np.nan]
    return float(np.nanmean(answers))


def _clips(config: Config, row: str | None, name: str, entry: Application, backbone: Backbone) -> Iterator[np.ndarray]:
    """Clips uint8 [T, H, W, 3] of all seeds; for None, those of the plain prompt. They are also written to files."""
    for job, clip in of_one_source(config, row, backbone, entry.source, {name: as_case(entry)}, config.media):
        write_clip(config.paths.application(row or "base", name, job.seed), clip, config.media.fps)
        yield clip


def _row(
    config: Config, name: str, entry: Application, row: str, measured: str, before: np.ndarray, after: np.ndarray
) -> dict[str, Any]:
    kind = "decomposition" if entry.keep else "editing"
    labels = {"application": name, "kind": kind, "method": row, "measured": measured, "clips": len(after)}
    means = {"unbound": before.mean(), "bound_value": after.mean()}
    return labels | means | named("gain", case_interval(after - before, **bootstrap(config)))


def _draw(config: Config, name: str, entry: Application, clips: dict[str | None, np.ndarray]) -> None:
    """Draws the source, the exact rendering, and the first clip of the plain prompt (None) and of each row."""
    media = config.media
    own = read_media(config.media_path(entry.source), **dict(media))
    shown = render(target(config, entry), num_frames=media.num_frames, size=media.height)
    words = ", ".join(f"{old} → {new}" for old, new in (entry.swap or {}).items())
    if entry.keep:
        words = f"keep {', '.join(entry.keep)}"
    rows: list[Row] = [(f"{entry.source.replace('_', ' ')}\n{words}", PALETTE[0], own), (TRUTH_LABEL, INK, shown)]
    rows += [("plain prompt" if row is None else config.label(row), INK, clip) for row, clip in clips.items()]
    title = f"“{as_case(entry).prompt}”"
    note = f"{scope(config)}; here application {name}, seed {config.seeds[0]}"
    with styled([title, *(label for label, _, _ in rows)]):
        save_pair(strip(title, note, rows, media), config.paths.figure(f"applications/{name}"))
