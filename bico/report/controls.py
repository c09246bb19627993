"""Results of the controls, for the legend of a table of BiCo's parts: which ingredients this benchmark can measure."""

from __future__ import annotations

from typing import get_args

import pandas as pd

from bico.config.controls import Ingredient
from bico.config.schema import Config
from bico.core.tables import read_table


def verdicts(config: Config) -> list[str]:
    """Lines in Markdown, from `results/controls.csv` if it is there."""
    path = config.paths.table("controls")
    unknown = "it is not known whether this benchmark can measure the effect of an ingredient of BiCo"
    if not config.controls.rows():
        return [f"- The config has no `controls`: {unknown}."]
    if not path.is_file():
        return [f"- No controls yet: {unknown}. `uv run snakemake --cores all {path}`, with this config, measures it."]
    table = read_table(path, dict.fromkeys(("ingredient", "measure", "over", "without", "with", "moves"), str))
    of_ingredient = {name: table[table["ingredient"] == name] for name in get_args(Ingredient)}
    return [
        "- Controls (`controls.csv`) measure each ingredient of BiCo in conditions in which it must have an effect. If "
        "none of its measures moves there, the rows above say nothing about the ingredient:",
        *(f"  - {name.replace('_', ' ')} {verdict(lines)}" for name, lines in of_ingredient.items()),
    ]


def verdict(lines: pd.DataFrame) -> str:
    """The verdict on one ingredient, from its lines of the table."""
    answers = {"moves": "yes", "does not move": "no", "moves the other way": "opposite", "too few to tell": "too few"}
    of_answer = {effect: lines[lines["moves"] == answer] for effect, answer in answers.items()}
    measures = "; ".join(f"{effect}: {_names(found)}" for effect, found in of_answer.items() if len(found))
    if not measures:
        return "has no control in this config: it is not known whether it can be judged here."
    if set(lines["moves"]) <= {"too few", ""}:
        return f"has too little data: it is not known whether it can be judged here ({measures})."
    return f"{'can' if len(of_answer['moves']) else 'cannot'} be judged here ({measures})."


def _names(lines: pd.DataFrame) -> str:
    return " and ".join(f"{line['measure']}, over {line['over']}" for line in lines.to_dict(orient="records"))
