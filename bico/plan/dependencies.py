"""Everything on which each result depends: for the params of the rules, and for the records beside files.

A function for each step returns the settings, models and code that it uses, and for each thing that it makes what only
that thing depends on. When any of them changes, the result is stale. So every setting that a step reads must be listed
here. Code is found from the step's module along its imports (`bico.core.fingerprints`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bico.config.methods import MethodSettings, module_of
from bico.config.schema import Config
from bico.config.scores import TRUTH_SCORES, ScoreSettings, columns_of, module_of_score, need_masks
from bico.core.fingerprints import PACKAGE, code_digest, file_digest, folder_digest
from bico.core.records import Record, digest_of
from bico.plan.clips import jobs
from bico.plan.counterparts import counterparts
from bico.plan.trainings import (
    applying_rows,
    artifact_path,
    learned_items,
    learning_seed,
    once,
    trainings_of_part,
    unsupported,
)
from bico.sources.weights import repositories

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Item:
    """One of the things that a step makes.

    Attributes:
        own: values on which only this thing depends.
        inputs: files from which it is made, by their roles.
    """

    own: Values = field(default_factory=dict)
    inputs: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Dependencies:
    """What a step depends on.

    Attributes:
        code: modules that it runs. What they import is followed.
        settings: values on which everything that it makes depends.
        models: entries of `models` in the config.
        pages: files of this package that are not code.
        items: the things that it makes, by name.
    """

    code: tuple[str, ...]
    settings: Values
    models: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()
    items: Mapping[str, Item] = field(default_factory=dict)

    def record(self, config: Config, name: str) -> Record:
        """The record beside the file of one thing: the values, and digests of files and models as they are now.

        Raises InputError if a file that an earlier step made is damaged.
        """
        inputs = {what: digest_of(path) for what, path in self.items[name].inputs.items()}
        return {**self.shared(config), **self.own(name), "inputs": inputs}

    def shared(self, config: Config) -> Record:
        """What the records of all things have in common."""
        models = {model: folder_digest(getattr(config.models, model)) for model in self.models}
        return _plain({"settings": self.settings, "models": models} | self._code())

    def own(self, name: str) -> Record:
        """What the record of one thing has besides, without the digests of files."""
        return _plain(self.items[name].own)

    def params(self, config: Config) -> str:
        """The same for a rule, as JSON, before any file exists.

        Models that are downloaded are inputs of the rule instead, and so are files that other rules make. A user's own
        files are identified by size and time. As inputs only a newer file would count as changed, and a copy may be
        older.
        """
        digests, own = _digests_of_models(config), own_files(config)
        inputs = [(name, *each) for name, item in self.items.items() for each in item.inputs.items()] if own else []
        values = {
            "settings": self.settings,
            "items": {name: item.own for name, item in self.items.items()},
            "models": {model: digests[model] for model in self.models},
            "files": {f"{name}: {what}": [str(file), *own[file]] for name, what, file in inputs if file in own},
        }
        return json.dumps(values | self._code(), sort_keys=True, default=_described)

    def _code(self) -> dict[str, Any]:
        return {"code": code_digest(*self.code), "pages": [file_digest(PACKAGE / page) for page in self.pages]}


@once
def _digests_of_models(config: Config) -> dict[str, str | None]:
    """Digests of all models that exist before a run; None for those that are downloaded."""
    fetched = repositories(config)
    return {
        model: folder_digest(folder) if folder and model not in fetched else None for model, folder in config.models
    }


@once
def own_files(config: Config) -> dict[Path, list[int]]:
    """A user's own files, each with its size and time: media and their masks, binders that were trained and clips that
    were made elsewhere, and answers of raters."""
    files = {file for entry in config.sources.values() for file in (*entry.own_files, *entry.own_masks)}
    files.update(entry.binder for entry in config.sources.values() if entry.binder)
    files.update(_answers(config))
    for settings in config.methods.values():
        files.update(
            file for case in config.cases for seed in config.seeds for file in settings.files(case, seed).values()
        )
    there = (file for file in files if not file.is_relative_to(config.authors_page) and file.exists())
    return {file: [file.stat().st_size, file.stat().st_mtime_ns] for file in there}


def _answers(config: Config) -> list[Path]:
    return sorted(config.paths.rating_answers.glob("*.csv"))


def _described(part: Any) -> Any:
    return part.model_dump(mode="json") if isinstance(part, BaseModel) else str(part)


def _plain(values: Any) -> Any:
    """The values as JSON reads them back."""
    return json.loads(json.dumps(values, default=_described))


def _texts(config: Config, rows: Iterable[str]) -> Values:
    """Values for texts about these rows: their labels, and what they cover."""
    counts = [len(config.cases), config.seeds, config.learning_seeds]
    labels = [[row, config.label(row), config.methods[row].CONTROL] for row in rows]
    return {"name": config.name, "counts": counts, "labels": labels, "order": list(config.cases)}


def _scenes(config: Config) -> Values:
    """source -> the scene that is rendered for it."""
    return {name: entry.scene for name, entry in config.sources.items() if entry.scene}


def _bound_media(config: Config, *, all_photographs: bool = False) -> dict[str, Item]:
    """The media of all sources that cases bind, for steps that read all of them. Of several photographs it is the
    first, or all."""
    starts, files = {}, {}
    for source in config.bound():
        starts[source] = config.sources[source].start
        paths = config.media_paths(source)
        files |= _numbered(source, paths if all_photographs else paths[:1])
    return {"": Item({"starts": starts}, files)}


def _numbered(name: str, paths: Iterable[Path]) -> dict[str, Path]:
    """Files as inputs of an item: "<name>", "<name> 2", "<name> 3" and so on."""
    return {name if number == 1 else f"{name} {number}": path for number, path in enumerate(paths, start=1)}


# --- sources --------------------------------------------------------------------------------------------------------


def render(config: Config, source: str) -> Dependencies:
    entry = config.sources[source]
    return Dependencies(
        code=("bico.toybox.scenes",), settings={"kind": entry.kind, "scene": entry.scene, "media": config.media}
    )


def truth(config: Config) -> Dependencies:
    cases = {case: [config.cases[case].prompt, config.cases[case].truth] for case in config.truths}
    settings = {"scenes": _scenes(config), "cases": cases, "media": config.media}
    return Dependencies(code=("bico.toybox.scenes",), settings=settings)


def concepts(config: Config) -> Dependencies:
    return Dependencies(
        code=("bico.pipeline.concepts",),
        settings={"concepts": config.concepts, "media": config.media},
        models=("vlm",),
        items={
            source: Item(
                {"kind": entry.kind, "concepts": entry.concepts, "start": entry.start},
                _numbered("media", config.media_paths(source)),
            )
            for source, entry in config.sources.items()
        },
    )


def coverage(config: Config) -> Dependencies:
    settings = {"cases": {case: entry.bind for case, entry in config.cases.items()}}
    return Dependencies(code=("bico.sources.coverage",), settings=settings)


def encode(config: Config, dtype: str) -> Dependencies:
    """`dtype` is that of the frozen models: for a rule as in the config, for a record as on this machine."""
    return Dependencies(
        code=("bico.pipeline.encode",),
        settings={"media": config.media, "text_slots": config.text_slots, "dtype": dtype},
        models=("wan",),
        items={
            source: Item(
                {"start": entry.start},
                {
                    **_numbered("media", config.media_paths(source)),
                    **_numbered("mask", entry.own_masks),
                    "concepts": config.paths.concepts(source),
                },
            )
            for source, entry in config.sources.items()
        },
    )


def appearance_model(config: Config) -> str:
    """The entry of `models` that embeds frames for the methods that learn from these embeddings."""
    return "appearance" if config.models.appearance else "clip"


def appearance(config: Config) -> Dependencies:
    return Dependencies(
        code=("bico.pipeline.appearance",),
        settings={"media": config.media},
        models=(appearance_model(config),),
        items={
            source: Item({"start": entry.start}, _numbered("media", config.media_paths(source)))
            for source, entry in config.sources.items()
        },
    )


# --- methods --------------------------------------------------------------------------------------------------------


def learn(config: Config, row: str, part: int, dtype: str) -> Dependencies:
    """What the trainings of one job depend on; for `dtype` see `encode`."""
    settings, sources = config.methods[row], learned_items(config, row)

    def inputs(item: str) -> dict[str, Path]:
        files = {f"encoded {source}": config.paths.encoded(source) for source in sources[item]}
        if settings.APPEARANCE:
            files |= {f"appearance {source}": config.paths.appearance(source) for source in sources[item]}
        return files

    return Dependencies(
        code=("bico.pipeline.learn", module_of(settings.method, "learn")),
        settings={
            "method": settings.learning(),
            "shift": config.learning_shift,
            "dtype": dtype,
            "compile": config.compile,
            "text_slots": config.text_slots,
            # Artifacts from before this setting existed are float32, and stay valid.
            **({} if config.learned_dtype == "float32" else {"stored": config.learned_dtype}),
        },
        models=("wan",),
        items={
            f"{item} {seed}": Item({"sources": sources[item], "seed": seed}, inputs(item))
            for item, seed in trainings_of_part(config, row, part)
        },
    )


def generate(config: Config, row: str, dtype: str) -> Dependencies:
    """What the clips of a row depend on; for `dtype` see `encode`."""
    settings = config.methods[row]
    of_backbone = {"sampling": config.sampling, "text_slots": config.text_slots, "dtype": dtype}
    return Dependencies(
        code=("bico.pipeline.generate", module_of(settings.method, "compose")),
        settings={
            "method": settings.effective(),
            "media": config.media,
            **(of_backbone if settings.OPENS_BACKBONE else {}),
        },
        models=("wan",) if settings.OPENS_BACKBONE else (),
        items={
            f"{job.case_id} {job.seed}": Item(
                {
                    "prompt": job.case.prompt,
                    "bind": job.case.bind,
                    "seed": job.seed,
                    "learning_seed": learning_seed(config, job.seed),
                    "unsupported": unsupported(config, row, job.case_id),
                    **({} if job.artifacts else {"starts": job.starts}),
                },
                {**(job.artifacts or job.media), **settings.files(job.case_id, job.seed)},
            )
            for job in jobs(config, row)
        },
    )


# --- analysis of what was learned -----------------------------------------------------------------------------------


def _clips_of_sources(config: Config) -> dict[str, Any]:
    """What clips of single sources, and the probe's readings of them, depend on."""
    return {
        "sampling": config.sampling,
        "media": config.media,
        "text_slots": config.text_slots,
        "dtype": config.dtype,
        "seeds": config.seeds,
        "learning_seeds": config.learning_seeds,
        **_bootstrap(config),
        "scenes": _scenes(config),
    }


