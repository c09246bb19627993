"""A table is read back as it was written."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bico.core.errors import InputError
from bico.core.records import beside
from bico.core.saving import save_csv
from bico.core.tables import read_lines, read_table

TEXTS = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"])) | st.sampled_from(
    ["NA", "nan", "007", "True", "1e3"]
)
ROWS = st.dictionaries(st.tuples(TEXTS, st.integers(-9, 9)), st.none() | st.integers(-(10**6), 10**6), max_size=6)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tables") / "table.csv"


@given(ROWS, st.randoms())
def test_names_and_numbers_come_back_in_the_order_that_is_expected(file, rows, random):
    written = [(*key, None if number is None else number / 100) for key, number in rows.items()]
    random.shuffle(written)
    types = {"name": str, "seed": int, "score": float}
    written_file = file.with_name("written.csv")  # beside it is a record, so that edits of it are noticed
    save_csv(written_file, pd.DataFrame(written, columns=list(types)))
    table = read_table(written_file, types, by=("name", "seed"), expected=rows)
    assert [*zip(table["name"], table["seed"], strict=True)] == list(rows)
    expected = pd.Series([None if number is None else number / 100 for number in rows.values()], dtype=float)
    pd.testing.assert_series_equal(table["score"].astype(float), expected, check_names=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ", row 1: expected the columns name,score, each once, got ''"),
        ("name;score\n", ", row 1: expected the columns name,score, each once, got 'name;score'"),
        ("name,score,name\n", ", row 1: expected the columns name,score, each once"),
        ("name,score\na,1\n\nb\n", ", row 4: expected 2 cells, got 1"),
        ('name,score\n"' + "a" * 200_000, ", row 2: no row of a CSV file: field larger than"),
    ],
)
def test_what_is_no_such_table_is_named_by_its_row(file, text, expected):
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        read_lines(file, ["name", "score"])
    assert str(caught.value).startswith(f"{file}{expected}")


@pytest.mark.parametrize("cell", ["NA", "nan", "1_0", " 1", "0x1", "one"])
def test_a_word_is_no_number(file, cell):
    file.write_text(f"score\n{cell}\n")
    with pytest.raises(InputError, match=r"row 2, column score: expected a number or an empty cell, got"):
        read_table(file, {"score": float})


def test_a_digit_that_has_changed_since_a_table_was_written_is_told(tmp_path):
    file, types = tmp_path / "scores.csv", {"name": str, "score": float}
    save_csv(file, pd.DataFrame({"name": ["a"], "score": [59.0]}))
    assert read_table(file, types)["score"].tolist() == [59.0]
    text = file.read_text()
    file.write_text(text.replace("59", "46"))
    with pytest.raises(InputError, match="damaged: it is not what was written: delete it, and the next run makes it"):
        read_table(file, types)
    save_csv(file, pd.DataFrame({"name": ["a"], "score": [46.0]}))
    assert read_table(file, types)["score"].tolist() == [46.0]
    beside(file).unlink()  # a table from elsewhere has no record
    assert read_table(file, types)["score"].tolist() == [46.0]
