"""Scores are found by their names, and what does not fit is one line."""

import subprocess
import sys
from types import ModuleType

import pytest

from bico.config.reading import load
from bico.config.scores import score_names
from bico.core.errors import InputError

SCORE = """
from bico.config.scores import Column, ScoreSettings
from bico.scoring.protocol import Measured


class Settings(ScoreSettings):
    COLUMNS = (Column("own", "own", description="it"),)
    weight: float = 1.0


class Score:
    def __init__(self, settings, shared):
        pass

    def measure(self, clip):
        return Measured({"own": 1.0})
"""


def problem(toybox, scores) -> str:
    with pytest.raises(InputError) as error:
        load(toybox | {"scoring": {"scores": scores}}, name="my.yaml")
    return str(error.value)


def test_an_unknown_score_names_the_nearest(toybox):
    message = problem(toybox, {"clip_i": {}})
    assert message.startswith(
        "my.yaml: scoring.scores: unknown score 'clip_i': did you mean 'clip_t'? Or add bico/scoring"
    )
    assert "unknown key 'foregruond': did you mean 'foreground'?" in problem(
        toybox, {"dino_foreground": {"foregruond": "motion"}}
    )


def test_a_score_is_named_once(toybox):
    with pytest.raises(InputError, match="tested: 'clip_t' is among 'scores' too: expected it once"):
        load(toybox | {"scoring": {"scores": {"clip_t": {}}, "tested": {"clip_t": {}}}})


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("class Settings(ScoreSettings)", "class Other(ScoreSettings)", "no 'Settings' in it that derives from"),
        ('(Column("own", "own", description="it"),)', "()", "COLUMNS of its Settings: expected a tuple of Column"),
        ('Column("own",', 'Column("truth_own",', "COLUMNS: 'truth_own': expected a name of letters"),
        ('Column("own",', 'Column("own_low",', "COLUMNS: 'own_low': expected a name of letters"),
        ('Column("own",', 'Column("clip_t",', None),
        ("class Score:", "class Scores:", "no class 'Score' in it"),
        ("def measure(", "def mesure(", "no 'measure' in its Score"),
        ("", "", None),
    ],
)
def test_a_score_that_is_half_done(before, after, expected, toybox, tmp_path, monkeypatch):
    assert before in SCORE
    (tmp_path / "own.py").write_text(code := SCORE.replace(before, after))
    (tmp_path / "clip_t.py").touch()  # it is imported from its own place
    own = ModuleType("bico.scoring.scores.own")
    exec(code, vars(own))
    monkeypatch.setattr("bico.config.scores.SCORES", tmp_path)
    monkeypatch.setitem(sys.modules, "bico.scoring.scores.own", own)
    if expected:
        message = problem(toybox, {"own": {}})
        assert message.startswith(f"my.yaml: scoring.scores: bico/scoring/scores/own.py: {expected}")
        assert "see docs/extending.md" in message
    elif "clip_t" in after:
        assert "'clip_t': 'own' has a column clip_t too" in problem(toybox, {"own": {}, "clip_t": {}})
    else:
        assert load(toybox | {"scoring": {"scores": {"own": None}}}).scoring.scores["own"].weight == 1.0


def test_settings_of_scores_open_no_model():
    names = ", ".join(f"bico.scoring.scores.{name}" for name in score_names())
    code = f"import sys, {names}; print({{'torch', 'cv2', 'timm', 'open_clip', 'transformers'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