def _bootstrap(config: Config) -> dict[str, Any]:
    return {"bootstrap": config.scoring.bootstrap, "bootstrap_seed": config.scoring.seed}


def _reported(config: Config, scores: Mapping[str, ScoreSettings]) -> dict[str, Any]:
    """What is printed and drawn of these scores depends on."""
    columns = columns_of(scores) | TRUTH_SCORES
    return {"columns": {name: asdict(column) for name, column in columns.items()}, **_bootstrap(config)}


def unbound(config: Config) -> Dependencies:
    code = ("bico.analysis.binding", module_of("base", "compose"))
    return Dependencies(code=code, settings=_clips_of_sources(config), models=("wan", "probe"))


def binding(config: Config, row: str) -> Dependencies:
    settings = config.methods[row]
    return Dependencies(
        code=("bico.analysis.binding", module_of(settings.method, "compose")),
        settings={"method": settings.effective(), **_clips_of_sources(config)},
        models=("wan", "probe"),
        items=_given(config, row, list(config.sources)),
    )


def _given(config: Config, row: str, sources: list[str]) -> dict[str, Item]:
    seeds = config.learning_seeds
    return {
        source: Item(inputs={str(seed): artifact_path(config, row, source, seed) for seed in seeds})
        for source in sources
        if config.methods[row].LEARNS_PER == "source"
    }


