"""Controls on scores whose answer is known."""

import numpy as np
import pandas as pd
import pytest
import toy

from bico.analysis.controls import GAIN, KEPT, controls
from bico.config.scores import TRUTH_SCORES
from bico.core.saving import save_csv

pytestmark = pytest.mark.usefixtures("few_are_enough")

WITH_PROBE = dict.fromkeys(("wan", "vlm", "clip", "dino", "probe"), "none")
ROWS = {
    "bico_lacks": {"method": "bico", "hierarchical": False, "absorption": {"tokens": 0}},
    "bico_has": {"method": "bico"},
}
PAIR = {"lacks": "bico_lacks", "has": "bico_has"}
TWO_IMAGES = {
    f"pictures_{number}": {
        "prompt": "a cat in the city",
        "bind": {"red_cat": ["cat"], "old_robot": ["city"]},
        "truth": {"subject": "red_cat", "scene": "old_robot"},
    }
    for number in range(3)
}


def config(results, *, models=WITH_PROBE, **chosen):
    cases = toy.config(results).model_dump(mode="json")["cases"]
    return toy.config(results, models=models, methods=ROWS, cases=cases | TWO_IMAGES, controls=chosen)


def write_scores(benchmark, gain: dict[str, float], columns=(*toy.SCORES, *TRUTH_SCORES), spread: float = 0.0) -> None:
    """Scores of both rows: cases differ, and the row that has the ingredient is better by `gain` of each score, by so
    much more in every other case and by so much less in the others."""
    for row, has in (("bico_lacks", 0), ("bico_has", 1)):
        rows = [
            {"case": case, "seed": seed, "status": "ok"}
            | {
                score: 10.0 * number + seed + has * (gain.get(score, 0.0) + spread * (-1) ** number)
                for score in columns
            }
            for number, case in enumerate(benchmark.cases)
            for seed in benchmark.seeds
        ]
        save_csv(benchmark.paths.scores(row), pd.DataFrame(rows))


def lines(benchmark) -> pd.DataFrame:
    controls(benchmark)
    table = pd.read_csv(benchmark.paths.table("controls"), keep_default_na=False)
    return table.set_index(["ingredient", "measure", "over"])


def test_a_score_that_is_higher_in_every_case_moves_and_one_that_is_not_does_not(tmp_path):
    benchmark = config(tmp_path, hierarchy=PAIR)
    write_scores(benchmark, {"truth_concept": 4.0, "truth_motion": -4.0}, spread=1.0)
    found = lines(benchmark).loc["hierarchy"].droplevel("over")
    assert found["moves"].to_dict() == {"truth_overall": "no", "truth_concept": "yes", "truth_motion": "opposite"}
    concept = found.loc["truth_concept"]
    assert (concept["without"], concept["with"], concept["count"]) == ("bico_lacks", "bico_has", 6)
    assert concept["difference"] == pytest.approx(4)
    assert concept["value_with"] - concept["value_without"] == pytest.approx(4)
    assert 3 <= concept["difference_low"] < 4 < concept["difference_high"] <= 5


def test_temporal_decoupling_is_expected_where_images_and_videos_mix_alone(tmp_path):
    benchmark = config(tmp_path, temporal_decoupling=PAIR)
    write_scores(benchmark, {"truth_concept": 4.0})
    found = lines(benchmark).xs("truth_concept", level="measure").droplevel("ingredient")
    assert found["moves"].to_dict() == {"cases that mix images and videos": "yes", "other cases": ""}
    assert found["count"].tolist() == [3, 3] and found["value_without"].tolist() == [10.5, 40.5]


def test_without_a_case_that_mixes_them_temporal_decoupling_cannot_be_told(tmp_path):
    benchmark = config(tmp_path, temporal_decoupling=PAIR)
    benchmark = benchmark.model_copy(update={"cases": {name: benchmark.cases[name] for name in TWO_IMAGES}})
    write_scores(benchmark, {"truth_concept": 4.0})
    found = lines(benchmark).xs("truth_concept", level="measure").droplevel("ingredient")
    assert found["moves"].to_dict() == {"cases that mix images and videos": "too few", "other cases": ""}
    assert found["count"].tolist() == [0, 3]


