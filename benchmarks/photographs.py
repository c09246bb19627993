"""Do several photographs of one subject, or a mask, help its binder? On the Toybox, against one photograph without.

    uv run python benchmarks/photographs.py [--subjects 20] [--photographs 4] [--trainings 2] [--seeds 2]

One photograph of each subject is rendered, and further ones in other scenes. A binder learns from one or from all of
them, without masks or with those of the subject. Then the subject's word alone is bound, in sentences that otherwise
name what the first photograph does not show (`bico.analysis.binding.trials`), and the probe reads the clips. Writes a
row a clip to `results/photographs.csv`, and prints how much each way gains on one photograph, with 95 % intervals over
subjects:

* subject: how well the clip shows this very subject, 0 to 100.
* words: how well it shows the other words of its prompt, 0 to 100. It falls where the photographs' scenes come along.

160 trainings and 1,280 clips: about 25 minutes of an idle core, reckoned with the figures of `bico estimate`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from bico import api
from bico.analysis.binding import trials
from bico.config.reading import load
from bico.config.schema import Config
from bico.core.errors import exit_code
from bico.core.saving import save_csv
from bico.report.statistics import interval
from bico.scoring.truth import open_probe
from bico.toybox.captions import caption
from bico.toybox.probe import Probe
from bico.toybox.render import masks, render
from bico.toybox.scenes import scene_of
from bico.toybox.words import SCENES, SUBJECTS
from bico.toybox.world import Scene, sample_scene

SEED = 9100
"""Of the first subject; no other scene of the project has one of these."""
WAYS = {"one": (False, False), "one, mask": (False, True), "all": (True, False), "all, masks": (True, True)}
"""Name -> whether a binder learns from all photographs, and whether with masks."""


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("config/toybox.yaml"))
    parser.add_argument("--subjects", type=int, default=20)
    parser.add_argument("--photographs", type=int, default=4, help="of a subject, the first one included")
    parser.add_argument("--trainings", type=int, default=2, help="of each way")
    parser.add_argument("--seeds", type=int, default=2, help="clips of a sentence")
    options = parser.parse_args()
    config = with_subjects(load(options.config), options.subjects)
    probe = open_probe(config)
    backbone = api.open_backbone(
        config.models.wan,
        text_slots=config.text_slots,
        device=config.device,
        dtype=config.dtype,
        compiles=config.compile,
    )
    rows: list[dict[str, object]] = []
    for number, source in enumerate(config.sources, start=1):
        scenes = photographs(scene_of(config.sources[source]), options.photographs, seed=number)
        for way, (several, masked) in WAYS.items():
            for training in range(options.trainings):
                seen = scenes if several else scenes[:1]
                binder = learned(config, backbone, seen, source, masked=masked, seed=training)
                seeds = range(training * options.seeds, (training + 1) * options.seeds)
                found = measured(config, backbone, probe, source, binder, seeds)
                rows += [{"source": source, "way": way, "training": training} | each for each in found]
        print(f"{source}: {number} of {len(config.sources)}", file=sys.stderr)
        save_csv(config.results / "photographs.csv", pd.DataFrame(rows))
    print(report(config, pd.DataFrame(rows)))


def with_subjects(config: Config, count: int) -> Config:
    """The config with so many images of the Toybox as sources, subjects and scenes in turns."""
    scenes = {
        f"{SUBJECTS[number % len(SUBJECTS)]}_{number}": {
            "seed": SEED + number,
            "subject": SUBJECTS[number % len(SUBJECTS)],
            "scene": SCENES[number % len(SCENES)],
        }
        for number in range(count)
    }
    own = {
        "sources": {name: {"kind": "image", "scene": scene} for name, scene in scenes.items()},
        "cases": {
            name: {"prompt": scene["subject"], "bind": {name: [scene["subject"]]}} for name, scene in scenes.items()
        },
    }
    kept = config.model_dump(mode="json", exclude={*own, "tables", "curves", "applications", "controls", "tuning"})
    return load(kept | own)


def photographs(first: Scene, count: int, *, seed: int) -> list[Scene]:
    """The scene, and its subject in others, each time in another place."""
    scenes = [first]
    for number in range(1, count):
        drawn = sample_scene(np.random.default_rng([SEED, seed, number]), moving=False)
        actor = replace(first.actors[0], x=drawn.actors[0].x, y=drawn.actors[0].y)
        scenes.append(replace(drawn, actors=(actor,)))
    return scenes


def learned(
    config: Config, backbone: api.Backbone, scenes: list[Scene], source: str, *, masked: bool, seed: int
) -> api.LearnedBinder:
    """A binder of photographs of these scenes; the captions are divided among them, and hold the subject's word."""
    size, word = config.media.height, scenes[0].actors[0].word
    photos = [render(scene, 1, size) for scene in scenes]
    rng = np.random.default_rng([SEED, seed])
    numbers = sorted(number % len(scenes) for number in range(config.concepts.captions))
    captions = [caption(scenes[number], rng, motion=False, detail=0) for number in numbers]
    found = api.own_captions(photos, captions, spatial=[word], caption_photos=numbers if len(scenes) > 1 else ())
    of_subject = [masks(scene, 1, size)[0, 0] for scene in scenes] if masked else []
    settings, shift = cast(api.Settings, config.methods["bico"]), config.learning_shift
    return api.learn_binder(
        backbone, photos, found, masks=of_subject, settings=settings, shift=shift, seed=seed, source=source
    )


def measured(
    config: Config, backbone: api.Backbone, probe: Probe, source: str, binder: api.LearnedBinder, seeds: range
) -> Iterator[dict[str, object]]:
    """Of each clip whose subject is bound: seed, sentence, and the two values, 0 to 100."""
    for trial in (trial for trial in trials(config, source) if trial.role == "subject"):
        for seed in seeds:
            bind = {binder: trial.case.bind[source]}
            clip = api.compose(
                backbone, trial.case.prompt, bind, seed=seed, sampling=config.sampling, media=config.media
            )
            values = trial.values(probe.read(clip[None])[0])
            others = [value for role, value in values.items() if role != "subject"]
            scores: dict[str, object] = {"subject": 100 * values["subject"], "words": 100 * float(np.mean(others))}
            yield {"seed": seed, "prompt": trial.case.prompt} | scores


def report(config: Config, table: pd.DataFrame) -> str:
    """Of each way its mean scores, and what they gain on one photograph without a mask."""
    lines = []
    for way in WAYS:
        line: dict[str, object] = {"way": way}
        for score in ("subject", "words"):
            means = table.pivot_table(values=score, index="source", columns="way")
            here, one = means[way].to_numpy(), means["one"].to_numpy()
            gain, low, high = interval(here - one, resamples=config.scoring.bootstrap, seed=config.scoring.seed)
            line |= {score: f"{here.mean():.1f}", f"{score} gains": f"{gain:+.1f} [{low:+.1f}, {high:+.1f}]"}
        lines.append(line)
    return pd.DataFrame(lines).to_string(index=False)


if __name__ == "__main__":
    sys.exit(exit_code(main))
