"""A whole benchmark, as a YAML file describes it: `Config`.

The defaults are those of the paper at full size; the values for the Toybox are in `config/toybox.yaml`.
"""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, SerializeAsAny, field_validator, model_validator

from bico.config.benchmark import Application, Benchmark
from bico.config.controls import Controls
from bico.config.layout import Layout
from bico.config.methods import MethodSettings, method_names, settings_class
from bico.config.section import Count, FilePath, Name, Positive, Section, Words, nearest, problem, read_named
from bico.config.settings import ConceptSettings, Media, Models, Rating, Sampling, Scoring


class Tables(Section):
    """Rows of each table, in order: entries of `methods`, each with the number of the paper's row beside it."""

    table1: dict[Name, Annotated[int, Field(ge=1, le=5)] | None] | None = Field(
        default=None,
        min_length=1,
        description=(
            "Methods (Table 1 of the paper); also the rows of the figures, of the gallery and of the rating pages. "
            "Null = all entries of `methods`, each beside the paper's row of the same name."
        ),
    )
    table2: dict[Name, Annotated[int, Field(ge=1, le=7)] | None] = Field(
        default={}, description="Parts of BiCo (Table 2 of the paper); empty = no such table."
    )
    table3: dict[Name, Annotated[int, Field(ge=1, le=3)] | None] = Field(
        default={}, description="Training stages of BiCo (Table 3 of the paper); empty = no such table."
    )


class Curve(Section):
    """Rows that differ in one setting, drawn as a curve."""

    label: Words = Field(description="Label of the axis on which the values stand.")
    rows: dict[Name, float] = Field(
        min_length=2, description="Entries of `methods`, each with its value of the setting."
    )


