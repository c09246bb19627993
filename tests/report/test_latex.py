"""Tables for papers."""

import math
import re
import shutil
import subprocess

import pytest

from bico.report import latex

ODD = r"50% of A&B_c #1 {$x^2$} ~ \n <b> |"
HEADINGS = {"clip_t": "CLIP-T", "truth_motion": "Motion", "paper_overall": "Paper"}
GROUPS = [
    [
        {"label": ODD, "covers": "", "clip_t": 12.34, "clip_t_low": 10.0, "clip_t_high": 14.0, "truth_motion": -3.21},
        {"label": "BiCo, isolated", "covers": "", "clip_t": math.nan, "clip_t_low": math.nan, "clip_t_high": math.nan},
    ],
    [{"label": "DualReal", "covers": "7 of 28 cases", "clip_t": 99.0, "paper_overall": 4.5}],
    [],
]


@pytest.fixture
def text() -> str:
    return latex.document(GROUPS, HEADINGS, ODD, "toy-table1")


def test_numbers_intervals_and_gaps_are_where_they_belong(text):
    body = text.split("\\toprule\n")[1].split("\\bottomrule")[0].splitlines()
    assert body == [
        r"Method & CLIP-T & Motion & Paper \\",
        r"\midrule",
        rf"{{}}{latex.escaped(ODD)} & $12.3$ & $-3.2$ &  \\",
        r" & {\scriptsize [$10.0$,$14.0$]} &  &  \\",
        r"{}BiCo, isolated &  &  &  \\",
        r"\midrule",
        r"{}DualReal & $99.0$ &  & $4.50$ \\",
        r"{\scriptsize 7 of 28 cases} &  &  &  \\",
    ]
    assert text.count("\\begin") == text.count("\\end") == 2 and "\\label{tab:toy-table1}" in text


def test_no_letter_of_a_name_is_taken_for_a_command():
    assert not re.search(r"(?<!\\)[&%$#_]|[~^<>|]", latex.escaped(ODD))


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
def test_it_compiles(text, tmp_path):
    start = "\\documentclass[twocolumn]{article}\\usepackage{booktabs}\\begin{document}"
    (tmp_path / "paper.tex").write_text(f"{start}\n{text}\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "paper.pdf").is_file()