def binding_table(config: Config) -> Dependencies:
    settings = {"rows": list(config.table("table1")), **_bootstrap(config)}
    return Dependencies(code=("bico.analysis.binding",), settings=settings)


def applications(config: Config) -> Dependencies:
    rows = applying_rows(config)
    methods = ["base", *(config.methods[row].method for row in rows)]
    used = sorted({entry.source for entry in config.applications.values()})
    return Dependencies(
        code=("bico.analysis.applications", *(module_of(method, "compose") for method in methods)),
        settings={
            "applications": config.applications,
            "rows": {row: config.methods[row].effective() for row in rows},
            **_texts(config, rows),
            **_clips_of_sources(config),
        },
        models=("wan", "probe"),
        items={f"{row} {name}": item for row in rows for name, item in _given(config, row, used).items()},
    )


def absorption(config: Config, *rows: str) -> Dependencies:
    """`rows` are the two rows that are compared: with the absorption token, and without."""
    return Dependencies(
        code=("bico.analysis.absorption",),
        settings={"media": config.media, **_texts(config, rows), **_compared(config, rows)},
        models=("wan",),
    )


def control_diversification(config: Config) -> Dependencies:
    rows = config.controls.rows()["diversification"]
    return Dependencies(
        code=("bico.analysis.control_diversification",),
        settings={"shift": config.learning_shift, **_compared(config, rows)},
        models=("wan",),
    )


