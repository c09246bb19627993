"""Fonts: letters that the default font lacks, and letters that no font has."""

import logging
import warnings

import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from bico.report import style

CAT = "一只猫在海滩上跳跃"


def test_letters_of_the_houses_own_font_need_no_other():
    assert style.fonts("“a cat” → café") == ([style.FONT], "")


def test_a_prompt_with_prices_is_drawn_as_it_stands(tmp_path):
    with style.styled(["a $5#1 and $6"]):
        figure = Figure()
        text = figure.text(0, 0, "a $5#1 and $6")
        style.save(figure, tmp_path / "figure.png")
        assert not text.get_parse_math()


def test_letters_that_no_font_has_are_told_in_one_notice(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        with style.styled([f"a cat {CAT}", CAT]):
            figure = Figure()
            figure.text(0, 0, CAT)
            style.save(figure, tmp_path / "figure.png")
    (notice,) = caplog.messages
    assert notice.startswith(f"notice: no installed font has {''.join(sorted(CAT))}:")


@pytest.mark.skipif(bool(style.fonts(CAT)[1]), reason="needs a font with Chinese letters")
def test_a_font_is_found_for_letters_of_another_script(tmp_path):
    families, unknown = style.fonts(f"a cat: {CAT}")
    assert families[0] == style.FONT and len(families) > 1 and not unknown
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of every letter that it draws as a box
        with style.styled([CAT]):
            figure = Figure()
            figure.text(0, 0, CAT)
            style.save_pair(figure, tmp_path / "figure.png")
            assert font_manager.FontProperties().get_family() == families