class Config(Benchmark):
    """A whole benchmark, as a YAML file describes it."""

    name: Name = Field(
        description="Name of the benchmark in headings: letters, digits and underscores, as in all names."
    )
    results: FilePath = Field(default=Path("results"), description="Folder into which everything is written.")
    models: Models = Field(description="Folders of the models, each in the format of its own library.")
    weights_store: FilePath = Field(
        default=Path("data/weights"),
        description=(
            "Folder of downloaded models, which several runs may share. A model whose folder is in it is downloaded "
            "and checked against config/weights.lock."
        ),
    )
    authors_page: FilePath = Field(
        default=Path("data/authors"),
        description="Folder of the authors' project page. Sources whose files are in it are downloaded.",
    )
    media: Media = Field(
        default=Media(), description="Size and length in which all sources are read and all clips are generated."
    )
    text_slots: Positive = Field(default=512, description="Length of a prompt in tokens, padding included.")
    concepts: ConceptSettings = Field(
        default=ConceptSettings(),
        description=(
            "How the VLM names the concepts of a source and writes its captions (the paper's Diversify-and-Absorb "
            "Mechanism)."
        ),
    )
    sampling: Sampling = Field(default=Sampling(), description="How clips are generated, the same for every method.")
    training_shift: float | None = Field(
        default=None,
        gt=0,
        description=(
            "Timestep shift of the noise schedule in training; null = that of `sampling`, as in the authors' code. "
            "Wan's maintainers recommend 2 to 3 for training at 480p."
        ),
    )
    scoring: Scoring = Field(default=Scoring(), description="How clips are scored.")
    rating: Rating = Field(
        default=Rating(),
        description=(
            "The human study: pages on which people rate the clips of table 1. The target results/rating/pages "
            "makes them."
        ),
    )
    seeds: list[Count] = Field(
        default=[0, 1], min_length=1, description="Seeds of generation: each case has one clip per seed."
    )
    learning_seeds: list[Count] = Field(
        default=[0],
        min_length=1,
        description=(
            "Seeds of training: everything is trained once per seed. The clips of a case use these trainings in turn, "
            "so the number of `seeds` must be a multiple of the number of learning seeds."
        ),
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where models run: cpu, cuda, or auto = the GPU if there is one."
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description=(
            "Precision of the frozen models: float32, bfloat16, or auto = bfloat16 where it is faster. What is trained "
            "is always float32."
        ),
    )
    learned_dtype: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description=(
            "Precision of learned files: float32, or bfloat16, which takes half the disk space. bfloat16 rounds the "
            "matrices, and this changes the clips a little. Vectors, single numbers, training and its checkpoints stay "
            "in float32."
        ),
    )
    compile: bool = Field(
        default=True, description="Whether training compiles the blocks of the backbone. This needs a C++ compiler."
    )
    gradient_checkpointing: Literal["auto", "always", "never"] = Field(
        default="auto",
        description=(
            "Whether training keeps only the attention of each block in memory and computes the other activations "
            "again. It is slower, takes a fraction of the memory and does not change the gradients. always, never, or "
            "auto = for clips of 4096 tokens or more, which do not fit a GPU otherwise."
        ),
    )
    parts: Positive = Field(
        default=1,
        description=(
            "Number of jobs among which the trainings of a row are divided, one for each GPU. It does not change the "
            "results."
        ),
    )
    methods: dict[Name, SerializeAsAny[MethodSettings]] = Field(
        min_length=1,
        description=(
            "Rows of the tables: names of your choice, each with a method and its settings. `bico: {}` is the method "
            "of that name with its defaults. A second row of one method with other settings is an ablation. Rows with "
            "the same training settings share one training, in the folder of the row that is named as its method, or "
            "else of the first."
        ),
    )
    tables: Tables = Field(
        default=Tables(),
        description=(
            "Rows of each table, in order: entries of `methods`, each with the number of the paper's row beside it "
            "(null = none). A table may use each number once."
        ),
    )
    curves: dict[Name, Curve] = Field(
        default={},
        description=(
            "Figures of rows that differ in one setting, drawn as a curve over its values. The target "
            "results/figures/curves/<name>.png makes one."
        ),
    )
    applications: dict[Name, Application] = Field(
        default={},
        description=(
            "Clips made with the binder of one source only, in the rows of BiCo. Decomposition binds a few words of a "
            "new prompt to the source. Editing replaces a word of the source's own prompt. The probe scores the clips."
        ),
    )
    controls: Controls = Field(
        default=Controls(),
        description=(
            "Positive controls: the effect of each ingredient of BiCo in conditions in which it must have one. If a "
            "control shows no effect, tables 2 and 3 say nothing about the ingredient here. The target "
            "results/controls.csv makes them."
        ),
    )
    tuning: Benchmark | None = Field(
        default=None,
        description=(
            "A separate set of sources and cases for choosing settings. Its results are in results/tuning; null = "
            "no such set."
        ),
    )
    split: Literal["table", "tuning"] = Field(
        default="table", description="Which set runs: table = `sources` and `cases`, tuning = those of `tuning`."
    )

    frozen: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description=(
            "SHA-256 of all Toybox scenes, all cases and `media`, as `bico draw` writes it. A run with others ends "
            "before it starts; null = no check."
        ),
    )

    @field_validator("methods", mode="before")
    @classmethod
    def _settings_of_methods(cls, methods: Any) -> Any:
        """Reads each entry with the settings class of its method. `bico: {}` is short for `bico: {method: bico}`."""
        if not isinstance(methods, Mapping):
            return methods
        for row, entry in methods.items():
            if row == "truth":
                raise problem("row 'truth': this is the name of the exact renderings in results: expected another name")
            if not isinstance(entry, Mapping | None):
                raise problem(
                    "row '{row}': expected settings, or {} for the defaults, got {it}", row=row, it=str(entry)
                )
        return {row: cls._settings_of(row, {"method": row, **(entry or {})}) for row, entry in methods.items()}

    @staticmethod
    def _settings_of(row: str, entry: Mapping[str, Any]) -> MethodSettings:
        name = str(entry["method"])
        settings = settings_class(name)
        if settings is None:
            hint = f"{nearest(name, method_names())} Or add bico/methods/{name}.py, see docs/extending.md"
            raise problem("row '{row}': unknown method '{m}': {hint}", row=row, m=name, hint=hint)
        return read_named(row, settings, entry)

    @model_validator(mode="after")
    def _labels_differ(self) -> "Config":
        rows: dict[str, str] = {}
        for row in self.methods:
            other = rows.setdefault(self.label(row), row)
            if other != row:
                raise problem(
                    "methods.{row}: row '{other}' has the same label '{label}': expected a 'label' of its own",
                    row=row, label=self.label(row), other=other,
                )  # fmt: skip
        return self

    @model_validator(mode="after")
    def _split_exists(self) -> "Config":
        if self.split == "tuning" and self.tuning is None:
            raise problem("split: there is no tuning set: expected a 'tuning' section with sources and cases")
        return self

    @model_validator(mode="after")
    def _tables_fit(self) -> "Config":
        tables = {f"tables.{table}": self.table(table) for table in Tables.model_fields}
        for where, rows in (tables | {f"curves.{name}": curve.rows for name, curve in self.curves.items()}).items():
            for row in rows:
                if row not in self.methods:
                    hint = nearest(row, self.methods)
                    raise problem("{where}: no row '{row}': {hint}", where=where, row=row, hint=hint)
        for where, rows in tables.items():
            numbers = [number for number in rows.values() if number is not None]
            if len(set(numbers)) < len(numbers):
                raise problem("{where}: expected each row of the paper once", where=where)
        return self

    @model_validator(mode="after")
    def _applications_fit(self) -> "Config":
        for name, entry in self.applications.items():
            if entry.source not in self.sources:
                hint = nearest(entry.source, self.sources)
                raise problem("applications.{name}: no source '{s}': {hint}", name=name, s=entry.source, hint=hint)
            if not (self.sources[entry.source].scene and self.models.probe):
                raise problem(
                    "applications.{name}: the probe measures applications against a Toybox scene: expected a source "
                    "with 'scene' and models.probe; for own media use `bico decompose` and `bico edit`",
                    name=name,
                )  # fmt: skip
        return self

    @model_validator(mode="after")
    def _controls_fit(self) -> "Config":
        for name, rows in self.controls.rows().items():
            for row in rows:
                if row not in self.methods:
                    raise problem(
                        "controls.{name}: no row '{row}': {hint}", name=name, row=row, hint=nearest(row, self.methods)
                    )
                if name in ("diversification", "absorption") and not self.methods[row].BINDS_WORDS:
                    raise problem("controls.{name}: row '{row}': expected a row that binds words", name=name, row=row)
                if name == "absorption" and self.methods[row].absorbs:
                    raise problem("controls.absorption: row '{row}': expected a row without absorption tokens", row=row)
            if name in ("diversification", "absorption") and not any(each.scene for each in self.sources.values()):
                raise problem("controls.{name}: no source has a Toybox 'scene': expected null", name=name)
        if self.controls.absorption and not self.models.probe:
            raise problem("controls.absorption: only models.probe recognises clutter, and it is null: expected null")
        return self

    @field_validator("seeds", "learning_seeds")
    @classmethod
    def _different(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise problem("expected each seed once")
        return seeds

    @model_validator(mode="after")
    def _seeds_fit(self) -> "Config":
        if len(self.seeds) % len(self.learning_seeds):
            raise problem(
                "learning_seeds: {k} learning seeds, but {n} 'seeds': expected a multiple of {k} 'seeds', because the "
                "clips of a case use the learning seeds in turn",
                n=len(self.seeds),
                k=len(self.learning_seeds),
            )
        return self

    def table(self, name: str) -> dict[str, int | None]:
        """Row -> number of the paper's row beside it, or None. Empty if the benchmark does not have this table."""
        rows = getattr(self.tables, name)
        if rows is not None:
            return rows
        return {row: method.PAPER_ROW if row == method.method else None for row, method in self.methods.items()}

    def label(self, row: str) -> str:
        """The name of a row in tables, figures and pages."""
        return self.methods[row].label_of(row)

    @property
    def learning_shift(self) -> float:
        """Timestep shift in training."""
        return self.training_shift or self.sampling.shift

    @property
    def paths(self) -> Layout:
        return Layout(self.results)

    def media_path(self, source: str) -> Path:
        """The file of a source: the user's own (the first of several photographs), or the rendered one."""
        return self.media_paths(source)[0]

    def media_paths(self, source: str) -> list[Path]:
        """All files of a source: several photographs, or one file."""
        entry = self.sources[source]
        return entry.own_files or [self.paths.media(source, "png" if entry.kind == "image" else "mp4")]

    @property
    def truths(self) -> list[str]:
        """The cases whose exact rendering is known."""
        return [name for name, case in self.cases.items() if case.truth]

    @property
    def has_truth(self) -> bool:
        """Whether clips can be compared with an exact rendering."""
        return self.models.probe is not None and bool(self.truths)

    @property
    def has_unrelated_cases(self) -> bool:
        """Whether some of these cases share no source, so that the exact rendering of one is another clip to the
        other."""
        bound = [set(self.cases[case_id].bind) for case_id in self.truths]
        return any(one.isdisjoint(other) for one, other in combinations(bound, 2))

    def chosen(self) -> "Config":
        """The benchmark of the chosen split: this one, or the same with its tuning set, in `results/tuning`."""
        if self.split == "table":
            return self
        assert self.tuning is not None  # else `split` was refused
        return self.model_copy(
            update={
                "name": f"{self.name}_tuning",
                "results": self.results / "tuning",
                "sources": self.tuning.sources,
                "cases": self.tuning.cases,
                "tuning": None,
                "frozen": None,
                "applications": {},
                "controls": Controls(),
                "split": "table",
            }
        )

    def alone(self, **update: Any) -> "Config":
        """The same with other sources, cases or rows, and without the sections that refer to this benchmark's own."""
        empty = {
            "parts": 1,
            "frozen": None,
            "tables": Tables(),
            "curves": {},
            "applications": {},
            "controls": Controls(),
            "tuning": None,
        }
        return self.model_copy(update=empty | update)

    def to_yaml(self) -> str:
        """The whole configuration with every default filled in; `load` reads it back to an equal `Config`."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