def _compared(config: Config, rows: Iterable[str]) -> dict[str, Any]:
    """What a comparison of two rows on the sources themselves, without clips, depends on."""
    return {
        "rows": {row: config.methods[row].effective() for row in rows},
        "text_slots": config.text_slots,
        "dtype": config.dtype,
        "learning_seeds": config.learning_seeds,
        "scenes": _scenes(config),
    }


def control_counterparts(config: Config) -> Dependencies:
    benchmark = counterparts(config)
    (row,) = benchmark.methods
    encoding, learning = encode(benchmark, config.dtype), learn(benchmark, row, 0, config.dtype)
    return Dependencies(
        code=("bico.pipeline.counterparts", *learning.code),
        settings={"scenes": _scenes(benchmark), **encoding.settings, **learning.settings},
        models=("wan",),
        items=learning.items,
    )


def control_absorption(config: Config) -> Dependencies:
    (row,) = config.controls.rows()["absorption"]
    settings = config.methods[row]
    return Dependencies(
        code=("bico.analysis.control_absorption", module_of(settings.method, "compose")),
        settings={"row": {row: settings.effective()}, **_clips_of_sources(config)},
        models=("wan", "probe"),
    )


def controls(config: Config) -> Dependencies:
    kinds = {case: [config.sources[source].kind for source in entry.bind] for case, entry in config.cases.items()}
    return Dependencies(
        code=("bico.analysis.controls",),
        settings={
            "controls": config.controls,
            **_reported(config, config.scoring.scores),
            "seeds": config.seeds,
            "learning_seeds": config.learning_seeds,
            "kinds": kinds,
            "truths": config.truths,
        },
    )


# --- scores ---------------------------------------------------------------------------------------------------------


def scoring_models(config: Config, scores: Mapping[str, ScoreSettings]) -> list[str]:
    """Entries of `models` that these scores open."""
    opened = {name for settings in scores.values() for name in settings.models()}
    return sorted(config.models.vqa_entry if name == "vqa" else name for name in opened)


def judging(config: Config, scores: Mapping[str, ScoreSettings]) -> dict[str, Any]:
    """What these scores depend on, besides their code and their models."""
    with_backbone = "wan" in scoring_models(config, scores)
    return {
        "scores": scores,
        "pooling": config.scoring.pooling,
        "dino_crop": config.scoring.dino_crop,
        "media": config.media,
        **({"text_slots": config.text_slots, "dtype": config.dtype} if with_backbone else {}),
    }


def _compositions(config: Config) -> dict[str, Any]:
    """What clips are compared with: what cases ask for, and what the scenes of their sources show besides."""
    return {"cases": config.cases, "scenes": _scenes(config)}


def _scoring(config: Config, code: str, scores: Mapping[str, ScoreSettings], **settings: Any) -> Dependencies:
    """What steps depend on that give clips these scores, and the truth scores."""
    media = _bound_media(config, all_photographs=True)
    masks = _bound_masks(config) if need_masks(scores) else {}
    return Dependencies(
        code=(code, *map(module_of_score, scores)),
        settings={**settings, **judging(config, scores), **_compositions(config)},
        models=(*scoring_models(config, scores), "probe"),
        items={**media, **masks},
    )


def _bound_masks(config: Config) -> dict[str, Item]:
    return {f"masks of {name}": Item({}, _numbered(name, config.sources[name].own_masks)) for name in config.bound()}


def calibrate(config: Config) -> Dependencies:
    return _scoring(config, "bico.scoring.scoring", config.scoring.scores, seeds=config.seeds)


def score(config: Config, row: str) -> Dependencies:
    reasons = {case: unsupported(config, row, case) for case in config.cases}
    return _scoring(config, "bico.scoring.scoring", config.scoring.scores, unsupported=reasons)


