"""What each score is worth, on made-up scores whose worth is known."""

import numpy as np
import pandas as pd
import pytest
import toy
from conftest import ROOT

from bico.cli.main import main
from bico.config.scores import TRUTH_SCORES
from bico.core.errors import InputError
from bico.core.files import write_text
from bico.report import scorers, statistics
from bico.toybox.faults import dosed_clips

pytestmark = pytest.mark.usefixtures("few_are_enough")
METHODS = {"base": {}, "textual_inversion": {}, "bico": {}}
ROWS = dict.fromkeys(METHODS)
RESAMPLES = {"resamples": 200, "seed": 0}


def made_up(folder, config, *, blind: str, backwards: str) -> None:
    """Every score falls by 10 a dose, but for one that sees no fault and one that rises; clips of methods are ranked by
    all but these two as the truth ranks them."""
    rng = np.random.default_rng(0)
    lines = []
    for case, fault, dose in dosed_clips(config):
        scores = dict.fromkeys((*toy.SCORES, *TRUTH_SCORES), 50 - 10 * dose)
        swing = (-1) ** (4 * dose) * (list(config.cases).index(case) - 1)
        scores |= {blind: 50 + (0 if dose == 0 else swing), backwards: 50 + 10 * dose}
        lines.append({"case": case, "fault": fault, "dose": dose} | scores)
    write_text(config.paths.doses, pd.DataFrame(lines).to_csv(index=False))
    for level, method in enumerate(config.methods):
        rows = []
        for case in config.cases:
            for seed in config.seeds:
                truth = 10 * level + rng.normal(scale=5)
                scores = dict.fromkeys((*toy.SCORES, *TRUTH_SCORES), truth) | {blind: rng.normal(), backwards: -truth}
                rows.append({"case": case, "seed": seed, "status": "ok"} | scores)
        write_text(config.paths.scores(method), pd.DataFrame(rows).to_csv(index=False))


@pytest.fixture
def config(tmp_path):
    folders = dict.fromkeys(("wan", "vlm", "clip", "dino", "probe"), "none")
    config = toy.config(tmp_path, models=folders, seeds=list(range(8)), methods=METHODS, tables={"table1": ROWS})
    made_up(tmp_path, config, blind="dino_i", backwards="motion_fidelity")
    return config


def test_a_score_that_falls_with_every_fault_is_told_from_one_that_is_blind_and_one_that_rises(config):
    scorers.scorers(config)
    faults = pd.read_csv(config.paths.table("scorers")).set_index(["score", "fault"])
    assert "dynamic_degree" not in faults.index.levels[0]
    good, blind, rising = (faults.loc[score] for score in ("clip_t", "dino_i", "motion_fidelity"))
    assert (good["slope"] == -10).all() and (good["wrong"] == 0).all() and (good["seen_at"] == 0.25).all()
    assert blind["seen_at"].isna().all() and blind["wrong"].between(0.4, 0.6).all()
    assert (rising["slope"] == 10).all() and (rising["wrong"] == 1).all() and rising["seen_at"].isna().all()


def test_a_fault_of_too_few_cases_is_not_said_to_be_unseen(config, monkeypatch):
    monkeypatch.setattr(statistics, "FEWEST", 5)
    scorers.scorers(config)
    text = config.paths.table("scorers", "md").read_text()
    assert "0.00, too few cases" in text and "not seen" not in text


def test_the_page_says_which_score_to_trust_with_what(config):
    scorers.scorers(config)
    text = config.paths.table("scorers", "md").read_text()
    assert "- concept, CLIP-T: **trusted** (6 of 6 faults in order; correlation with truth_concept +1.00" in text
    assert "- concept, DINO-I: **not trusted** (" in text
    assert "- motion, motion fidelity: **not trusted** (0 of 4 faults in order; not copy, path, speed, frozen" in text
    assert "0.00 [0.00, 0.00], seen at 0.25" in text and "1.00 [1.00, 1.00], not seen" in text
    assert config.paths.figure("scorers").exists() and config.paths.figure("scorers", "pdf").exists()


def test_a_score_that_only_knows_the_method_agrees_over_all_rows_and_not_within_them(config):
    for level, method in enumerate(config.methods):
        rows = pd.read_csv(config.paths.scores(method))
        rng = np.random.default_rng(level)
        rows["clip_t"] = 100 * level + rng.normal(size=len(rows))
        write_text(config.paths.scores(method), rows.to_csv(index=False))
    scorers.scorers(config)
    found = pd.read_csv(config.paths.agreement).set_index(["score", "answer", "clips"]).sort_index()
    both = found.loc["clip_t", "truth_concept"]
    assert both.loc["all rows", "correlation"] > 0.5 > 0.4 > abs(both.loc["within rows", "correlation"])
    assert both.loc["all rows", "accuracy"] > both.loc["within rows", "accuracy"]
    controls = [row for row in config.methods if config.methods[row].CONTROL]
    assert controls and set(found["count"]) == {(len(config.methods) - len(controls)) * len(config.cases) * 8}


def test_ratings_by_people_are_answers_too_and_alone_enough(config, tmp_path, monkeypatch):
    bare = toy.config(tmp_path, seeds=list(range(8)), methods=METHODS, tables={"table1": ROWS})
    with pytest.raises(InputError, match="no ratings of these clips, and no probe for exact renderings"):
        scorers.scorers(bare)
    rows = [
        {"case": case, "method": method, "seed": seed, "concept": 1 + (seed + level) % 5, "prompt": 3, "motion": 3}
        for level, method in enumerate(bare.methods)
        for case in bare.cases
        for seed in bare.seeds
    ]
    monkeypatch.setattr("bico.report.scorers.counted_answers", lambda *_: (pd.DataFrame(rows), 0))
    scorers.scorers(bare)
    found = pd.read_csv(bare.paths.agreement)
    assert set(found["answer"]) == {"human_concept", "human_prompt", "human_motion"}
    assert pd.read_csv(bare.paths.table("scorers")).empty
    assert "correlation with human_concept" in bare.paths.table("scorers", "md").read_text()


def test_pairs_in_order_are_counted_and_equal_answers_want_equal_scores():
    clips = pd.DataFrame({"case": list("aabbcc"), "method": ["x", "y"] * 3, "answer": [1.0, 2, 3, 3, 4, 5]})
    clips["score"] = clips["answer"] ** 2
    assert statistics.pair_accuracy(clips, "score", "answer", by=None, **RESAMPLES) == pytest.approx((1, 1, 1, 0))
    clips["score"] = [1.0, 4, 9, 9.1, 16, 25]
    accuracy, *_, tie = statistics.pair_accuracy(clips, "score", "answer", by=None, **RESAMPLES)
    assert (accuracy, tie) == pytest.approx((1, 0.1))
    assert statistics.pair_accuracy(clips, "score", "answer", by="method", **RESAMPLES)[0] == 1
    clips["score"] = -clips["score"]
    accuracy, *_, tie = statistics.pair_accuracy(clips, "score", "answer", by=None, **RESAMPLES)
    assert accuracy == pytest.approx(1 / 15) and tie == pytest.approx(0.1)
    assert np.isnan(statistics.pair_accuracy(clips[:1], "score", "answer", by=None, **RESAMPLES)).all()


def test_without_a_probe_doses_are_refused_in_one_line(capsys):
    assert main(["doses", "--config", str(ROOT / "config" / "paper.yaml")]) == 2
    assert "doses: it compares clips with Toybox scenes: expected models.probe" in capsys.readouterr().err
