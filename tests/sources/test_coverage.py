"""What captions name of bound phrases: the table, and the notices before anything is trained."""

import logging

import pandas as pd
import pytest
import yaml
from conftest import ROOT
from files import write

from bico.cli.main import main
from bico.config.reading import load
from bico.core.files import write_json
from bico.sources.coverage import log_coverage, notice_coverage, write_coverage

COUNTS = {"asked": 60, "rejected": 0, "template": 0, "invalid_json": 0, "distinct": 60}


@pytest.fixture
def rows_of_the_paper(tmp_path):
    return load(yaml.safe_load((ROOT / "config" / "paper.yaml").read_text()) | {"results": str(tmp_path)})


@pytest.fixture
def paper(rows_of_the_paper):
    """Its sources and cases, without rows."""
    return rows_of_the_paper.model_copy(update={"methods": {}})


def write_captions(config, source: str, captions: list[str], key_word: str = "thing", **counts: int) -> None:
    found = {"spatial": [key_word], "temporal": [], "captions": captions, "frame_captions": []}
    write_json(config.paths.concepts(source), found | {"counts": COUNTS | counts})


def notices(config, caplog) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="bico"):
        notice_coverage(config)
    return caplog.messages


def bound(config) -> list[tuple[str, str, str]]:
    return [
        (case, source, phrase)
        for case, entry in config.cases.items()
        for source, phrases in entry.bind.items()
        for phrase in phrases
    ]


def test_captions_that_share_only_function_words_with_a_phrase_silence_no_notice(paper, caplog):
    for source in paper.sources:
        write_captions(paper, source, ["a picture of the thing in it, with a view on and by an other"])
    said = notices(paper, caplog)
    assert len(said) == len(bound(paper)) == 44
    for (case, source, phrase), notice in zip(bound(paper), said, strict=True):
        assert notice.startswith(
            f"notice: cases.{case}: no caption of {source} names any word of '{phrase}', so nothing"
        )
        assert (
            notice.endswith(f"its key words are thing (set them under sources.{source}.concepts)")
            and "\n" not in notice
        )


def test_captions_that_hold_the_phrases_are_no_notice(paper, caplog):
    for source in paper.sources:
        phrases = " and ".join(phrase for _, given, phrase in bound(paper) if given == source)
        write_captions(paper, source, [phrases], key_word=phrases)
    assert notices(paper, caplog) == []
    write_coverage(paper)
    table = pd.read_csv(paper.paths.table("coverage"))
    assert len(table) == 44 and (table[["ever", "on_average"]] == 1).all(axis=None)


def test_the_words_that_no_caption_names_are_told_and_how_often_the_others_stand(paper, caplog):
    paper = paper.model_copy(update={"cases": {"beagle_bar": paper.cases["beagle_bar"]}})
    write_captions(paper, "dog_bige_1", ["Dogs and a collar", "one dog", "it wears a collar", "a cat"])
    expected = (
        "notice: cases.beagle_bar: captions of dog_bige_1 name 31 % of the content words of 'A beagle dog wearing a "
        "collar' on average, and never 'beagle', so little is learned under it; its key words are thing (set them "
        "under sources.dog_bige_1.concepts)"
    )
    assert notices(paper, caplog) == [expected]
    write_coverage(paper)  # the other source has no captions yet
    (row,) = pd.read_csv(paper.paths.table("coverage")).to_dict(orient="records")
    assert row["named"] == "beagle 0, dog 2, wearing 1, collar 2"
    assert (row["ever"], row["on_average"], row["captions"]) == (0.75, 0.31, 4)
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="bico"):
        log_coverage(paper)
    assert caplog.messages == [
        "dog_bige_1: 'A beagle dog wearing a collar': 31 % of its content words in a caption, on average "
        "(beagle 0, dog 2, wearing 1, collar 2 of 4 captions)"
    ]


def test_words_that_rows_with_key_words_alone_never_train_are_told(rows_of_the_paper, caplog):
    """Captions hold the whole phrase, but such a row changes only "beagle", and a composition binds all words."""
    paper = rows_of_the_paper
    paper = paper.model_copy(update={"cases": {"beagle_bar": paper.cases["beagle_bar"]}})
    write_captions(paper, "dog_bige_1", ["A beagle dog wearing a collar"], key_word="beagle")
    assert notices(paper, caplog) == [
        "notice: sources.dog_bige_1: rows that train key words alone (bico_isolated) do not train 'dog', 'wearing', "
        "'collar', which cases bind: make them key words under sources.dog_bige_1.concepts"
    ]
    write_coverage(paper)
    assert pd.read_csv(paper.paths.table("coverage"))["beside_key_words"].tolist() == ["dog, wearing, collar"]
    rows = {row: settings for row, settings in paper.methods.items() if row != "bico_isolated"}
    assert notices(paper.model_copy(update={"methods": rows}), caplog) == []


