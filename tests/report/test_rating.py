"""The human study: who sees what, that nothing tells whose clip it is, and the way of ratings back into the table."""

import base64
import csv
import io
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import toy
from browser import contrast, measured, needs_chromium, opened

from bico.config.reading import load
from bico.config.schema import Config
from bico.config.settings import Rating
from bico.core.errors import InputError
from bico.core.files import write_json, write_text
from bico.media.reading import read_clip
from bico.pipeline.preflight import preflight
from bico.report import answers, tables
from bico.report.rating import draw_groups, draw_items, rating

WORTH = {"base": 2, "copy": 4, "bico": 5}

pytestmark = pytest.mark.usefixtures("few_are_enough")


@pytest.fixture(scope="module")
def _study(tmp_path_factory) -> Config:
    """Four raters, three cases each; one clip of BiCo failed."""
    config = toy.config(tmp_path_factory.mktemp("study"), rating={"raters": 4, "groups": 3})
    toy.write_media(config)
    for shift, method in enumerate(config.methods):
        cases = list(config.cases)
        shown = dict(zip(cases, [*cases[shift:], *cases[:shift]], strict=True))
        toy.write_clips(config, method, shown, {("robot_spins", 0): "failed"} if method == "bico" else {})
        rows = [
            {"case": case, "seed": seed, "status": "ok"} | dict.fromkeys(toy.SCORES, 21.0)
            for case in cases
            for seed in (0, 1)
        ]
        write_text(config.results / f"scores/{method}.csv", pd.DataFrame(rows).to_csv(index=False))
    rating(config)
    return config


@pytest.fixture
def study(_study, tmp_path) -> Config:
    """The same in a folder of its own."""
    shutil.copytree(_study.results, tmp_path / "results")
    return _study.model_copy(update={"results": tmp_path / "results"})


def pages(config: Config) -> list[Path]:
    return sorted((config.results / "rating" / "pages").iterdir())


def data_of(page: Path) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL)[1])


def key_of(config: Config) -> pd.DataFrame:
    (path,) = config.paths.rating_keys.iterdir()
    return pd.read_csv(path)


def send_back(config: Config, rate: Callable[[str, str], int]) -> list[Path]:
    """What raters save who give `rate(method, question)`."""
    methods = key_of(config).set_index(["rater", "item"])["method"]
    files = []
    for page in pages(config):
        data = data_of(page)
        items = [clip["item"] for group in data["groups"] for clip in group["clips"]]
        lines = [
            [data["study"], data["rater"], item]
            + [rate(methods[int(data["rater"]), item], question) for question in data["questions"]]
            for item in items
        ]
        files.append(config.paths.rating_answers / f"ratings-{data['study']}-{data['rater']}.csv")
        write_text(files[-1], pd.DataFrame(lines, columns=data["columns"]).to_csv(index=False))
    return files


