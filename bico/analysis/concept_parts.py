"""The parts of the concept score: which parts of a look a row keeps, and which it loses (Toybox only).

`truth_concept` is one number. This splits it into the parts that the probe compares: the subject's word, pattern, hues,
shape and size; the scene's word, sky and ground; the words and amounts of style and light.
"""

from __future__ import annotations

import pandas as pd

from bico.config.schema import Config
from bico.core.saving import save_csv
from bico.media.reading import read_written
from bico.report.statistics import row_interval
from bico.scoring.results import TRUTH, clip_statuses
from bico.scoring.truth import Truth, concept_parts, open_probe, read_truths
from bico.toybox.probe import Reading


def measure_parts(config: Config, rows: list[str]) -> pd.DataFrame:
    """Writes `results/concept_parts.csv` and returns it: for every part the exact renderings, then each table row.

    Columns: role, part, method, cases, match in 0..1 and its 95 % interval. The exact renderings show the highest match
    that can be reached, because the probe makes errors. A case without clips has no match and is not counted in
    `cases`.
    """
    probe = open_probe(config)
    truths, shown = read_truths(config, probe)
    found = [
        match
        for case_id in truths
        for seed in config.seeds  # all show the same
        for match in _matches(TRUTH, case_id, seed, shown[case_id], truths[case_id])
    ]
    for row in rows:
        for (case_id, seed), status in clip_statuses(config, row).items():
            if status == "ok" and case_id in truths:
                clip = read_written(config.paths.clip(row, case_id, seed), config.media)
                found += _matches(row, case_id, seed, probe.read(clip[None])[0], truths[case_id])
    matches = pd.DataFrame(found)
    lines = []
    for (role, part), of_part in matches.groupby(["role", "part"], sort=False):
        for row, group in of_part.groupby("method", sort=False):
            labels = {"role": role, "part": part, "method": row, "cases": group["case"].nunique()}
            lines.append(labels | row_interval(config, group, "match"))
    table = pd.DataFrame(lines)
    save_csv(config.paths.table("concept_parts"), table)
    return table


def _matches(row: str, case_id: str, seed: int, reading: Reading, truth: Truth) -> list[dict[str, object]]:
    """One entry for each part of a clip; none if only a motion is bound."""
    return [
        {"role": role, "part": part, "method": row, "case": case_id, "seed": seed, "match": match}
        for role, looks in concept_parts(reading, truth).items()
        for part, match in looks.items()
    ]
