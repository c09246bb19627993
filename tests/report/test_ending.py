"""The end of a run: its tables in the terminal, where the pictures are, and what makes them."""

from pathlib import Path

import pytest

from bico.config.reading import load
from bico.core.files import write_text
from bico.report.ending import ending, with_target
from bico.report.names import scope

COMMAND = "uv run snakemake --cores all -- all"


@pytest.fixture
def config(small):
    config = load(small)
    columns = ["clip_t", "dino_i", "motion_fidelity", "truth_concept", "truth_prompt", "truth_motion", "truth_overall"]
    spans = [f"{column}{end}" for column in columns for end in ("", "_low", "_high")]
    rows = ["dualreal,DualReal,28,7" + ",89.1,," * 7, "base,,28,28" + ",43.31,39.7,46.9" * 7]
    write_text(
        config.paths.table("table1"),
        "\n".join([f"method,configuration,cases,scored_cases,{','.join(spans)}", *rows]),
    )
    return config


def test_intervals_stand_where_the_line_is_wide_enough(config):
    wide = ending(config, ["table1"], width=120, command=COMMAND)
    assert "concept" in wide and "CLIP-T" not in wide and wide.count("43.3 [39.7, 46.9]") == 4
    narrow = ending(config, ["table1"], width=80, command=COMMAND)
    table = [line for line in narrow.splitlines() if line.startswith(("Plain prompt", "DualReal"))]
    assert "CLIP-T" in narrow and "[" not in "".join(table) and max(map(len, table)) <= 80
    assert max(map(len, (line for line in wide.splitlines() if line.startswith(("Plain prompt", "DualReal"))))) <= 100


def test_rows_of_fewer_cases_are_marked(config):
    text = ending(config, ["table1"], width=100, command=COMMAND)
    assert text.index("Plain prompt ") < text.index("DualReal *")
    assert "* covers fewer cases (DualReal 7 of 28 cases)" in text and "Plain prompt *" not in text
    assert f"table1.csv: {scope(config)}\n" in text


def test_the_command_stands_there_until_all_pictures_are_made(config):
    assert COMMAND in ending(config, ["table1"], width=100, command=COMMAND)
    paths = config.paths
    pages = [paths.gallery / "index.html", paths.figure("table1")]
    for file in [*pages, *(paths.figure(f"cases/{case}") for case in config.cases)]:
        write_text(file, "")
    text = ending(config, ["table1"], width=100, command=COMMAND)
    assert COMMAND not in text and all(str(page) in text for page in pages)


def test_without_a_table_the_end_says_where_the_results_are(config):
    assert ending(config, [], width=100, command=COMMAND) == f"Done. The results are in {config.results}/."


def test_the_command_is_the_one_that_was_given_with_another_target():
    given = ["--cores", "all", "--config", "seeds=[0,1]", "--", "results/table1.csv"]
    expected = "uv run snakemake --cores all --config 'seeds=[0,1]' -- all"
    assert with_target(given, {"results/table1.csv"}, "all") == expected
    assert with_target(["--cores", "all", str(Path("results/table1.csv"))], {"results/table1.csv"}, "all") == COMMAND
