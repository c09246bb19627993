"""Settings of a score: the base class of every score's settings, and how scores are found by name.

A score is one file in `bico/scoring/scores`. `bico.scoring.protocol` says what else is in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from bico.config.section import Section, nearest, problem, read_named

SCORES = Path(__file__).parents[1] / "scoring" / "scores"
RESERVED = ("truth_", "human_", "paper_")
"""How columns of tables start that no score of a file may have."""
QUESTIONS = ("concept", "prompt", "motion")
"""What the truth scores say of a clip, and what people rate."""
Answer = Literal["truth_concept", "truth_prompt", "truth_motion"]


@dataclass(frozen=True)
class Column:
    """A column of the tables.

    Attributes:
        name: its name in files.
        label: its name in figures and pages.
        description: its meaning in the legend of the tables: what it measures, and what it cannot see.
        heading: its heading in the LaTeX table. None = it is left out there and at the end of a run, because a page
            has room for nine columns.
        ordered: whether more is better.
        asks: the truth score for the same question, with which the score is compared; None = there is none.
    """

    name: str
    label: str
    description: str
    heading: str | None = None
    ordered: bool = True
    asks: Answer | None = None


TRUTH_SCORES = {
    column.name: column
    for column in (
        Column(
            "truth_concept",
            "concept",
            heading="Concept",
            description="parameters of each instance, as the probe measures them in the clip, compared with its "
            "source's",
        ),
        Column(
            "truth_prompt",
            "prompt",
            heading="Prompt",
            description="probability with which the probe recognises the words of the prompt in the clip",
        ),
        Column(
            "truth_motion",
            "motion",
            heading="Motion",
            description="the subject's path, frame by frame, compared with the true path; about 0 if the clip is still "
            "or its path is even farther off. Where only a word defines the motion, it is the probability of that word",
        ),
        Column(
            "truth_overall",
            "overall",
            heading="Overall",
            description="mean of concept, prompt and motion for each case; where nothing moves, of the first two",
        ),
        Column(
            "truth_clean",
            "clean",
            heading="Clean",
            description="the clip shows nothing that its sources show but no word of its prompt names: clutter, "
            "another subject, scene, style or light. One such thing costs the whole score, and further ones cost no "
            "more. It is not part of `truth_overall`. A case whose sources have no such thing has no score",
        ),
    )
}
"""The columns of `bico.scoring.truth`, which compares clips with exact renderings."""


class ScoreSettings(Section):
    """Settings of one score, and the facts about it that the benchmark needs before it runs.

    Attributes:
        COLUMNS: the columns that it writes.
        KEY_WORDS: whether it reads which key words of a source are temporal. Clips are then scored after the sources'
            concepts are known.
        MASKS: whether it reads the users' masks of sources. Clips are then scored again when one changes.
    """

    COLUMNS: ClassVar[tuple[Column, ...]] = ()
    KEY_WORDS: ClassVar[bool] = False
    MASKS: ClassVar[bool] = False

    def models(self) -> tuple[str, ...]:
        """Entries of `models` in the config that the score opens."""
        return ()


def score_names() -> list[str]:
    """Names of the scores: the files of `bico/scoring/scores`."""
    return sorted(path.stem for path in SCORES.glob("[!_]*.py"))


def module_of_score(score: str) -> str:
    """The module that holds a score."""
    return f"bico.scoring.scores.{score}"


def settings_of_score(score: str) -> type[ScoreSettings]:
    """The `Settings` of a score that exists. Raises a validation error, one line, if its file lacks something."""
    module = import_module(module_of_score(score))
    settings = getattr(module, "Settings", None)
    if reason := _misfit(settings) or _unmeasurable(getattr(module, "Score", None)):
        raise problem("bico/scoring/scores/{score}.py: {reason}: see docs/extending.md", score=score, reason=reason)
    return cast("type[ScoreSettings]", settings)


def need_key_words(scores: Mapping[str, ScoreSettings]) -> bool:
    """Whether one of these scores reads the sources' key words."""
    return any(settings.KEY_WORDS for settings in scores.values())


def need_masks(scores: Mapping[str, ScoreSettings]) -> bool:
    """Whether one of these scores reads the sources' masks."""
    return any(settings.MASKS for settings in scores.values())


def columns_of(scores: Mapping[str, ScoreSettings]) -> dict[str, Column]:
    """The columns that these scores write."""
    return {column.name: column for settings in scores.values() for column in settings.COLUMNS}


def read_scores_settings(scores: Any) -> Any:
    """Reads each entry of a mapping by names of scores with the settings class of its score; null = its defaults."""
    if not isinstance(scores, Mapping):
        return scores
    read = {str(name): _read(str(name), entry) for name, entry in scores.items()}
    written_by: dict[str, str] = {}
    for name, settings in read.items():
        for column in settings.COLUMNS:
            if (other := written_by.setdefault(column.name, name)) != name:
                raise problem("'{name}': '{other}' has a column {c} too", name=name, other=other, c=column.name)
    return read


def _read(name: str, entry: Any) -> ScoreSettings:
    if name not in score_names():
        hint = f"{nearest(name, score_names())} Or add bico/scoring/scores/{name}.py, see docs/extending.md"
        raise problem("unknown score '{name}': {hint}", name=name, hint=hint)
    return read_named(name, settings_of_score(name), {} if entry is None else entry)


def _misfit(settings: object) -> str | None:
    """Why this is not a class of settings of a score; None if it is."""
    if not (isinstance(settings, type) and issubclass(settings, ScoreSettings)):
        return "no 'Settings' in it that derives from ScoreSettings"
    if not (settings.COLUMNS and all(isinstance(column, Column) for column in settings.COLUMNS)):
        return "COLUMNS of its Settings: expected a tuple of Column, at least one"
    for name in (column.name for column in settings.COLUMNS):
        if not name.isidentifier() or name.startswith(RESERVED) or name.endswith(("_low", "_high")):
            return (
                f"COLUMNS: '{name}': expected a name of letters, digits and underscores that does not start with "
                f"{', '.join(RESERVED)} or end with _low or _high"
            )
    return None


def _unmeasurable(score: object) -> str | None:
    """Why clips cannot be measured with this; None if they can."""
    if not isinstance(score, type):
        return "no class 'Score' in it"
    return None if callable(getattr(score, "measure", None)) else "no 'measure' in its Score"