def problem(config: Config) -> str:
    with pytest.raises(InputError) as caught:
        answers.read_answers(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- who sees what --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raters", "groups", "cases", "seeds"),
    [(6, 10, 28, 2), (28, 10, 28, 2), (28, 10, 17, 3), (5, 10, 28, 2), (3, 3, 10, 1), (4, 10, 3, 2), (1, 10, 28, 2)],
)
def test_cases_and_seeds_are_covered_evenly_and_raters_overlap(raters, groups, cases, seeds):
    made = {f"case_{number}": list(range(seeds)) for number in range(cases)}
    drawn = draw_groups(Rating(raters=raters, groups=groups), made)
    assert [len({case for case, _ in shown}) for shown in drawn] == [min(groups, cases)] * raters
    of_cases = Counter(case for shown in drawn for case, _ in shown)
    of_clips = Counter(group for shown in drawn for group in shown)
    of_seeds = Counter(seed for _, seed in of_clips)
    assert max(of_cases.values()) - min(of_cases.values()) <= 1
    if raters > 1:
        assert min(of_clips.values()) >= 2
        assert len(of_cases) == min(cases, raters * min(groups, cases) // 2)
    assert len(of_seeds) == seeds and max(of_seeds.values()) - min(of_seeds.values()) <= 1
    assert drawn == draw_groups(Rating(raters=raters, groups=groups), made)
    assert drawn != draw_groups(Rating(raters=raters, groups=groups, seed=1), made)


def test_a_group_has_every_clip_that_there_is(study):
    key = key_of(study)
    for (_, case, seed), methods in key.groupby(["rater", "case", "seed"])["method"]:
        missing = {"bico"} if (case, seed) == ("robot_spins", 0) else set()
        assert sorted(methods) == sorted({*study.methods} - missing)
    assert set(key["seed"]) == {0, 1} and set(key["case"]) == set(study.cases)


def test_the_same_study_again(study):
    before = {path.name: path.read_bytes() for path in (study.results / "rating").rglob("*.*")}
    rating(study)
    assert {path.name: path.read_bytes() for path in (study.results / "rating").rglob("*.*")} == before


# --- blinding -------------------------------------------------------------------------------------------------------


def test_nothing_in_a_page_tells_whose_clip_it_is(study):
    labels = map(study.label, study.methods)
    telling = [*study.methods, *labels, *study.cases, *study.sources, str(study.results), "seed", "sha256", "clips/"]
    for page in pages(study):
        text = page.read_text()
        media = [base64.b64decode(content) for content in re.findall(r"base64,([^\"]+)", text)]
        assert len(media) > 9 and re.fullmatch(r"rater-\d.html", page.name)
        bare = re.sub(r"data:(video/mp4|image/png);base64,[^\"]+", "", text)
        assert [word for word in telling if word in bare] == []
        assert [word for word in telling for content in media if word.encode() in content] == []
        for group in data_of(page)["groups"]:
            assert set(group) == {"prompt", "sources", "clips"}
            assert all(set(clip) == {"item", "file"} for clip in group["clips"])
        items = [clip["item"] for group in data_of(page)["groups"] for clip in group["clips"]]
        assert items == list(range(1, len(items) + 1))


def test_a_method_has_no_place_of_its_own(study):
    key = draw_items(study.model_copy(update={"rating": Rating(raters=40, groups=3)}))
    key["place"] = key.groupby(["rater", "case"]).cumcount()
    counts = pd.crosstab(key["method"], key["place"])
    assert counts.shape == (3, 3) and counts.to_numpy().min() > 20


def test_clips_of_full_size_are_made_smaller_for_the_page(study):
    media = study.media.model_copy(update={"height": 256, "width": 320})
    large = study.model_copy(update={"media": media})
    rating(large)
    group = data_of(pages(large)[0])["groups"][0]
    made = study.results / "shown.mp4"
    made.write_bytes(base64.b64decode(group["sources"][1]["file"].partition(",")[2]))
    assert read_clip(made).shape == (9, 256, 320, 3)
    assert group["sources"][0]["file"].startswith("data:image/png") and not data_of(pages(large)[0])["small"]


# --- and back -------------------------------------------------------------------------------------------------------


def test_without_answers_the_columns_are_empty(study):
    table = tables.write_table(study, "table1")
    assert table[list(tables.HUMAN)].isna().all(axis=None) and table["human_ratings"].tolist() == [0, 0, 0]
    text = (study.results / "table1.md").read_text()
    assert "Human ratings of these clips (1 to 5): none yet." in text
    assert "human" not in text.split("## Differences")[1].split("##")[0]


def test_answers_fill_the_table(study):
    send_back(study, lambda method, question: WORTH[method] - (question == "motion"))
    table = tables.write_table(study, "table1").set_index("method")
    assert table["human_concept"].to_dict() == table["human_prompt"].to_dict() == WORTH
    assert table["human_motion"].to_dict() == {method: worth - 1 for method, worth in WORTH.items()}
    assert table.loc["base", ["human_overall", "human_overall_low", "human_overall_high"]].tolist() == pytest.approx(
        [5 / 3] * 3
    )
    assert table["human_ratings"].to_dict() == key_of(study)["method"].value_counts().to_dict()
    text = (study.results / "table1.md").read_text()
    assert f"{len(key_of(study))} by 4 raters" in text and "not counted" not in text
    assert "(interval scale): concept 1.00, prompt 1.00, motion 1.00." in text
    assert "+2.00" not in text and "-3.00 [-3.00, -3.00]" in text.split("## Differences")[1]


def test_intervals_are_over_cases(study):
    files = send_back(study, lambda method, question: 1)
    key = key_of(study).set_index(["rater", "item"])["case"]
    for path in files:
        lines = pd.read_csv(path)
        hard = [key[rater, item] == "robot_spins" for rater, item in zip(lines["rater"], lines["item"], strict=True)]
        lines.loc[hard, "concept"] = 4
        write_text(path, lines.to_csv(index=False))
    row = tables.write_table(study, "table1").set_index("method").loc["base"]
    assert row[["human_concept", "human_concept_low", "human_concept_high"]].tolist() == [2, 1, 4]


def test_ratings_of_one_rater_have_no_agreement(study):
    for path in send_back(study, lambda method, question: WORTH[method])[1:]:
        path.unlink()
    tables.write_table(study, "table1")
    assert "concept not defined, prompt not defined, motion not defined" in (study.results / "table1.md").read_text()


def test_a_clip_that_has_changed_does_not_count(study):
    send_back(study, lambda method, question: WORTH[method])
    path = study.results / "clips" / "base.json"
    manifest = json.loads(path.read_text())
    changed = key_of(study).query("method == 'base'").iloc[0]
    for entry in manifest:
        if (entry["case"], entry["seed"]) == (changed["case"], changed["seed"]):
            entry["sha256"] = "0" * 64
    write_json(path, manifest)
    lost = len(key_of(study).query("method == 'base' and case == @changed.case and seed == @changed.seed"))
    before = key_of(study)["method"].value_counts()
    for _ in range(2):  # a new study of the clips as they are now changes nothing for the answers to the old one
        table = tables.write_table(study, "table1").set_index("method")
        assert table.loc["base", "human_ratings"] == before["base"] - lost
        assert table.loc["copy", "human_ratings"] == before["copy"]
        assert f"{lost} more are not counted" in (study.results / "table1.md").read_text()
        rating(study)
    assert len(list(study.paths.rating_keys.iterdir())) == 2


def test_alpha_of_an_example_by_hand():
    """Pairs (1, 2), (3, 3), (5, 4): observed disagreement (2 + 0 + 2) / 6; expected, of all 30 ordered pairs of the six
    values, 120 / 30. A clip with one rating says nothing."""
    ratings = np.array([[1.0, 3.0, 5.0, np.nan], [2.0, 3.0, 4.0, 1.0]])
    assert answers.alpha(ratings) == pytest.approx(1 - (4 / 6) / 4)
    assert answers.alpha(np.array([[1.0, 5.0], [5.0, 1.0], [np.nan, 1.0]])) < 0


@pytest.mark.parametrize("ratings", [[[1, 2, np.nan], [np.nan, np.nan, 3]], [[4, 4], [4, 4]], [[4, 1], [4, np.nan]]])
def test_alpha_is_not_defined(ratings):
    assert np.isnan(answers.alpha(np.array(ratings, dtype=float)))


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("study", "0123abcd", "a study whose key is here ("),
        ("rater", "9", "a whole number from 1 to 4, got '9'"),
        ("item", "99", "a whole number from 1 to "),
        ("item", "1", "each item of a rater once, but 1 stands in "),
        ("motion", "6", "a whole number from 1 to 5, got '6'"),
        ("prompt", "2.5", "a whole number from 1 to 5, got '2.5'"),
        ("concept", "", "a whole number from 1 to 5, got ''"),
    ],
)
def test_a_bad_answer_is_named_by_row_and_column(study, column, value, expected):
    path = send_back(study, lambda method, question: WORTH[method])[0]
    lines = pd.read_csv(path, dtype=str)
    lines.loc[1, column] = value
    write_text(path, lines.to_csv(index=False))
    assert problem(study).startswith(f"{path}, row 3, column {column}: expected {expected}")


