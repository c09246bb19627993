"""Does binding work, and does it leak? (Toybox only)

Two measurements of what a method has learned from each source, both compared with the plain prompt with the same seeds:

* reconstruction: all words of a source are bound, in a prompt that describes exactly the source. The measure is the
  gain in PSNR.
* the leak test: only one role is bound, among words that the source does not show. This role should match the source
  better. The probe should recognise the words of the other roles as before. For instance, a subject that brings along
  the scene of its source leaks.

Exact renderings are measured in the same way (method "truth") and show the gain that can be expected. No word defines
the layout, so a reconstruction with the right looks still has other pixels. A role that the plain word already shows
well can gain little.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd

from bico.analysis.one_source import of_one_source
from bico.config.benchmark import Case
from bico.config.schema import Config
from bico.config.settings import Media
from bico.core.records import load_json
from bico.core.saving import save_csv, save_json
from bico.core.tables import read_table
from bico.media.reading import read_media
from bico.models.wan.backbone import Backbone
from bico.plan.binding import CONTEXTS
from bico.plan.trainings import toybox_items
from bico.report.statistics import bootstrap, case_interval, named
from bico.scoring import truth
from bico.scoring.results import TRUTH
from bico.toybox.captions import sentence
from bico.toybox.probe import Probe, Reading
from bico.toybox.render import render
from bico.toybox.scenes import scene_of, source_frames, toy_scene
from bico.toybox.words import MOTIONS, ROLES, SCENES, SUBJECTS
from bico.toybox.world import Scene, compose, sample_scene

LAYOUTS = 20
"""Number of random layouts for each seed."""
MAIN_ROLES = {"subject": SUBJECTS, "scene": SCENES, "motion": MOTIONS}


@dataclass(frozen=True)
class Trial:
    """A test in which only one role of a source is bound.

    Attributes:
        words: role -> word, all words of the prompt.
        target: the scene that the clip should show, except for what the prompt does not determine.
    """

    source: str
    role: str
    words: dict[str, str]
    target: Scene

    @property
    def case(self) -> Case:
        return Case(prompt=sentence(self.words), bind={self.source: [self.words[self.role]]})

    def values(self, reading: Reading) -> dict[str, float]:
        """role -> how well the clip shows it, in 0..1: the bound role compared with its source, others with words."""
        asked = truth.Truth(self.target, frozenset({self.role}), {}, frozenset({self.source}))
        own = truth.motion(reading, asked) if self.role == "motion" else truth.concept(reading, asked)
        others = {role: reading.words[role][word] for role, word in self.words.items() if role != self.role}
        return {self.role: own} | others


def unbound(config: Config, backbone: Backbone) -> None:
    """Measures the plain prompt on all sources of the Toybox, for all rows: `results/binding/unbound.json`.

    It also measures exact renderings in the same way as `binding` measures a row: `results/binding/truth.csv`.
    """
    probe = truth.open_probe(config)
    sources = _sources(config, TRUTH)
    values = {source: _measured(config, None, backbone, probe, source) for source in sources}
    rows = []
    for source, before in values.items():
        rows += compared(config, TRUTH, source, before, exact(config, probe, source))
    save_json(config.paths.unbound, {source: asdict(each) for source, each in values.items()})
    _write(config, TRUTH, rows)


def binding(config: Config, row: str, backbone: Backbone) -> pd.DataFrame:
    """Measures what one row of the table has learned, and writes it to `results/binding/<row>.csv`.

    Columns: method, source, kind, bound (a role, or "everything"), measured (a role, or "psnr" in dB), clips, unbound,
    bound_value, gain and its 95 % interval (bootstrap over clips; none below five).
    """
    probe, rows = truth.open_probe(config), []
    plain = load_json(config.paths.unbound)
    for source in _sources(config, row):
        before, after = Measured(**plain[source]), _measured(config, row, backbone, probe, source)
        rows += compared(config, row, source, before, after)
    return _write(config, row, rows)


def collect(config: Config) -> pd.DataFrame:
    """`results/binding.csv`: exact renderings and all methods, each also with the mean over sources (source "all")."""
    rows = [row for row in config.table("table1") if config.methods[row].LEARNS_PER == "source"]
    by, parts = ("method", "source", "bound", "measured"), []
    types = dict.fromkeys((*by, "kind"), str) | {"clips": int}
    for row in [TRUTH, *rows]:
        sources = _sources(config, row)
        expected = [(row, source, *pair) for source in sources for pair in measurements(config, source)]
        table = read_table(config.paths.binding(row), types, by=by, expected=expected)
        parts.append(table)
        for (bound, measured), group in table.groupby(["bound", "measured"], sort=False):
            means = group[["unbound", "bound_value"]].mean().to_dict()
            gain = _gain(config, group["gain"].to_numpy())
            labels = {"method": row, "source": "all", "kind": "all", "bound": bound, "measured": measured}
            parts.append(pd.DataFrame([labels | {"clips": group["clips"].sum()} | means | gain]))
    table = pd.concat(parts, ignore_index=True)
    save_csv(config.paths.table("binding"), table)
    return table


# --- measuring ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """Measurements on the clips of one source.

    Attributes:
        psnr: PSNR of the reconstruction for each seed, in dB.
        values: `Trial.values` for each trial and seed, in the order of `trials`.
    """

    psnr: list[float]
    values: list[dict[str, float]]


def _measured(config: Config, row: str | None, backbone: Backbone, probe: Probe, source: str) -> Measured:
    """Measurements on a row's clips of a source; for None, on those of the plain prompt."""
    words, entry, media = scene_of(config.sources[source]).words(), config.sources[source], config.media
    whole = Case(prompt=sentence(words), bind={source: list(words.values())})
    own_media = media if entry.kind == "video" else media.model_copy(update={"num_frames": 1})
    own = read_media(config.media_path(source), **dict(own_media))
    planned = list(trials(config, source))
    readings = probe.read(np.stack(_clips(config, row, backbone, source, [each.case for each in planned], media)))
    takes = [trial for trial in planned for _ in config.seeds]
    return Measured(
        psnr=[psnr(clip, own) for clip in _clips(config, row, backbone, source, [whole], own_media)],
        values=[trial.values(reading) for trial, reading in zip(takes, readings, strict=True)],
    )