def test_clips_that_failed_leave_pairs_out_and_too_few_are_told(tmp_path):
    benchmark = config(tmp_path, reverse_training=PAIR)
    write_scores(benchmark, {"truth_motion": 4.0})
    scores = pd.read_csv(benchmark.paths.scores("bico_has"))
    scores.loc[scores["case"].isin([*benchmark.cases][:4]), "truth_motion"] = np.nan
    save_csv(benchmark.paths.scores("bico_has"), scores)
    found = lines(benchmark).loc["reverse_training"].droplevel("over")
    assert found.loc["truth_motion", "moves"] == "too few" and found.loc["truth_motion", "count"] == 2
    assert found.loc["truth_motion", "value_with"] - found.loc["truth_motion", "value_without"] == pytest.approx(4)
    assert found.loc["truth_overall", "count"] == 6


def test_a_benchmark_without_truth_compares_rows_by_scores_that_need_none(tmp_path):
    folders = {name: folder for name, folder in WITH_PROBE.items() if name != "probe"}
    benchmark = config(tmp_path, models=folders, hierarchy=PAIR, temporal_decoupling=PAIR)
    write_scores(benchmark, {"dino_i": 2.0}, columns=toy.SCORES)
    found = lines(benchmark)
    assert found.loc["hierarchy"].droplevel("over")["moves"].to_dict() == {"dino_i": "yes", "motion_fidelity": "no"}
    assert found.loc["temporal_decoupling"].index.get_level_values("measure").tolist() == ["dino_i", "dino_i"]


def test_what_one_caption_loses_in_new_sentences_is_compared_with_what_many_lose(tmp_path):
    benchmark = config(tmp_path, diversification=PAIR).model_copy(update={"learning_seeds": [0, 1]})
    gains = {"bico_lacks": (20.0, 12.0), "bico_has": (15.0, 14.0)}
    rows = [
        {"method": row, "source": source, "learning_seed": seed, "own": own + number, "new": new + number}
        for row, (own, new) in gains.items()
        for number, source in enumerate(benchmark.sources)
        for seed in benchmark.learning_seeds
    ]
    save_csv(benchmark.paths.control("diversification"), pd.DataFrame(rows))
    found = lines(benchmark).reset_index()
    assert found["measure"].tolist() == [KEPT, GAIN, GAIN] and found["moves"].tolist() == ["yes", "", ""]
    assert found["difference"].tolist() == [7, 8, 1] and found["count"].tolist() == [5] * 3
    assert found.loc[0, ["value_without", "value_with"]].tolist() == [-8, -1]


@pytest.mark.parametrize(("learned_clutter", "moves"), [(0.4, "yes"), (0.1, "no")])
def test_clutter_that_comes_along_moves_the_control_of_absorption(tmp_path, learned_clutter, moves):
    benchmark = config(tmp_path, absorption={"row": "bico_lacks"})
    rows = [
        {"case": source, "seed": seed, "bound": role, "sentence": sentence, "clutter": clutter}
        | {"probability": (learned_clutter if clutter and role == "scene" else 0.1) + 0.01 * seed}
        for source in benchmark.sources
        for clutter in (True, False)
        for role in ("subject", "scene")
        for sentence in (0, 1)
        for seed in benchmark.seeds
    ]
    save_csv(benchmark.paths.control("absorption"), pd.DataFrame(rows))
    found = lines(benchmark).reset_index()
    assert found["moves"].tolist() == ["no", moves] and found["count"].tolist() == [5, 5]
    assert found.loc[1, "difference"] == pytest.approx(learned_clutter - 0.1)
    assert found.loc[1, "over"] == "sources (scene bound)"


def test_controls_come_in_the_same_bytes_again(tmp_path):
    benchmark = config(tmp_path, hierarchy=PAIR)
    write_scores(benchmark, {"truth_concept": 4.0}, spread=3.0)
    first, second = (lines(benchmark).to_csv() for _ in range(2))
    assert first == second
