"""Statistics on data whose answer is known, and the table's columns."""

import json
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
import toy
from scipy.stats import spearmanr

from bico.config.scores import TRUTH_SCORES
from bico.core.errors import InputError
from bico.core.files import write_text
from bico.report import statistics, tables
from bico.report.plots import plot

RESAMPLES = {"resamples": 2000, "seed": 0}

pytestmark = pytest.mark.usefixtures("few_are_enough")


def test_interval_has_the_coverage_it_claims():
    """On normal data a 95 % interval over 30 cases holds the true mean in about 95 % of experiments."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        _, low, high = statistics.interval(rng.normal(5.0, 2.0, 30), resamples=500, seed=0)
        hits += low <= 5.0 <= high
    assert 0.89 <= hits / 300 <= 0.98


def test_interval_of_identical_cases_is_a_point():
    assert statistics.interval(np.full(12, 7.0), **RESAMPLES) == (7.0, 7.0, 7.0)


def test_interval_leaves_out_cases_without_a_value_and_is_repeatable():
    mean, low, high = statistics.interval(np.array([1.0, np.nan, 3.0]), **RESAMPLES)
    assert (mean, low, high) == (2.0, 1.0, 3.0)
    assert np.isnan(statistics.interval(np.array([np.nan, np.nan]), **RESAMPLES)).all()
    values = np.random.default_rng(1).normal(size=20)
    assert statistics.interval(values, **RESAMPLES) == statistics.interval(values, **RESAMPLES)


def test_pairing_sees_a_difference_that_is_smaller_than_the_spread_of_cases():
    rng = np.random.default_rng(0)
    hard_and_easy_cases = rng.normal(50, 20, 16)
    better = hard_and_easy_cases + 2 + rng.normal(0, 0.5, 16)
    mean, low, high = statistics.paired_difference(better, hard_and_easy_cases, **RESAMPLES)
    assert low > 1.5
    assert high < 2.5
    assert mean == pytest.approx((better - hard_and_easy_cases).mean())


@pytest.mark.parametrize(("ranking", "tau"), [([1, 2, 3, 4], 1.0), ([4, 3, 2, 1], -1.0), ([1, 2, 4, 3], 2 / 3)])
def test_rank_agreement_of_known_orders(ranking, tau):
    values = np.array([10.0, 20.0, 30.0, 40.0])[:, None, None] + np.arange(5.0)
    assert statistics.rank_agreement(values, np.array(ranking), **RESAMPLES) == pytest.approx((tau, tau, tau))


def test_rank_agreement_of_equal_rows_is_unknown():
    assert np.isnan(statistics.rank_agreement(np.ones((3, 1, 5)), np.arange(3), **RESAMPLES)).all()


def test_rank_agreement_is_uncertain_where_cases_disagree():
    values = np.random.default_rng(0).normal(size=(4, 1, 12))
    tau, low, high = statistics.rank_agreement(values, np.arange(4), **RESAMPLES)
    assert low < tau < high


def test_seeds_are_averaged_within_their_case(tmp_path):
    rows = pd.DataFrame({"case": ["b", "b", "a", "a"], "seed": [0, 1, 0, 1], "clip_t": [1.0, 3.0, 8.0, np.nan]})
    assert statistics.case_means(toy.config(tmp_path), rows, "clip_t").tolist() == [[2.0, 8.0]]
    of_two_trainings = statistics.case_means(toy.config(tmp_path, learning_seeds=[5, 3]), rows, "clip_t")
    assert of_two_trainings.tolist() == pytest.approx(np.array([[1.0, 8.0], [3.0, np.nan]]), nan_ok=True)
    assert statistics.interval(of_two_trainings, **RESAMPLES)[0] == 5.0


def test_an_interval_over_trainings_covers_another_training():
    """Ten cases, three trainings that move all of them: an interval over cases alone misses the truth too often."""
    rng, hits = np.random.default_rng(0), np.zeros(2)
    for _ in range(300):
        values = rng.normal(5.0, 1.0, 10) + rng.normal(0.0, 1.0, (3, 1)) + rng.normal(0.0, 0.5, (3, 10))
        for number, given in enumerate((values.mean(axis=0), values)):
            _, low, high = statistics.interval(given, resamples=500, seed=0)
            hits[number] += low <= 5.0 <= high
    of_cases_alone, of_both = hits / 300
    assert of_cases_alone < 0.65 and 0.8 < of_both < 0.95


def test_trainings_that_agree_widen_nothing():
    values = np.random.default_rng(0).normal(size=20)
    assert statistics.interval(np.stack([values, values]), **RESAMPLES) == statistics.interval(values, **RESAMPLES)


@pytest.fixture
def scored(tmp_path):
    """Three methods with made-up scores; `base` lacks one clip and does not support two others."""
    config = toy.config(tmp_path)
    for offset, method in enumerate(config.methods):
        rows = [
            {"case": case, "seed": seed, "status": "ok", "clip_t": 20 + offset + seed, "dino_i": 30 - number}
            | {"motion_fidelity": np.nan if number else 40 * (-1) ** seed + offset, "dynamic_degree": 50}
            for number, case in enumerate(config.cases)
            for seed in config.seeds
        ]
        table = pd.DataFrame(rows).astype(dict.fromkeys(toy.SCORES, float))
        if method == "base":
            table.loc[0, "status"] = "failed"
            table.loc[2:3, "status"] = "not supported"
            table.loc[table.status != "ok", list(toy.SCORES)] = np.nan
        write_text(tmp_path / f"scores/{method}.csv", table.to_csv(index=False))
    return config


def test_every_clip_is_counted(scored):
    table = tables.write_table(scored, "table1").set_index("method")
    counts = ["cases", "seeds", "trainings", "clips", "missing", "not_supported"]
    assert table.loc["base", counts].tolist() == [3, 2, 0, 6, 1, 2]
    assert table.loc["bico", counts].tolist() == [3, 2, 1, 6, 0, 0]


def test_columns_of_a_benchmark_without_truth(scored):
    table = tables.write_table(scored, "table1")
    read = pd.read_csv(scored.results / "table1.csv")
    assert list(read.columns) == list(table.columns)
    assert read["method"].tolist() == ["base", "copy", "bico"]
    assert not [column for column in table if column.startswith("truth")]
    assert table[list(tables.HUMAN)].isna().all(axis=None)
    paper = read.set_index("method").filter(like="paper_")
    assert paper.loc["bico"].tolist() == [32.66, 38.04, 4.71, 4.76, 4.46, 4.64]
    assert paper.loc["base"].isna().all()


def test_motion_stands_in_the_table_of_the_cases_that_have_it(scored):
    """Of three cases one binds a video; its two seeds move with it and against it. One case has no interval."""
    table = tables.write_table(scored, "table1").set_index("method")
    assert table.loc["copy", "motion_fidelity"] == 1
    assert table[["motion_fidelity_low", "motion_fidelity_high"]].isna().all(axis=None)
    assert table.loc["base", "motion_fidelity"] == -40 and table.loc["base", "dynamic_degree"] == 50
    text = (scored.results / "table1.md").read_text()
    assert " motion_fidelity |" in text and "Higher is not better" in text


def write_truth(config) -> None:
    """What `calibrate` leaves behind."""
    values = dict.fromkeys(toy.SCORES, 60.0) | dict.fromkeys(TRUTH_SCORES, 100.0)
    rows = [{"case": case, "seed": seed, "status": "ok"} | values for case in config.cases for seed in config.seeds]
    write_text(config.results / "scores/truth.csv", pd.DataFrame(rows).to_csv(index=False))
    write_text(config.results / "scores/calibration.json", '{"concept": {"ceiling": 0.9, "floor": 0.4}}')


def test_truth_columns_come_with_the_probe(tmp_path):
    models = dict.fromkeys(("wan", "vlm", "clip", "dino", "probe"), "none")
    config = toy.config(tmp_path, models=models, methods={"bico": {}})
    rows = [{"case": case, "seed": seed, "status": "failed"} for case in config.cases for seed in config.seeds]
    rows[0] |= {"status": "ok"} | dict.fromkeys((*toy.SCORES, *TRUTH_SCORES), 50.0)
    write_text(tmp_path / "scores/bico.csv", pd.DataFrame(rows).to_csv(index=False))
    write_truth(config)
    table = tables.write_table(config, "table1")
    assert set(TRUTH_SCORES) < set(table.columns) and table["method"].tolist() == ["bico"]
    text = (tmp_path / "table1.md").read_text()
    assert "concept 0.400 to 0.900" in text
    (line,) = (line for line in text.splitlines() if line.startswith("| exact renderings "))
    means = [cell.split()[0] for cell in line.split("|")[2:-1]]
    assert means == ["60.0"] * len(toy.SCORES) + ["100.0"] * len(TRUTH_SCORES)
    assert "| clip_t          |  truth_prompt |     1 |             |" in text  # one clip ranks nothing


def test_a_case_whose_sources_show_nothing_unasked_is_counted_without_a_score_for_it(tmp_path):
    models = dict.fromkeys(("wan", "vlm", "clip", "dino", "probe"), "none")
    config = toy.config(tmp_path, models=models, methods={"bico": {}}, seeds=[0])
    others = {"seed": 0, "status": "ok"} | dict.fromkeys((*toy.SCORES, *TRUTH_SCORES), 50.0)
    clean = zip(config.cases, (80.0, np.nan, 40.0), strict=True)
    rows = [{"case": case} | others | {"truth_clean": value} for case, value in clean]
    write_text(tmp_path / "scores/bico.csv", pd.DataFrame(rows).to_csv(index=False))
    write_truth(config)
    row = tables.write_table(config, "table1").iloc[0]
    assert (row["truth_clean"], row["truth_overall"]) == (60, 50)
    assert (row["cases"], row["clips"], row["missing"], row["not_supported"]) == (3, 3, 0, 0)


def test_a_probe_alone_brings_no_truth(tmp_path):
    models = dict.fromkeys(("wan", "vlm", "clip", "dino", "probe"), "none")
    config = toy.config(tmp_path, models=models, methods={"bico": {}}, seeds=[0])
    cases = {name: case.model_copy(update={"truth": None}) for name, case in config.cases.items()}
    rows = [{"case": case, "seed": 0, "status": "ok"} | dict.fromkeys(toy.SCORES, 50.0) for case in cases]
    scores = pd.DataFrame(rows).reindex(columns=[*rows[0], *TRUTH_SCORES])
    write_text(tmp_path / "scores/bico.csv", scores.to_csv(index=False))
    tables.write_table(config.model_copy(update={"cases": cases}), "table1")
    assert "exact renderings" not in (tmp_path / "table1.md").read_text()


def test_rank_correlation_is_spearmans_over_clips_and_its_interval_over_cases(monkeypatch):
    monkeypatch.setattr(statistics, "FEWEST", 5)
    draw = np.random.default_rng(0)
    clips = pd.DataFrame({"case": np.repeat(list("abcdefgh"), 5), "score": draw.normal(size=40).round(1)})
    clips["truth"] = clips["score"] ** 3 + draw.normal(size=40)
    clips.loc[3, "truth"] = np.nan
    rho, low, high = statistics.rank_correlation(clips, "score", "truth", resamples=500, seed=0)
    assert rho == pytest.approx(spearmanr(clips["score"], clips["truth"], nan_policy="omit").statistic)
    assert -1 < low < rho < high < 1
    alike = clips.assign(truth=clips["score"] * 2)
    assert statistics.rank_correlation(alike, "score", "truth", resamples=9, seed=0) == pytest.approx((1, 1, 1))
    few = clips[clips["case"] < "e"]
    assert np.isnan(statistics.rank_correlation(few, "score", "truth", resamples=9, seed=0)[1:]).all()
    assert np.isnan(statistics.rank_correlation(clips.assign(score=1), "score", "truth", resamples=9, seed=0)).all()


def test_markdown_is_aligned_and_says_what_differs(scored):
    tables.write_table(scored, "table1")
    text = (scored.results / "table1.md").read_text()
    block = [line for line in text.split("\n\n")[2].split("\n")]
    assert len({len(line) for line in block}) == 1
    assert "| Copied frames |            3 | -1.0 [-1.0, -1.0] * |" in text


def test_a_row_of_fewer_cases_says_so_stands_last_and_is_compared_on_its_own(scored):
    """`base` has no clip of one case."""
    table = tables.write_table(scored, "table1")
    assert table.set_index("method")["scored_cases"].to_dict() == {"base": 2, "copy": 3, "bico": 3}
    text = (scored.results / "table1.md").read_text()
    first = [line.split("|")[1].strip() for line in text.split("\n\n")[2].splitlines()[2:]]
    assert first == [
        "Copied frames",
        "BiCo",
        "Plain prompt, 2 of 3 cases, 1 of 6 clips missing",
        "BiCo, on the same 2 cases",
    ]
    assert "| Plain prompt  |            2 | " in text.split("## Differences to BiCo")[1]
    assert table["method"].tolist() == ["base", "copy", "bico"]  # the CSV's order is the config's


def test_the_reference_on_the_cases_of_a_row_that_covers_fewer_has_its_means_over_these_cases(scored):
    """`base` has clips of the first and the last case."""
    path = scored.results / "scores/bico.csv"
    scores = pd.read_csv(path)
    scores.loc[scores["case"] == list(scored.cases)[1], "clip_t"] = 90.0
    write_text(path, scores.to_csv(index=False))
    tables.write_table(scored, "table1")
    lines = (scored.results / "table1.md").read_text().split("\n\n")[2].splitlines()
    found = {cells[1].strip(): cells[2].split()[0] for cells in (line.split("|") for line in lines[2:])}
    assert found["BiCo"] == "45.0" and found["BiCo, on the same 2 cases"] == "22.5"


def test_a_table_says_what_it_covers_and_names_rows_in_words(scored):
    tables.write_table(scored, "table1")
    text = (scored.results / "table1.md").read_text()
    assert text.split("\n\n")[1] == "toy: 3 cases, 2 seeds, 1 training of each row that learns."
    assert "| Copied frames |         copy |" in text  # beside what files call it


def test_a_label_of_ones_own_stands_in_tables_and_breaks_none(scored):
    rows = scored.methods | {"copy": scored.methods["copy"].model_copy(update={"label": "A|B_c"})}
    table = tables.write_table(scored.model_copy(update={"methods": rows}), "table1")
    assert table["method"].tolist() == ["base", "copy", "bico"]
    assert "| A\\|B_c " in (scored.results / "table1.md").read_text()
    assert "A\\textbar{}B\\_c & $" in (scored.results / "table1.tex").read_text()


def test_figures_of_the_paper_stand_beside_its_own_rows_alone(scored):
    tables.write_table(scored, "table1")
    (row,) = (scored.results / "table1.md").read_text().split("## The paper\n")[1].split("\n\n")[1].splitlines()[2:]
    assert row.startswith("| BiCo ")
    rows = scored.tables.model_copy(update={"table1": {"base": None, "bico": None}})
    tables.write_table(scored.model_copy(update={"tables": rows}), "table1")
    assert "## The paper" not in (scored.results / "table1.md").read_text()


def test_a_table_is_latex_as_well(scored):
    tables.write_table(scored, "table1")
    text = (scored.results / "table1.tex").read_text()
    assert "Methods. toy: 3 cases, 2 seeds, 1 training of each row that learns. Means" in text
    assert "Method & CLIP-T & DINO-I & Motion fid. & Paper \\\\" in text
    assert (
        "{\\scriptsize 2 of 3 cases, 1 of 6 clips missing}" in text
        and "& $4.64$ \\\\" in text
        and "\\textbf" not in text
    )
    assert text.index("BiCo &") < text.index("Plain prompt &")


def test_a_table_says_what_made_it(scored, tmp_path):
    def line() -> str:
        tables.write_table(config, "table1")
        return next(line for line in (tmp_path / "table1.md").read_text().splitlines() if "Made by bico" in line)

    config = scored.model_copy(update={"models": scored.models.model_copy(update={"wan": tmp_path / "wan"})})
    write_text(tmp_path / "wan" / "weights", "one")
    write_text(tmp_path / "SHA256SUMS", "1234  wan/weights\n")
    before = line()
    assert f"bico {version('bico')} (code " in before and "with the models wan " in before and "probe" not in before
    assert "in unknown precision" in before
    write_text(tmp_path / "clips/bico/one/0.mp4.made_from.json", '{"settings": {"dtype": "torch.bfloat16"}}')
    assert "in bfloat16" in line()
    before = line()
    write_text(tmp_path / "SHA256SUMS", "5678  wan/weights\n")
    assert line() != before


# --- ablations ------------------------------------------------------------------------------------------------------

FULL_FIRST = {"bico": 7, "bico_tds": 5, "bico_global": 1, "bico_extra": None}


def ablation(folder, levels: dict[str, float], missing: str | None = None) -> str:
    """Writes Table 2 of variants whose clips all score `levels`, give or take what makes a case hard; one clip of
    `missing` failed. Returns its text."""
    models = dict.fromkeys(("wan", "vlm", "clip", "dino", "probe"), "none")
    variants = {row: {"method": "bico"} for row in FULL_FIRST}
    config = toy.config(folder, models=models, methods=variants, tables={"table2": FULL_FIRST})
    for row, level in levels.items():
        rows = [
            {"case": case, "seed": seed, "status": "ok"}
            | dict.fromkeys(toy.SCORES, 30.0)
            | dict.fromkeys(TRUTH_SCORES, level + 5 * number)
            for number, case in enumerate(config.cases)
            for seed in config.seeds
        ]
        scores = pd.DataFrame(rows)
        if row == missing:
            scores.loc[0, "status"] = "failed"
            scores.loc[0, [*toy.SCORES, *TRUTH_SCORES]] = np.nan
        write_text(folder / f"scores/{row}.csv", scores.to_csv(index=False))
    write_truth(config)
    tables.write_table(config, "table2")
    return (folder / "table2.md").read_text()


def test_of_too_few_cases_there_is_no_interval(tmp_path, monkeypatch):
    monkeypatch.setattr(statistics, "FEWEST", 4)
    text = ablation(tmp_path, {"bico": 60, "bico_tds": 50, "bico_global": 40, "bico_extra": 0})
    assert "the 3 cases that all of them have: +1.00 (1 = the same order" in text
    assert (
        "0 of 2 differences are significant" in text
        and "+10.0, too few cases to tell" in text
        and "[" not in text.split("##")[1]
    )
    assert pd.read_csv(tmp_path / "table2.csv").filter(regex="truth.*_(low|high)").isna().all(axis=None)


def test_the_legend_of_parts_quotes_the_controls_and_that_of_methods_does_not(scored, tmp_path):
    assert "- The config has no `controls`" in ablation(tmp_path / "parts", dict.fromkeys(FULL_FIRST, 50))
    tables.write_table(scored, "table1")
    assert "controls" not in (tmp_path / "table1.md").read_text()


def test_words_that_no_caption_names_are_told(tmp_path):
    for source in ("red_cat", "bouncing_car"):
        found = {"spatial": [], "temporal": [], "captions": ["a cat at the beach"]}
        write_text(tmp_path / f"concepts/{source}.json", json.dumps(found))
    ablation(tmp_path, {"bico": 60, "bico_tds": 50, "bico_global": 40, "bico_extra": 0})
    text = (tmp_path / "table2.md").read_text()
    assert "- Captions contain less than half of the content words of 'bouncing' of bouncing_car, so little" in text


def test_rows_of_an_ablation_stand_in_order_beside_the_papers(tmp_path):
    ablation(tmp_path, {"bico": 60, "bico_tds": 50, "bico_global": 40, "bico_extra": 70}, missing="bico_tds")
    assert "\\caption{Parts of BiCo. toy: 3 cases" in (tmp_path / "table2.tex").read_text()
    table = pd.read_csv(tmp_path / "table2.csv").set_index("method")
    assert table.index.tolist() == list(FULL_FIRST)
    assert table["missing"].tolist() == [0, 1, 0, 0] and table["clips"].tolist() == [6] * 4
    assert table["configuration"].tolist()[:3] == [
        "full model",
        "+ TDS (without absorption token)",
        "global binder only",
    ]
    paper = table.filter(like="paper_")
    assert paper.columns.tolist() == ["paper_concept", "paper_prompt", "paper_motion", "paper_overall"]
    assert paper.loc["bico_tds"].tolist() == [3.80, 3.97, 3.70, 3.82] and paper.loc["bico_extra"].isna().all()
    assert table.loc["bico", ["truth_motion", "truth_motion_low", "truth_motion_high"]].tolist() == [65, 60, 70]


def test_an_ablation_says_whether_it_comes_in_the_papers_order(tmp_path):
    text = ablation(tmp_path / "same", {"bico": 60, "bico_tds": 50, "bico_global": 40, "bico_extra": 0})
    assert "over 3 rows and the 3 cases that all of them have: +1.00 [+1.00, +1.00]" in text
    assert (
        "2 of 2 differences are significant" in text
        and "- “BiCo” minus “BiCo, tds”: +10.0 [+10.0, +10.0], as in the paper" in text
    )
    assert "| BiCo, tds    |            3 | +0.0 [+0.0, +0.0] |" in text.split("## Differences to BiCo")[1]
    text = ablation(tmp_path / "reverse", {"bico": 40, "bico_tds": 50, "bico_global": 60, "bico_extra": 0})
    assert "-1.00 [-1.00, -1.00]" in text and "-10.0 [-10.0, -10.0], the other way round" in text
    text = ablation(tmp_path / "equal", {"bico": 50, "bico_tds": 50, "bico_global": 40, "bico_extra": 0})
    assert "1 of 2 differences are significant" in text and "+0.0 [+0.0, +0.0], not significant" in text


def test_of_two_trainings_the_spread_is_made_good_for():
    """Two trainings, one apart from their mean: resampled alone they would spread by half of their true variance."""
    _, low, high = statistics.interval(np.array([[4.0] * 6, [6.0] * 6]), **RESAMPLES)
    assert (low, high) == pytest.approx((5 - 2**0.5, 5 + 2**0.5))


def test_clips_that_are_gone_count_as_missing(scored):
    path = scored.results / "scores" / "copy.csv"
    rows = pd.read_csv(path)
    rows.loc[0, "status"] = "missing"
    write_text(path, rows.to_csv(index=False))
    table = tables.write_table(scored, "table1").set_index("method")
    assert table["missing"].to_dict() == {"base": 1, "copy": 1, "bico": 0}


def test_a_difference_over_fewer_cases_than_its_row_says_so(scored):
    path = scored.results / "scores" / "copy.csv"
    rows = pd.read_csv(path)
    rows.loc[rows["case"] == rows["case"][0], "clip_t"] = np.nan
    write_text(path, rows.to_csv(index=False))
    tables.write_table(scored, "table1")
    section = (scored.results / "table1.md").read_text().split("## Differences to")[1]
    (of_copy,) = [line for line in section.splitlines() if line.startswith("| Copied frames") and "(2 cases)" in line]
    cells = [cell.strip() for cell in of_copy.split("|")]
    assert cells[2] == "3" and sum("(2 cases)" in cell for cell in cells) == 1


# --- what is read back ----------------------------------------------------------------------------------------------

NAMES = {"NA": "cat_bounces", "007": "robot_spins", "1e3": "fish_bounces", "True": "cat_bounces"}


def test_rows_and_cases_that_look_like_something_else_stay_what_they_are_called(tmp_path):
    """A case NA dropped out of a table that said "missing 0", and a row NA out of its plot."""
    cases = toy.config(tmp_path).model_dump(mode="json")["cases"]
    config = toy.config(
        tmp_path,
        cases={name: cases[case] for name, case in NAMES.items()},
        methods={"NA": {"method": "base"}, "007": {"method": "copy"}},
    )
    for row in config.methods:
        rows = [{"case": case, "seed": seed, "status": "ok"} for case in config.cases for seed in config.seeds]
        scores = pd.DataFrame(rows).assign(**dict.fromkeys(toy.SCORES, 50.0))
        scores.loc[scores["case"] == "NA", ["status", *toy.SCORES]] = ["failed", *[np.nan] * len(toy.SCORES)]
        write_text(config.paths.scores(row), scores.to_csv(index=False))
    table = tables.write_table(config, "table1")
    assert table[["method", "cases", "clips", "missing"]].to_numpy().tolist() == [["NA", 4, 8, 2], ["007", 4, 8, 2]]
    plot(config, "table1")


def test_rows_of_scores_are_taken_by_what_they_are_called_not_by_their_place(scored):
    table = tables.write_table(scored, "table1")
    path = scored.paths.scores("copy")
    header, *rows = path.read_text().splitlines()
    write_text(path, "\n".join([header, *reversed(rows)]) + "\n")
    pd.testing.assert_frame_equal(tables.write_table(scored, "table1"), table)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda rows: rows[:-1], ": no row of case 'fish_bounces', seed 1: expected 6 rows, got 5"),
        (lambda rows: [*rows, rows[0]], ", row 8: case 'cat_bounces', seed 0: in row 2, too: expected once"),
        (lambda rows: [*rows, rows[0].replace("cat", "dog")], ", row 8: case 'dog_bounces', seed 0: not in the conf"),
        (lambda rows: [rows[0].replace("50.0", "many"), *rows[1:]], ", row 2, column dynamic_degree: expected a numbe"),
        (lambda rows: [rows[0].replace(",0,", ",0.0,"), *rows[1:]], ", row 2, column seed: expected a whole number"),
        (lambda rows: [rows[0] + ",1", *rows[1:]], ", row 2: expected 7 cells, got 8"),
    ],
)
def test_scores_that_are_not_those_of_the_config_are_named_by_file_and_row(scored, change, expected):
    path = scored.paths.scores("copy")
    header, *rows = path.read_text().splitlines()
    write_text(path, "\n".join([header, *change(rows)]) + "\n")
    with pytest.raises(InputError) as caught:
        tables.write_table(scored, "table1")
    assert str(caught.value).startswith(f"{path}{expected}") and "\n" not in str(caught.value)
