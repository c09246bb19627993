"""The end of a run: its tables in the terminal, where the pictures are, and what makes them."""

import os

import pytest

from bico.config.reading import load
from bico.core.files import write_text
from bico.report.ending import ending, with_targets
from bico.report.names import scope


def command(targets: list[str]) -> str:
    return with_targets(["--cores", "all"], set(), targets)


@pytest.fixture
def config(small):
    config = load(small)
    columns = ["clip_t", "dino_i", "motion_fidelity", "truth_concept", "truth_prompt", "truth_motion", "truth_overall"]
    spans = [f"{column}{end}" for column in columns for end in ("", "_low", "_high")]
    rows = ["dualreal,DualReal,28,7,56,3" + ",89.1,," * 7, "base,,28,28,56,0" + ",43.31,39.7,46.9" * 7]
    write_text(
        config.paths.table("table1"),
        "\n".join([f"method,configuration,cases,scored_cases,clips,missing,{','.join(spans)}", *rows]),
    )
    return config


def test_intervals_stand_where_the_line_is_wide_enough(config):
    wide = ending(config, ["table1"], width=120, command=command)
    assert "concept" in wide and "CLIP-T" not in wide and wide.count("43.3 [39.7, 46.9]") == 4
    narrow = ending(config, ["table1"], width=80, command=command)
    table = [line for line in narrow.splitlines() if line.startswith(("Plain prompt", "DualReal"))]
    assert "CLIP-T" in narrow and "[" not in "".join(table) and max(map(len, table)) <= 80
    assert max(map(len, (line for line in wide.splitlines() if line.startswith(("Plain prompt", "DualReal"))))) <= 100


def test_rows_of_fewer_cases_are_marked(config):
    text = ending(config, ["table1"], width=100, command=command)
    assert text.index("Plain prompt ") < text.index("DualReal *!")
    assert "* These rows cover fewer cases: DualReal 7 of 28 cases." in text and "Plain prompt *" not in text
    assert f"table1.csv: {scope(config)}\n" in text


def test_a_row_whose_clips_failed_is_marked(config):
    text = ending(config, ["table1"], width=100, command=command)
    assert "\nDualReal *!" in text and "Plain prompt !" not in text
    assert "! Clips failed, and means are over the others: DualReal 3 of 56 clips missing." in text


def test_the_command_stands_there_until_all_pictures_are_newer_than_the_scores(config):
    paths = config.paths
    files = [paths.gallery / "index.html", *(paths.figure(f"cases/{case}") for case in config.cases)]
    for file in files:
        write_text(file, "")
    text = ending(config, ["table1"], width=100, command=command)
    assert f"uv run snakemake --cores all -- {paths.figure('table1')}" in text and str(files[0]) in text
    write_text(paths.figure("table1"), "")
    assert "Not made yet" not in ending(config, ["table1"], width=100, command=command)
    write_text(paths.scores("base"), "")
    for file in files:
        os.utime(file, (0, 0))
    text = ending(config, ["table1"], width=100, command=command)
    assert text.endswith(" all") and str(files[0]) not in text


def test_without_a_table_the_end_says_where_the_results_are(config):
    assert ending(config, [], width=100, command=command) == f"Done. The results are in {config.results}/."


@pytest.mark.parametrize(
    "given",
    [
        ["--cores", "all", "--config", "seeds=[0,1]", "--", "results/table1.csv"],
        ["--cores", "all", "--config", "seeds=[0,1]", "-F", "--forcerun", "learn", "--", "results/table1.csv"],
        ["results/table1.csv", "all", "--cores", "all", "--config", "seeds=[0,1]"],
        ["--cores", "all", "all", "results/table1.csv", "--quiet", "--config", "seeds=[0,1]", "results/table1.csv"],
    ],
)
def test_the_command_is_the_one_that_was_given_with_other_targets_and_without_force(given):
    expected = "uv run snakemake --cores all --config 'seeds=[0,1]' -- 'my run/table1.png'"
    assert with_targets(given, {"results/table1.csv", "all"}, ["my run/table1.png"]) == expected
