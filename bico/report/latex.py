r"""A table of results for a paper, in LaTeX that needs only `\usepackage{booktabs}`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}


def document(
    groups: Sequence[Sequence[Mapping[str, Any]]], headings: Mapping[str, str], caption: str, name: str
) -> str:
    """A `table*` of rows in groups, with a rule between groups.

    Args:
        groups: rows. Each has its "label"; "covers" if it does not cover all cases; and for some columns a mean and the
            ends `<column>_low` and `<column>_high` of its interval, which are printed below it in brackets if they
            differ. Cells with NaN or without a value stay empty.
        headings: column -> its heading, in LaTeX.
        caption: plain text.
        name: for `\\ref{tab:<name>}`.
    """
    body = "\\midrule\n".join("".join(_row(row, list(headings)) for row in group) for group in groups if group)
    first_line = " & ".join(["Method", *headings.values()])
    return (
        "% Needs \\usepackage{booktabs}.\n"
        "\\begin{table*}\n"
        "  \\centering\n"
        "  \\footnotesize\n"
        "  \\setlength{\\tabcolsep}{2pt}\n"
        f"  \\caption{{{escaped(caption)}}}\n"
        f"  \\label{{tab:{name}}}\n"
        f"  \\begin{{tabular}}{{l{'r' * len(headings)}}}\n"
        f"\\toprule\n{first_line} \\\\\n\\midrule\n{body}\\bottomrule\n"
        "  \\end{tabular}\n"
        "\\end{table*}\n"
    )


def escaped(text: str) -> str:
    """Plain text with LaTeX's special characters escaped."""
    return "".join(SPECIAL.get(letter, letter) for letter in text)


def _row(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    means = [_number(row.get(column, math.nan), digits=2 if column == "paper_overall" else 1) for column in columns]
    ends = [[_number(row.get(f"{column}_{end}", math.nan)) for end in ("low", "high")] for column in columns]
    intervals = [f"{{\\scriptsize [{low},{high}]}}" if low != high else "" for low, high in ends]
    lines = [["{}" + escaped(row["label"]), *means]]  # braces, else "[" or "*" would belong to the line end before
    if row["covers"] or any(intervals):
        lines.append([f"{{\\scriptsize {escaped(row['covers'])}}}" if row["covers"] else "", *intervals])
    return "".join(f"{' & '.join(line)} \\\\\n" for line in lines)


def _number(value: float, digits: int = 1) -> str:
    return f"${value:.{digits}f}$" if math.isfinite(value) else ""
