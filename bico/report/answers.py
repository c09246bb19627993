"""Ratings by people: the files that raters send back are checked line by line and joined with their key.

    results/rating/keys/<study>.csv   the clip behind each item of each rater; `rating` writes it with the pages
    results/rating/answers/*.csv      files that the pages save: a line per item, a rating from 1 to 5 per question

The name of a study is the digest of its key, so answers are never joined with the key of another study. Answers to an
earlier study still count for the clips that have not changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bico.config.schema import Config
from bico.config.scores import QUESTIONS
from bico.core.errors import InputError
from bico.core.tables import read_lines

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

CLIP = ("case", "method", "seed", "sha256")  # columns of the key that identify the clip of an item
COLUMNS = ("study", "rater", "item", *QUESTIONS)
SCALE = ("1", "2", "3", "4", "5")

Key = dict[tuple[str, str], dict[str, str]]
"""(rater, item) -> its line of the key."""


def read_answers(config: Config) -> list[dict[str, str]]:
    """All answers: `rater` (with the study), the columns CLIP, and a rating for each of QUESTIONS.

    Raises InputError, one line with file, row and column, at the first impossible entry: a folder or file that no page
    saved, a study without a key, an item that its rater was not shown or that is answered twice, a rating outside 1 to
    5.
    """
    for path in config.paths.rating_answers.glob("*"):
        if path.suffix != ".csv" and not path.name.startswith("."):
            raise InputError(f"{path}: only files .csv are read there: expected each answer beside the others")
    keys = {path.stem: _key(path) for path in sorted(config.paths.rating_keys.glob("*.csv"))}
    answers, places = [], {}
    for path in sorted(config.paths.rating_answers.glob("*.csv")):
        for number, line in read_lines(path, COLUMNS).items():
            where = f"{path}, row {number}"
            clip = _item(where, line, keys)
            item = line["study"], line["rater"], line["item"]
            if item in places:
                raise InputError(
                    f"{where}, column item: expected each item of a rater once, but {line['item']} stands in "
                    f"{places[item]} as well: keep one of them"
                )
            places[item] = where
            ratings = {question: _checked(where, line, question, SCALE) for question in QUESTIONS}
            answers.append({"rater": f"{line['study']} {line['rater']}"} | clip | ratings)
    return answers


def counted_answers(config: Config, rows: Iterable[str]) -> tuple[pd.DataFrame, int]:
    """Answers about the present clips of these rows of a table, and the number of answers whose clips have changed or
    were removed since, with those of rows that the config no longer has.

    The table has a line per answer: rater, case, method, seed, sha256, and a float per question.
    """
    import numpy as np
    import pandas as pd

    answers = pd.DataFrame(read_answers(config), columns=["rater", *CLIP, *QUESTIONS])
    answers = answers.astype({"seed": int} | dict.fromkeys(QUESTIONS, float))
    gone = int((~answers["method"].isin(list(config.methods))).sum())
    answers = answers[answers["method"].isin(list(rows))]
    now = {row: checksums(config, row) for row in answers["method"].unique()}
    clips = zip(answers["method"], answers["case"], answers["seed"], answers["sha256"], strict=True)
    same = np.array([now[row].get((case, seed)) == sha256 for row, case, seed, sha256 in clips], dtype=bool)
    return answers[same], int((~same).sum()) + gone


def rated(scores: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """A row's scores with the mean rating of each clip and its number of raters; NaN if nobody rated it."""
    clips = answers.groupby(["case", "seed"])
    means = clips[list(QUESTIONS)].mean()
    means["overall"] = means.mean(axis=1)
    return scores.join(means.add_prefix("human_").assign(human_ratings=clips.size()), on=["case", "seed"])


def agreement(answers: pd.DataFrame, question: str) -> float:
    """`alpha` of one question over all raters and clips of `counted_answers`."""
    return alpha(answers.pivot(index="rater", columns=["case", "method", "seed"], values=question).to_numpy())


def alpha(ratings: np.ndarray) -> float:
    """Krippendorff's alpha of ratings [raters, clips] on an interval scale, by the package `krippendorff`.

    1 is full agreement, 0 is agreement by chance. A clip that a rater has not seen is NaN. Alpha is NaN where it is not
    defined: no clip has two ratings, or all ratings of clips with several are equal.
    """
    import krippendorff
    import numpy as np

    shared = ratings[:, np.isfinite(ratings).sum(axis=0) > 1]
    if len(np.unique(shared[np.isfinite(shared)])) < 2:
        return np.nan
    return float(krippendorff.alpha(shared, level_of_measurement="interval"))


def checksums(config: Config, row: str) -> dict[tuple[str, int], str | None]:
    """(case, seed) -> SHA-256 of a row's clip, from its manifest."""
    from bico.scoring.results import clips_manifest

    return {(entry["case"], entry["seed"]): entry["sha256"] for entry in clips_manifest(config, row)}


def _key(path: Path) -> Key:
    return {(line["rater"], line["item"]): line for line in read_lines(path, ("rater", "item", *CLIP)).values()}


def _item(where: str, line: dict[str, str], keys: dict[str, Key]) -> dict[str, str]:
    """The clip to which a line belongs, as columns of CLIP."""
    studies = f"a study whose key is here ({', '.join(keys) or 'there is none'})"
    key = keys[_checked(where, line, "study", keys, studies)]
    rater = _checked(where, line, "rater", dict.fromkeys(rater for rater, _ in key))
    item = _checked(where, line, "item", [item for other, item in key if other == rater])
    return {name: key[rater, item][name] for name in CLIP}


def _checked(where: str, line: dict[str, str], column: str, known: Iterable[str], expected: str = "") -> str:
    """The value of a column. Without `expected` the known values are consecutive whole numbers."""
    known, found = list(known), line[column]
    if found not in known:
        expected = expected or f"a whole number from {known[0]} to {known[-1]}"
        raise InputError(f"{where}, column {column}: expected {expected}, got {found!r}")
    return found