@pytest.mark.parametrize(
    "text", ["", "study;rater;item;concept;prompt;motion\n", "\x00\xff", "study,rater,item\n1,2,3\n"]
)
def test_a_file_that_no_page_saved_is_named(study, text):
    path = study.paths.rating_answers / "ratings-1.csv"
    path.write_bytes(text.encode("latin-1"))
    assert problem(study).startswith(f"{path}, row 1: expected the columns study,rater,item,concept,prompt,motion")


def test_a_file_that_stands_there_twice_is_named_with_its_twin(study):
    path = send_back(study, lambda method, question: WORTH[method])[0]
    shutil.copy(path, twin := path.with_name("ratings-1 (1).csv"))
    assert str(path) in problem(study) and str(twin) in problem(study)


def test_answers_are_checked_before_anything_runs(small):
    config = load(small)
    write_text(config.paths.rating_answers / "ratings-1.csv", ",".join(answers.COLUMNS) + "\n0123abcd,1,1,5,5,5\n")
    with pytest.raises(InputError, match=r"ratings-1.csv, row 2, column study: .* \(there is none\), got '0123abcd'"):
        preflight(config)


# --- in a browser ---------------------------------------------------------------------------------------------------


@needs_chromium
def test_a_page_fits_a_phone_and_a_finger(study):
    found = measured(pages(study)[0], width=390, dark=True)
    assert found["width"] == 390 and found["overflowing"] == [] and found["small"] == []
    assert found["unlabelled"] == 0 and "clip 1" in found["labels"] and found["background"] == "rgb(22, 22, 22)"
    assert found["enlarged"] > 350 > 200 > found["shrunk"] and found["sought"] == 0


