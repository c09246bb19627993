"""What an edit makes stale: as little as possible, and all that has to be."""

from pathlib import Path

import pytest
import yaml
from dagtools import jobs, pretend_results, snakemake

from bico.config.settings import Scoring

# What hangs on the clips of all rows but `copy`, and on all clips.
AFTER_CLIPS = {"figures": 1, "gallery": 1, "table": 1, "plot": 1, "entry": 1, "all": 1}
CLIPS = {"generate": 8, "score": 8} | AFTER_CLIPS
LEARNED_CLIPS = {"generate": 6, "score": 6} | AFTER_CLIPS  # of rows that learn
ENCODED = {"encode": 1, "learn": 6} | LEARNED_CLIPS
ONE_ROW = {"generate": 1, "score": 1} | AFTER_CLIPS
SCORED = {"calibrate": 1, "score": 8, "gallery": 1, "table": 1, "plot": 1, "entry": 1, "all": 1}
CODE = "\nEDITED = True\n"

EDITS = {
    # What only says something
    "a word of the README": ("README.md", None, {}),
    "a docstring": ("bico/training/loop.py", ("The one training loop", "A training loop"), {}),
    "the description of a setting": ("bico/methods/bico/settings.py", ("Factor on what", "Scale of what"), {}),
    "a progress line": ("bico/core/progress.py", ("s elapsed", "seconds elapsed"), {}),
    "the message of an error in training": ("bico/training/metrics.py", ("lower the learning_rate", "try less"), {}),
    "a printed line": ("bico/scoring/scoring.py", ("(the exact rendering)", "(the truth)"), {}),
    # What is done before a run, or beside it
    "the estimate": ("bico/profiling/estimate.py", None, {}),
    "the command line": ("bico/cli/main.py", None, {}),
    "how records are kept": ("bico/core/records.py", None, {}),
    # Sources
    "a caption template": ("bico/sources/instructions.py", None, {"concepts": 1, "coverage": 1} | ENCODED),
    "what is encoded": ("bico/sources/encoding.py", None, ENCODED),
    "which words are bound": ("bico/prompts/words.py", None, {"learn": 2} | CLIPS),  # two rows learn from whole prompts
    "which words say what is seen": (
        "bico/prompts/content_words.py", None,
        {"coverage": 1, "table": 1, "plot": 1, "entry": 1, "all": 1},
    ),
    # Learning and composing
    "the training step": ("bico/training/loop.py", None, {"learn": 6} | LEARNED_CLIPS),
    "compiled blocks": ("bico/models/wan/acceleration.py", None, {"learn": 6} | LEARNED_CLIPS),
    "the sampling loop": ("bico/models/wan/sampling.py", None, CLIPS | {"generate": 7, "score": 7}),
    "how one method learns": ("bico/methods/db_lora/learn.py", None, {"learn": 1} | ONE_ROW),
    "how one method composes": ("bico/methods/db_lora/compose.py", None, ONE_ROW),
    # Results
    "a score": ("bico/scoring/scores/dino_i.py", None, SCORED),
    "a judge that scores share": ("bico/scoring/dino_judge.py", None, SCORED),
    "a score that the config does not name": ("bico/scoring/scores/vqa.py", None, {}),
    "how a foreground is found, for a score that the config does not name": ("bico/scoring/foreground.py", None, {}),
    "the meaning of a score": (
        "bico/scoring/scores/clip_t.py", ("similarity of frames and prompt, x100", "similarity, x100"),
        {"gallery": 1, "table": 1, "plot": 1, "entry": 1, "all": 1},
    ),
    "a plot": ("bico/report/plots.py", None, {"plot": 1, "all": 1}),
    "a page": ("bico/report/gallery.html", None, {"gallery": 1, "all": 1}),
    "what raters say": ("bico/report/answers.py", None, {"table": 1, "plot": 1, "entry": 1, "all": 1}),
    "the pictures of cases": ("bico/report/figures.py", None, {"figures": 1, "all": 1}),
}  # fmt: skip


@pytest.fixture
def scheduled(checkout, config_file):
    """Jobs of a dry run after everything has been made."""
    pretend_results(checkout, config_file)
    return lambda: jobs(snakemake("-n", "--configfile", config_file, folder=checkout).stdout)


def test_an_edit_makes_stale_what_depends_on_it_and_nothing_else(checkout, scheduled):
    found = {"nothing": scheduled()}
    for edit, (file, change, _) in EDITS.items():
        edited = checkout / file
        before = edited.read_text(encoding="utf-8")
        after = before + CODE if change is None else before.replace(*change)
        assert after != before, f"{edit}: the text to change is not in {file}"
        edited.write_text(after, encoding="utf-8")
        found[edit] = scheduled()
        edited.write_text(before, encoding="utf-8")
    assert found == {"nothing": {}} | {edit: due for edit, (_, _, due) in EDITS.items()}


def test_settings_of_composing_make_no_training_stale(scheduled, config_file, small):
    small["methods"]["bico"]["strength"] = 0.5
    write(config_file, small)
    found = scheduled()
    assert found["generate"] == 1 and "learn" not in found


def test_a_new_score_makes_only_scoring_stale(scheduled, config_file, small):
    scores = dict.fromkeys(Scoring().scores)
    small["scoring"] |= {"scores": scores | {"dino_foreground": {"foreground": "motion"}}, "tested": {}}
    write(config_file, small)
    assert scheduled() == SCORED


def test_bookkeeping_makes_nothing_stale(scheduled, config_file, small):
    small["methods"]["bico"] |= {"eval_every": 7, "checkpoint_every": 7}
    write(config_file, small)
    assert scheduled() == {}


def test_other_sources_of_a_case_are_learned(scheduled, config_file, small):
    bind = small["cases"]["cat_bouncing_in_the_city"]["bind"]
    small["sources"]["robot_growing"] = small["sources"].pop("fish_bouncing") | {"kind": "video"}
    bind["robot_growing"] = bind.pop("fish_bouncing")
    small["cases"]["cat_bouncing_in_the_city"]["truth"]["motion"] = "robot_growing"
    write(config_file, small)
    assert scheduled()["learn"] == 6


def write(config_file: Path, config: dict) -> None:
    config_file.write_text(yaml.safe_dump(config, sort_keys=False))
