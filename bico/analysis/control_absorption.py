"""The control of absorption: does a row without absorption tokens transfer the clutter of its sources?

Every Toybox source is learned twice: as it is, and as a counterpart that is rendered from the same scene without its
clutter, or with added clutter (`bico.plan.counterparts`). Both are learned from the same captions. Then only the word
of the subject, or of the scene, is bound, in sentences whose other words the source does not show. The measure is the
probability of clutter. It is not `truth_clean`, which also falls when the scene or the subject leaks.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from bico.analysis.binding import trials
from bico.analysis.one_source import of_one_source
from bico.config.schema import Config
from bico.core.saving import save_csv
from bico.models.wan.backbone import Backbone
from bico.plan.controls import ROLES, SENTENCES
from bico.plan.counterparts import counterparts
from bico.scoring.truth import open_probe
from bico.toybox.scenes import scene_of


def clutter_in_clips(config: Config, backbone: Backbone) -> pd.DataFrame:
    """Writes `results/controls/absorption.csv` and returns it: a row per clip.

    Columns: case (the source), seed, bound (a role), sentence (its number), clutter (whether the source had any when it
    was learned), probability (of the kinds of clutter that the source or its counterpart shows, in 0..1, mean
    over the kinds, as the probe reads the clip).
    """
    probe, benchmark, found = open_probe(config), counterparts(config), []
    (row,) = benchmark.methods
    for source in benchmark.sources:
        learned = [(each, scene_of(each.sources[source]).clutter) for each in (config, benchmark)]
        kinds = {item.kind for _, clutter in learned for item in clutter}
        for each, clutter in learned:
            for labels, clip in _clips(each, row, backbone, source):
                read = probe.read(clip[None])[0].clutter
                probability = float(np.mean([read[kind] for kind in sorted(kinds)]))
                found.append(labels | {"clutter": bool(clutter), "probability": probability})
    table = pd.DataFrame(found)
    save_csv(config.paths.control("absorption"), table)
    return table


def _clips(config: Config, row: str, backbone: Backbone, source: str) -> Iterator[tuple[dict[str, object], np.ndarray]]:
    """Clips uint8 [T, H, W, 3] of each role, sentence and seed, each with its columns of the table."""
    tried = {role: [trial.case for trial in trials(config, source) if trial.role == role] for role in ROLES}
    labels = {f"{role} {place}": (role, place) for role in ROLES for place in range(SENTENCES)}
    cases = {name: tried[role][place] for name, (role, place) in labels.items()}
    for job, clip in of_one_source(config, row, backbone, source, cases, config.media):
        role, place = labels[job.case_id]
        yield {"case": source, "seed": job.seed, "bound": role, "sentence": place}, clip