def test_function_words_that_an_edit_binds_beside_others_are_no_notice(paper, caplog):
    case = paper.cases["beagle_bar"].model_copy(
        update={"prompt": "a robot on a rug", "bind": {"dog_bige_1": ["a", "on a rug"]}}
    )
    paper = paper.model_copy(update={"cases": {"edit": case}, "methods": {}})
    write_captions(paper, "dog_bige_1", ["a dog on a rug"])
    assert notices(paper, caplog) == []
    alone = case.model_copy(update={"bind": {"dog_bige_1": ["a"]}})
    (notice,) = notices(paper.model_copy(update={"cases": {"edit": alone}}), caplog)
    assert notice.startswith("notice: cases.edit: 'a' has only function words")


def test_rejected_captions_and_templates_are_counted_and_many_are_a_notice(paper, caplog):
    paper = paper.model_copy(update={"cases": {"elephant_bear": paper.cases["elephant_bear"]}})
    phrases = {source: phrase for _, source, phrase in bound(paper)}
    write_captions(paper, "elephant1", [phrases["elephant1"]] * 60, asked=150, rejected=100, template=10)
    write_captions(paper, "bear", [phrases["bear"]] * 60, asked=80, rejected=20)
    (notice,) = notices(paper, caplog)
    assert notice.startswith(
        "notice: sources.elephant1: 100 of 150 captions of the VLM were rejected, because a key word"
    )
    assert notice.endswith(
        "or they were too long, and 10 of 60 come from a template. Set fewer or simpler key words under "
        "sources.elephant1.concepts."
    )
    write_coverage(paper)
    table = pd.read_csv(paper.paths.table("coverage")).set_index("source")
    assert table.loc["elephant1", ["asked", "rejected", "template"]].tolist() == [150, 100, 10]
    assert table.loc["bear", ["asked", "rejected", "template"]].tolist() == [80, 20, 0]


def test_captions_from_templates_are_a_notice_that_shows_one(paper, caplog):
    paper = paper.model_copy(update={"cases": {"elephant_bear": paper.cases["elephant_bear"]}})
    phrases = {source: phrase for _, source, phrase in bound(paper)}
    phrase = phrases["elephant1"]
    captions = [f"here is {phrase}", f"{phrase}, seen together", f"a view with {phrase}"]
    write_captions(paper, "elephant1", captions, phrase, asked=9, rejected=2, template=2)
    write_captions(paper, "bear", [phrases["bear"]])
    assert notices(paper, caplog) == [
        f"notice: sources.elephant1: 2 of 3 captions come from a template, such as '{phrase}, seen together', because "
        "those of the VLM lacked a key word or were too long"
    ]


def test_words_that_no_caption_names_of_phrases_that_are_else_well_named_are_one_notice_of_their_source(paper, caplog):
    bind = {"dog_bige_1": ["A beagle dog", "wearing a collar"], "bartender": ["in the"]}
    case = paper.cases["beagle_bar"].model_copy(update={"bind": bind})
    paper = paper.model_copy(update={"cases": {"beagle_bar": case}})
    write_captions(paper, "dog_bige_1", ["Dogs and a collar", "one dog, a collar"])  # half of each phrase
    write_captions(paper, "bartender", ["a bar in the city"])
    assert notices(paper, caplog) == [
        "notice: cases.beagle_bar: 'in the' has only function words, so captions teach nothing under it: bind a noun "
        "or a verb",
        "notice: sources.dog_bige_1: no caption names 'beagle', 'wearing'",
    ]
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="bico"):
        log_coverage(paper)
    assert caplog.messages[-1].startswith("bartender: 'in the': 100 % of its words in a caption, on average")


def test_the_command_says_what_captions_do_not_teach_and_that_there_are_none(small, tmp_path, capsys):
    """A new case whose sources have captions already runs `coverage` and no longer `concepts`."""
    small["cases"] = {"cat": {"prompt": "a cat dozing", "bind": {"cat_beach": ["cat"], "fish_bouncing": ["dozing"]}}}
    arguments = ["coverage", "--config", write(small, tmp_path)]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error == (
        f"error: {tmp_path}/results/concepts: no captions of a bound source: expected what `bico concepts` writes; run "
        "it first\n"
    )
    config = load(small)
    write_captions(config, "cat_beach", ["a cat"])
    write_captions(config, "fish_bouncing", ["a fish bouncing"])
    assert main(arguments) == 0
    assert capsys.readouterr().err.startswith(
        "notice: cases.cat: no caption of fish_bouncing names any word of 'dozing', so nothing is learned under it"
    )
    assert len(pd.read_csv(config.paths.table("coverage"))) == 2
