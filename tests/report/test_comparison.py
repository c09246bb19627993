"""Two results side by side: equal ones, and each way in which they can differ."""

import shutil

import pytest

from bico.cli.main import main

CSV = "case,seed,status,clip_t,dino_i\na,0,ok,30.1,\na,1,ok,29.0,4.0\n"


@pytest.fixture
def folders(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "scores").mkdir(parents=True)
        (tmp_path / name / "scores" / "bico.csv").write_text(CSV)
    return tmp_path / "one", tmp_path / "two"


def compared(folders, capsys) -> tuple[int, list[str]]:
    status = main(["compare", *map(str, folders)])
    out = capsys.readouterr()
    return status, (out.out or out.err).splitlines()


def test_equal_results_are_equal_whatever_the_order_of_their_rows(folders, capsys):
    lines = CSV.splitlines()
    (folders[1] / "scores/bico.csv").write_text("\n".join([lines[0], lines[2], lines[1]]))
    same = (0, ["0 of 6 cells differ; the sets of rows, cases, seeds and scores are the same"])
    assert compared(folders, capsys) == same
    assert compared([folder / "scores" for folder in folders], capsys) == same


def test_every_cell_that_differs_is_told_with_by_how_much(folders, capsys):
    (folders[1] / "scores/bico.csv").write_text(
        CSV.replace("30.1,", "30.35,7.5").replace("1,ok,29.0,4.0", "1,missing,,")
    )
    assert compared(folders, capsys) == (
        1,
        [
            "bico: case a, seed 0: clip_t 30.1000 and 30.3500 (+0.2500)",
            "bico: case a, seed 0: dino_i nothing and 7.5000",
            "bico: case a, seed 1: status ok and missing",
            "bico: case a, seed 1: clip_t 29.0000 and nothing",
            "bico: case a, seed 1: dino_i 4.0000 and nothing",
            "5 of 6 cells differ; the sets of rows, cases, seeds and scores are the same",
        ],
    )


def test_what_only_one_has_is_told(folders, capsys):
    first, second = folders
    shutil.copy(first / "scores/bico.csv", first / "scores/base.csv")
    (second / "scores/bico.csv").write_text("case,seed,status,clip_t,clean\na,0,ok,30.1,1\na,2,ok,29,1\n")
    status, lines = compared(folders, capsys)
    assert status == 1 and lines == [
        f"row base: only in {first}",
        f"bico: case a, seed 1: only in {first}",
        f"bico: case a, seed 2: only in {second}",
        f"bico: case a, seed 0: column dino_i: only in {first}",
        f"bico: case a, seed 0: column clean: only in {second}",
        "0 of 2 cells differ; the sets of rows, cases, seeds and scores are not the same",
    ]


def test_bad_input_is_one_line(folders, tmp_path, capsys):
    first, second = folders
    for other, said in (
        (tmp_path / "nowhere", "nowhere: no such folder: expected one of results"),
        (tmp_path, f"{tmp_path}: no scores in it"),
    ):
        status, lines = compared((first, other), capsys)
        assert status == 2 and len(lines) == 1 and said in lines[0]
    for text, said in (
        (CSV + "a,1,ok,1,1\n", "bico.csv: case a, seed 1 stands there twice"),
        (CSV[:-9], "bico.csv, row 3: expected 5 cells, got 4"),
        ("method,clip_t\nbico,1\n", "bico.csv, row 1: expected the columns case,seed,status"),
        (CSV.replace("29.0", "high"), "bico.csv, row 3, column clip_t: expected a number or an empty cell"),
    ):
        (second / "scores/bico.csv").write_text(text)
        status, lines = compared(folders, capsys)
        assert status == 2 and len(lines) == 1 and said in lines[0]