def doses(config: Config) -> Dependencies:
    return _scoring(config, "bico.analysis.doses", config.scoring.all)


def published(config: Config) -> Dependencies:
    scores = config.scoring.scores
    return Dependencies(
        code=("bico.scoring.published", *map(module_of_score, scores)),
        settings=judging(config, scores),
        models=tuple(scoring_models(config, scores)),
    )


def concept_parts(config: Config) -> Dependencies:
    return Dependencies(
        code=("bico.analysis.concept_parts",),
        settings={
            "rows": list(config.table("table1")),
            **_bootstrap(config),
            "media": config.media,
            "seeds": config.seeds,
            "learning_seeds": config.learning_seeds,
            "truth": {case: config.cases[case].truth for case in config.truths},
        },
        models=("probe",),
    )


# --- tables, figures and pages --------------------------------------------------------------------------------------

PAGES = "report/page.css", "report/page.js"  # parts of all pages


def table(config: Config, name: str) -> Dependencies:
    return Dependencies(
        code=("bico.report.tables",),
        settings={
            **_reported(config, config.scoring.scores),
            "seeds": config.seeds,
            "learning_seeds": config.learning_seeds,
            **_texts(config, config.table(name)),
            "rows": list(config.table(name).items()),
            "origins": {row: origin for row in config.table(name) if (origin := config.methods[row].origin())},
            "controls": sorted(config.controls.rows()) if name != "table1" else None,
        },
        pages=(f"report/paper_{name}.csv",),
        items={"": Item(inputs={path.name: path for path in _answers(config)})},
    )


def scorers(config: Config) -> Dependencies:
    return Dependencies(
        code=("bico.report.scorers",),
        settings={
            **_reported(config, config.scoring.all),
            "truths": {case: config.cases[case].truth for case in config.truths},
            **_texts(config, config.table("table1")),
        },
        items={"": Item(inputs={path.name: path for path in _answers(config)})},
    )


def plot(config: Config, table: str) -> Dependencies:
    settings = {**_reported(config, config.scoring.scores), **_texts(config, config.table(table))}
    return Dependencies(code=("bico.report.plots",), settings=settings)


def training_plot(config: Config, row: str) -> Dependencies:
    return Dependencies(code=("bico.report.plots",), settings=_texts(config, [row]))


def curve(config: Config, name: str) -> Dependencies:
    return Dependencies(
        code=("bico.report.plots",),
        settings={
            "curve": config.curves[name],
            **_reported(config, config.scoring.scores),
            **_texts(config, ()),
        },
    )


def figures(config: Config) -> Dependencies:
    settings = {"cases": config.cases, "media": config.media, **_texts(config, config.table("table1"))}
    return Dependencies(code=("bico.report.figures",), settings=settings, items=_bound_media(config))


def gallery(config: Config) -> Dependencies:
    return Dependencies(
        code=("bico.report.gallery",),
        settings={
            **_texts(config, config.table("table1")),
            **_reported(config, config.scoring.scores),
            "cases": config.cases,
            "media": config.media,
            "seeds": config.seeds,
        },
        pages=("report/gallery.html", *PAGES),
        items=_bound_media(config),
    )


def entry(config: Config) -> Dependencies:
    return Dependencies(
        code=("bico.report.entry",),
        settings={
            **_texts(config, config.table("table1")),
            "rows": {row: _entered(config.methods[row]) for row in config.table("table1")},
            "cases": config.cases,
            "media": config.media,
            "sampling": config.sampling,
            **_reported(config, config.scoring.scores),
            "scenes": _scenes(config),
        },
        models=tuple(sorted({"wan", "probe", *scoring_models(config, config.scoring.scores)})),
        items=_bound_media(config, all_photographs=True) | _bound_masks(config),
    )


def _entered(settings: MethodSettings) -> list[Any]:
    """What an entry says of a row, besides its scores."""
    steps = [settings.steps_of(kind) for kind in ("image", "video")]
    return [settings.method, settings.track(), settings.origin(), steps]


def rating(config: Config) -> Dependencies:
    return Dependencies(
        code=("bico.report.rating",),
        settings={
            "rating": config.rating,
            "media": config.media,
            "seeds": config.seeds,
            "rows": list(config.table("table1")),
            "cases": [[case, entry.prompt, entry.bind] for case, entry in config.cases.items()],
        },
        pages=("report/rating.html", *PAGES),
        items=_bound_media(config),
    )