def exact(config: Config, probe: Probe, source: str) -> Measured:
    """The same measurements on exact renderings of a source.

    In the trials they show everything that is asked for. In the reconstruction they have the source's looks and motion
    but another layout.
    """
    scene, entry, media = scene_of(config.sources[source]), config.sources[source], config.media
    own = source_frames(entry, media)
    planned = list(trials(config, source))
    readings = probe.read(np.stack([render(each.target, media.num_frames, media.height) for each in planned]))
    values = [trial.values(reading) for trial, reading in zip(planned, readings, strict=True)]

    def elsewhere(seed: int) -> float:
        # The scene's seed alone would give the same scene.
        draw = np.random.default_rng([seed, toy_scene(entry).seed, 1])
        return float(np.mean([psnr(render(moved(scene, draw), len(own), media.height), own) for _ in range(LAYOUTS)]))

    return Measured([elsewhere(seed) for seed in config.seeds], [value for value in values for _ in config.seeds])


def moved(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with another layout: its subject and the things around it are in other places."""
    drawn = sample_scene(rng, scene=scene.backdrop.word)
    actor = replace(scene.actors[0], x=drawn.actors[0].x, y=drawn.actors[0].y)
    return replace(scene, actors=(actor,), backdrop=replace(scene.backdrop, layout=drawn.backdrop.layout))


def compared(config: Config, row: str, source: str, before: Measured, after: Measured) -> Iterator[dict[str, object]]:
    """The rows of one source: its reconstruction, then for every role bound alone the change of all roles."""
    yield _row(config, row, source, "everything", "psnr", before.psnr, after.psnr)
    takes = [trial for trial in trials(config, source) for _ in config.seeds]
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for trial, plain, bound in zip(takes, before.values, after.values, strict=True):
        for measured, value in plain.items():
            pairs.setdefault((trial.role, measured), []).append((value, bound[measured]))
    for (role, measured), values in pairs.items():
        yield _row(config, row, source, role, measured, *zip(*values, strict=True))


def _sources(config: Config, row: str) -> list[str]:
    """Toybox sources that a row has learned; all of them for exact renderings (row "truth")."""
    if row == TRUTH:
        return [name for name, entry in config.sources.items() if entry.scene]
    return toybox_items(config, row)


def measurements(config: Config, source: str) -> list[tuple[str, str]]:
    """(bound, measured) of each row that `compared` yields for a source."""
    pairs = [(trial.role, role) for trial in trials(config, source) for role in {trial.role: ""} | trial.words]
    return [("everything", "psnr"), *dict.fromkeys(pairs)]


def psnr(clip: np.ndarray, own: np.ndarray) -> float:
    """PSNR of uint8 frames of one shape, in dB."""
    return float(10 * np.log10(255**2 / np.square(clip.astype(float) - own).mean()))


# --- the leak test --------------------------------------------------------------------------------------------------


def trials(config: Config, source: str) -> Iterator[Trial]:
    """A trial for every role of a source and each of `CONTEXTS` sets of words that the source does not show."""
    scene, seed = scene_of(config.sources[source]), toy_scene(config.sources[source]).seed
    own = scene.words()
    for number, role in enumerate(own):
        for context in range(CONTEXTS):
            rng = np.random.default_rng([seed, number, context])
            words = {name: _other_word(known, own.get(name), rng) for name, known in MAIN_ROLES.items()}
            drawn = sample_scene(rng, subject=words["subject"], scene=words["scene"], motion=words["motion"])
            roles = dict.fromkeys(ROLES, drawn) | {role: scene}
            yield Trial(source, role, words | {role: own[role]}, compose(**roles))


def _other_word(known: tuple[str, ...], own: str | None, rng: np.random.Generator) -> str:
    return str(rng.choice([word for word in known if word != own]))


# --- shared ---------------------------------------------------------------------------------------------------------


def _clips(
    config: Config, row: str | None, backbone: Backbone, source: str, cases: list[Case], media: Media
) -> list[np.ndarray]:
    """Clips uint8 [T, H, W, 3] of each case and seed."""
    named = {str(place): case for place, case in enumerate(cases)}
    return [clip for _, clip in of_one_source(config, row, backbone, source, named, media)]


def _row(
    config: Config, row: str, source: str, bound: str, measured: str, before: Sequence[float], after: Sequence[float]
) -> dict[str, object]:
    labels = {"method": row, "source": source, "kind": config.sources[source].kind, "bound": bound}
    values = {"measured": measured, "clips": len(after), "unbound": np.mean(before), "bound_value": np.mean(after)}
    return {**labels, **values, **_gain(config, np.subtract(after, before))}


def _write(config: Config, row: str, rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    save_csv(config.paths.binding(row), table)
    return table


def _gain(config: Config, gains: np.ndarray) -> dict[str, float]:
    return named("gain", case_interval(gains, **bootstrap(config)))
