"""The logbook: its links lead somewhere, and its index says of each entry what the entry says."""

import re
from pathlib import Path

import pytest
from conftest import ROOT

LOG = ROOT / "docs" / "log.md"
DAYS = sorted(LOG.with_suffix("").glob("*.md"), reverse=True)
ENTRY = re.compile(r'^### <a id="(?P<anchor>[\w-]+)"></a>(?P<title>.+?): (?P<verdict>.+)$', re.M)


def prose(page: Path) -> str:
    """A page without its code: links in it are examples."""
    return re.sub(r"^    .*$|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.M)


def anchors(page: Path) -> set[str]:
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    named = re.findall(r'<a id="([\w-]+)">', text)
    return {*named, *(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)}


def holds(body: str, date: str) -> str:
    """The index's last column for an entry, by the first paragraph under its title."""
    first = " ".join(body.strip().split("\n\n")[0].split("\n"))
    if first.startswith("Only for the backbone"):
        return "only for the backbone of then"
    if superseded := re.match(r"Superseded by (.+?)[.:;]( |$)", first):
        by = re.sub(r"\]\(([^#)]*)#", lambda link: f"](log/{link[1] or date + '.md'}#", superseded[1])
        return f"no: superseded by {by}"
    return "yes"


def entries(day: Path) -> list[str]:
    """The lines that the index has to have for a day."""
    text = day.read_text(encoding="utf-8")
    found = list(ENTRY.finditer(text))
    ends = [*(entry.start() for entry in found[1:]), len(text)]
    return [
        f"| {day.stem} | [{entry['title']}](log/{day.name}#{entry['anchor']}) | {entry['verdict']} "
        f"| {holds(text[entry.end() : end], day.stem)} |"
        for entry, end in zip(found, ends, strict=True)
    ]


def test_the_index_has_each_entry_with_its_verdict_newest_first():
    index = [line for line in LOG.read_text(encoding="utf-8").splitlines() if re.match(r"\| \d{4}-\d\d-\d\d \|", line)]
    assert index == [line for day in DAYS for line in entries(day)]


@pytest.mark.parametrize("day", DAYS, ids=lambda day: day.stem)
def test_each_heading_of_an_experiment_has_an_anchor_and_a_verdict(day):
    headings = re.findall(r"^### .*$", day.read_text(encoding="utf-8"), re.M)
    assert [heading for heading in headings if not ENTRY.match(heading)] == []


@pytest.mark.parametrize("page", [LOG, *DAYS], ids=lambda page: page.stem)
def test_links_of_the_log_lead_somewhere(page):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", [LOG, *DAYS], ids=lambda page: page.stem)
def test_lines_outside_of_tables_fit(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []
