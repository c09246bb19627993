"""The choice of settings on the tuning set: equal budgets, settings changed in their place, the best mean wins."""

import sys

import pandas as pd
import pytest
import yaml
from conftest import ROOT

from bico.config.reading import load
from bico.core.errors import InputError

sys.path.insert(0, str(ROOT / "benchmarks"))
import tune

METHODS = {"bico": {"steps": 5, "absorption": {"tokens": 1, "slot": "append"}}, "db_lora": {"rank": 8}}


def test_candidates_change_only_what_they_name():
    rows = tune.rows(METHODS, {"bico": [{}, {"absorption": {"tokens": 0}}], "db_lora": [{}, {"rank": 4}]})
    assert rows["bico_0"] == {"method": "bico"} | METHODS["bico"]
    assert rows["bico_1"] == {"method": "bico", "steps": 5, "absorption": {"tokens": 0, "slot": "append"}}
    assert rows["db_lora_1"] == {"method": "db_lora", "rank": 4}
    assert METHODS["bico"]["absorption"]["tokens"] == 1


def test_unequal_budgets_are_refused():
    with pytest.raises(InputError, match="same budget"):
        tune.rows(METHODS, {"bico": [{}, {"steps": 9}], "db_lora": [{}]})
    with pytest.raises(InputError, match="candidates of copy: expected rows of 'methods': bico, db_lora"):
        tune.rows(METHODS, {"bico": [{}], "copy": [{}]})


def test_the_candidates_of_the_toybox_are_valid_rows_of_equal_number():
    toybox = yaml.safe_load((ROOT / "config" / "toybox.yaml").read_text())
    candidates = yaml.safe_load((ROOT / "config" / "candidates.yaml").read_text())
    rows = tune.rows(toybox["methods"], candidates)
    learned = {row for row, settings in load(toybox).methods.items() if settings.LEARNS_PER != "nothing"}
    assert set(candidates) <= learned and len(rows) == len(candidates) * len(candidates["bico"])
    assert all(rows[row] not in list(rows.values())[:place] for place, row in enumerate(rows)), "tried twice"
    toybox["methods"] = rows
    for section in ("tables", "curves", "controls"):
        toybox.pop(section, None)
    load(toybox)


def test_the_best_mean_is_chosen_and_the_first_of_equals():
    scores = {"base": 20.0, "bico_0": 30.0, "bico_1": 40.01, "bico_2": 40.04}
    table = pd.DataFrame(
        {column: scores for score in tune.SCORES for column in (score, f"{score}_low", f"{score}_high")}
    )
    text = tune.report(table, {"bico": [{}, {"steps": 9}, {"steps": 11}]})
    chosen = [line for line in text.splitlines() if line.startswith("| chosen")]
    assert len(chosen) == 2 and "steps 9" in chosen[1] and "40.0 [40.0, 40.0]" in chosen[1]
