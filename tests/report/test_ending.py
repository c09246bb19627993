"""The end of a run: its tables in the terminal, where the pictures are, and what makes them."""

from pathlib import Path

import pytest

from bico.config.reading import load
from bico.core.files import write_text
from bico.report.ending import ending, with_target

COMMAND = "uv run snakemake --cores all -- all"


@pytest.fixture
def config(small):
    config = load(small)
    columns = ["clip_t", "dino_i", "motion_fidelity", "truth_concept", "truth_prompt", "truth_motion", "truth_overall"]
    spans = [f"{column}{end}" for column in columns for end in ("", "_low", "_high")]
    rows = ["base,28,1,0,0" + ",43.31,39.7,46.9" * 7, "dualreal,28,2,1,42" + ",89.1,," * 7]
    write_text(
        config.paths.table("table1"),
        "\n".join([f"method,cases,seeds,trainings,not_supported,{','.join(spans)}", *rows]),
    )
    return config


def test_intervals_stand_where_the_line_is_wide_enough(config):
    wide = ending(config, ["table1"], width=120, command=COMMAND)
    assert "concept" in wide and "CLIP-T" not in wide and wide.count("43.3 [39.7, 46.9]") == 4
    narrow = ending(config, ["table1"], width=80, command=COMMAND)
    table = [line for line in narrow.splitlines() if line.startswith(("base", "dualreal"))]
    assert "CLIP-T" in narrow and "[" not in "".join(table) and max(map(len, table)) <= 80
    assert max(map(len, (line for line in wide.splitlines() if line.startswith(("base", "dualreal"))))) <= 100


def test_rows_of_fewer_cases_are_marked(config):
    text = ending(config, ["table1"], width=100, command=COMMAND)
    assert "dualreal *" in text and "* covers fewer cases (dualreal 7)" in text and "base *" not in text
    assert "28 cases, 2 seeds, 1 training of each row" in text


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
