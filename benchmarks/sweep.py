"""One setting at several values, on the tuning set: a table and a curve of the truth scores.

    uv run python benchmarks/sweep.py methods.bico.strength 0 0.25 0.5 0.75 1 1.5
    uv run python benchmarks/sweep.py sampling.steps 5 10 15 25 50 --rows base bico
    uv run python benchmarks/sweep.py methods.bico.stages.all_steps 30 60 90 180

KEY is a path into the config, values are YAML. Everything that does not depend on it is kept from value to value, so a
sweep of how clips are made learns once. Writes `results/sweeps/<key>.csv` and `.png`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import yaml

from bico.config.reading import load, read_yaml
from bico.config.scores import TRUTH_SCORES
from bico.core.errors import InputError, exit_code
from bico.core.tables import read_table
from bico.report.plots import AXES, curves_figure
from bico.report.style import STYLE, save


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("key")
    parser.add_argument("values", nargs="+", type=yaml.safe_load)
    parser.add_argument("--rows", nargs="+", default=["bico"], help="of the table; one panel each")
    parser.add_argument("--config", type=Path, default=Path("config/toybox.yaml"))
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    checked = load(options.config)
    folder = checked.results / "sweeps"
    own = {"results": str(folder / "work"), "split": "tuning", "tables": {"table1": dict.fromkeys(options.rows)}}
    config = read_yaml(options.config) | own
    configs = [with_value(config, options.key.split("."), value) for value in options.values]
    for changed in configs:  # all of them, before the first one takes its time
        load(changed, name=str(options.config))
    parts = [run(changed, value, options.cores) for changed, value in zip(configs, options.values, strict=True)]
    table = pd.concat(parts, ignore_index=True)
    table.to_csv(folder / f"{options.key}.csv", index=False, float_format="%.3f")
    with matplotlib.rc_context(STYLE | AXES):
        figure = curves_figure(table, options.key, TRUTH_SCORES, f"{checked.name}: tuning set")
        save(figure, folder / f"{options.key}.png")
    columns = ["value", "method", *TRUTH_SCORES]
    print(table[columns].round(dict.fromkeys(TRUTH_SCORES, 1)).to_string(index=False))


def with_value(config: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """The config with one value changed. Raises InputError if it has no such key."""
    name, *rest = path
    if not isinstance(config, dict) or name not in config:
        known = f": expected one of {', '.join(config)}" if isinstance(config, dict) else " there: it is no section"
        raise InputError(f"the config has no '{name}'{known}")
    return config | {name: with_value(config[name], rest, value) if rest else value}


def run(config: dict[str, Any], value: Any, cores: int) -> pd.DataFrame:
    """The table with this config, its rows marked with the value."""
    results = Path(config["results"])
    results.mkdir(parents=True, exist_ok=True)
    (results / "sweep.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    target = results / "tuning" / "table1.csv"
    command = ["snakemake", "--cores", str(cores), "--configfile", results / "sweep.yaml", "--", target]
    done = subprocess.run([sys.executable, "-m", *map(str, command)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
    rows = ((row,) for row in config["tables"]["table1"])
    types = {"method": str, "configuration": str}
    return read_table(target, types, by=("method",), expected=rows).assign(value=value)


if __name__ == "__main__":
    sys.exit(exit_code(main))
