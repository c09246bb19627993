"""Chooses each method's settings on the tuning set, with the same budget for all.

    uv run python benchmarks/tune.py [--config config/toybox.yaml] [--candidates config/candidates.yaml]
                                     [--seeds 4] [--trainings 2] [--cores 2]

Every candidate is a row of a benchmark on the tuning set; its sources, instances and compositions are in no table. The
best mean of `truth_overall`, to a tenth, wins; a tie goes to the candidate that stands first. What wins is written by
hand into the config: this script prints, and `results/tuning/choices.md` keeps, what was tried and how it did. Every
candidate is learned twice and makes four clips of a case, half with each training: one training's lead of two points
is luck.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from bico.config.reading import read_yaml
from bico.core.errors import InputError, exit_code
from bico.core.tables import read_table
from bico.report.markdown import markdown

SCORES = ("truth_overall", "truth_concept", "truth_prompt", "truth_motion", "truth_clean")


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("config/toybox.yaml"))
    parser.add_argument("--candidates", type=Path, default=Path("config/candidates.yaml"))
    parser.add_argument("--seeds", type=int, default=4, help="clips of a case")
    parser.add_argument("--trainings", type=int, default=2, help="of every candidate; the clips take them in turn")
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    config, candidates = map(read_yaml, (options.config, options.candidates))
    for section in ("tables", "curves", "controls"):  # candidates are rows of no other
        config.pop(section, None)
    entries = rows(config["methods"], candidates)
    folder = Path(config["results"]) / "tuning"
    folder.mkdir(parents=True, exist_ok=True)
    trial = folder / "candidates.yaml"
    config |= {"seeds": [*range(options.seeds)], "learning_seeds": [*range(options.trainings)]}
    trial.write_text(yaml.safe_dump(config | {"methods": {"base": {}} | entries}, sort_keys=False))
    command = ["snakemake", "--cores", str(options.cores), "--configfile", trial, "--config", "split=tuning", "--"]
    if code := subprocess.run([sys.executable, "-m", *map(str, command), str(folder / "table1.csv")]).returncode:
        sys.exit(code)  # Snakemake has said why
    types = {"method": str, "configuration": str}
    made = [(row,) for row in ("base", *entries)]
    table = read_table(folder / "table1.csv", types, by=("method",), expected=made).set_index("method")
    text = report(table, candidates)
    (folder / "choices.md").write_text(text)
    print(text)


def rows(methods: dict[str, dict], candidates: dict[str, list[dict]]) -> dict[str, dict]:
    """Row name -> settings, for every candidate: the method's settings in the config, changed as the candidate says.

    Raises InputError if the methods have different budgets, or the config lacks one of them.
    """
    budgets = {method: len(tried) for method, tried in candidates.items()}
    if len(set(budgets.values())) != 1:
        raise InputError(f"candidates differ in number: expected the same budget for every method, got {budgets}")
    if unknown := [method for method in candidates if method not in methods]:
        raise InputError(f"candidates of {', '.join(unknown)}: expected rows of 'methods': {', '.join(methods)}")
    return {
        f"{method}_{number}": {"method": method} | merged(methods[method], changes)
        for method, tried in candidates.items()
        for number, changes in enumerate(tried)
    }


def merged(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`settings` with `changes`, section by section."""
    return settings | {
        key: merged(settings[key], value) if isinstance(value, dict) else value for key, value in changes.items()
    }


def report(table: pd.DataFrame, candidates: dict[str, list[dict]]) -> str:
    """Markdown: for each method its candidates with their scores, the chosen one marked."""
    parts = [f"{len(next(iter(candidates.values())))} candidates of each method, on the tuning set\n"]
    header = ["", "changes", "truth_overall [95 %]", *SCORES[1:]]
    for method, tried in {"base": [{}], **candidates}.items():
        names = ["base"] if method == "base" else [f"{method}_{number}" for number in range(len(tried))]
        best = table.loc[names, "truth_overall"].round(1).idxmax()
        lines = []
        for name, changes in zip(names, tried, strict=True):
            row = table.loc[name]
            span = f"{row['truth_overall']:.1f} [{row['truth_overall_low']:.1f}, {row['truth_overall_high']:.1f}]"
            changed = ", ".join(f"{key} {value}" for key, value in changes.items()) or "as in the config"
            others = [f"{row[score]:.1f}" for score in SCORES[1:]]
            lines.append(["chosen" if name == best else "", changed, span, *others])
        parts.append(f"## {method}\n\n{markdown(header, lines)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(exit_code(main))