RATE = "(sets, count) => sets.slice(0, count).forEach((set) => set.querySelectorAll('input')[4].click())"
UNRATED = "fieldset:not(:has(:checked))"


@needs_chromium
def test_a_page_is_filled_in_chromium(study):
    items = len(key_of(study).query("rater == 1"))
    with opened(pages(study)[0]) as page:
        assert contrast(page) > 10
        said, save, groups = page.locator("#said"), page.locator("#save"), page.locator("nav button")

        def saved() -> tuple[str, str]:
            with page.expect_download() as waited:
                save.click()
            return waited.value.suggested_filename, Path(waited.value.path()).read_text()

        for key in "432":
            page.keyboard.press(key)
        save.click()
        assert said.inner_text().startswith(f"Not saved yet: {items - 1} of {items} clips")
        _, part = saved()
        assert re.match(r"Saved as ratings-study-\w+-1.csv, without", said.inner_text())
        assert len(part.splitlines()) == 2  # the header, and the only clip that was rated
        save.click()
        page.eval_on_selector_all(UNRATED, RATE, 3)
        assert said.inner_text().startswith(f"Not saved yet: {items - 2} of {items} clips")
        for group in groups.all():
            group.click()
            page.eval_on_selector_all(UNRATED, RATE, items * 3)
        complete = said.inner_text()
        assert complete.startswith("Ratings have changed since they were saved")

        groups.nth(1).click()
        page.reload()  # as when the browser was closed
        assert page.locator("#progress").inner_text() == f"group 2 of 3 · {items} of {items} clips rated"
        name, text = saved()
        assert re.match(r"Saved as ratings-study-\w+-1.csv: please send", said.inner_text())
        groups.nth(0).click()
        page.locator("fieldset input").first.click(force=True)
        assert said.inner_text() == complete
    first, *others = csv.reader(io.StringIO(text.split("\n", 1)[1]))
    assert first[3:] == ["4", "3", "2"] and all(line[3:] == ["5", "5", "5"] for line in others)
    write_text(study.paths.rating_answers / name, text)
    assert len(answers.read_answers(study)) == items


def test_two_seeds_of_a_case_are_two_clips():
    rated = {"rater": ["1", "2"], "case": "cat", "method": "bico", "seed": [0, 1], "concept": [1.0, 5.0]}
    assert np.isnan(answers.agreement(pd.DataFrame(rated), "concept"))


@pytest.mark.parametrize("name", ["second_round/ratings-1.csv", "RATINGS-2.CSV", "ratings-3.xlsx"])
def test_an_answer_that_would_not_be_read_is_refused(study, name):
    write_text(study.paths.rating_answers / name, "")
    with pytest.raises(InputError, match=r"answers/.*: only files .csv are read there"):
        answers.read_answers(study)


def test_answers_about_a_row_that_was_renamed_are_counted_as_outdated(study):
    send_back(study, lambda method, question: WORTH[method])
    rows = [row for row in study.methods if row != "base"]
    methods = {row: study.methods[row] for row in rows}
    before = len(answers.read_answers(study))
    found, outdated = answers.counted_answers(study.model_copy(update={"methods": methods}), rows)
    assert outdated > 0 and len(found) + outdated == before


def test_rater_1_of_another_study_is_somebody_else(study):
    send_back(study, lambda method, question: WORTH[method])
    before = set(study.paths.rating_keys.iterdir())
    rating(study.model_copy(update={"rating": Rating(raters=4, groups=3, seed=1)}))
    (key,) = set(study.paths.rating_keys.iterdir()) - before
    lines = pd.read_csv(key)[["rater", "item"]].assign(study=key.stem, concept=3, prompt=3, motion=3)
    write_text(study.paths.rating_answers / "more.csv", lines[list(answers.COLUMNS)].to_csv(index=False))
    assert len({answer["rater"] for answer in answers.read_answers(study)}) == 8
