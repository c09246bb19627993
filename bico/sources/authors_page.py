"""The authors' project page: its compositions, which become cases, and the clips that it published.

The page (github.com/refkxh/BiCo_Webpage, CC BY-SA 4.0; rights in the input media are not stated) is downloaded at one
commit, never shipped. `config/paper.yaml` holds its prompts, and the source of each coloured phrase.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import yaml

from bico.config.schema import Config
from bico.core.errors import InputError
from bico.core.files import write_text
from bico.core.fingerprints import file_digest
from bico.media.inspecting import check_media
from bico.prompts.text import clean
from bico.prompts.words import spans

REPOSITORY = "refkxh/BiCo_Webpage"
COMMIT = "c451cff81451e33615f07e2173a8683ad342ee7d"
URL = f"https://codeload.github.com/{REPOSITORY}/tar.gz/{COMMIT}"
INDEX_SHA256 = "99eb83dd9a9e6b8fc2e9d094db8cc792d2aacbf26c116418bb3ae6fd9cb94c83"
COMPOSITIONS, MOST_SOURCES = 17, 4

# The page's input media, so that a mistyped path is an error before the page is downloaded.
_MEDIA = {
    "static/images": "elephant1.jpg monkey1.jpg starry_night.jpeg",
    "static/images/teaser": "dog_bige_1.jpg minecraft_1.jpeg volcano_3.jpg",
    "static/qualitative_results": (
        "actress_1.mp4 bianmu1.jpeg boenshan1.jpeg clothes_2.jpeg coach_1.mp4 coach_2.mp4 coach_4.mp4 dancer_1.mp4 "
        "demu1.jpeg doberman1.jpeg dog1_480p.jpg guitar_2.mp4 hat1.jpg husky2_480p.jpg play_game_2_81.mp4 "
        "reading1_81.mp4 wjd1.mp4 xigaodi.jpeg"
    ),
    "static/videos": (
        "bartender.mp4 bear.mp4 butterfly_480p.mp4 eagle_original.mp4 squirrel.mp4 tortoise_81.mp4 "
        "woman_earphone_81.mp4"
    ),
}
MEDIA = tuple(f"{folder}/{name}" for folder, names in _MEDIA.items() for name in names.split())

# The page's name of a row -> the row's table and number in the paper. The full method is the last row of each table.
OURS = "BiCo (Ours)"
ROWS = {
    "Text-Inv": ("table1", 1),
    "DB-LoRA": ("table1", 2),
    "DreamVideo": ("table1", 3),
    "DualReal": ("table1", 4),
    "Baseline": ("table2", 1),
    "Baseline + Hierarchical": ("table2", 2),
    "Baseline + Hierarchical + Diversification": ("table2", 3),
    "Baseline + Hierarchical + Diversification + Absorbing": ("table2", 4),
    "Baseline + Hierarchical + Diversification + TDS": ("table2", 5),
    "Baseline + Hierarchical (w/o two-stage inverted training) + Diversification + Absorbing + TDS": ("table2", 6),
}
LAST_ROW = {"table1": 5, "table2": 7}


@dataclass(frozen=True)
class Composition:
    """One composition of the page; media are paths relative to it."""

    name: str
    prompt: str
    kinds: dict[str, str]
    """Source -> "image" or "video"."""
    media: dict[str, str]
    """Source -> its file."""
    bind: dict[str, list[str]]
    """Source -> the phrases of the prompt that have its colour."""
    published: dict[str, str]
    """The page's name of a row -> the clip of that row."""

    def row(self, label: str) -> tuple[str | None, int | None]:
        """The paper's table to which a published clip belongs, and the number of its row; None if there is no table."""
        if label != OURS:
            return ROWS[label]
        table = next((ROWS[other][0] for other in self.published if other != OURS), None)
        return table, LAST_ROW.get(table) if table else None


# --- fetching ---------------------------------------------------------------------------------------------------------


def fetch(folder: Path) -> None:
    """Downloads the page to `folder`, all of it or nothing, and writes `folder/benchmark.yaml`: its sources and cases.

    Raises:
        InputError: there is no network or no space, or the download is not the page that this module knows.
    """
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        page = _download(unfinished)
        section = benchmark(checked_page(page), folder)
        write_text(page / "benchmark.yaml", yaml.safe_dump(section, sort_keys=False, allow_unicode=True, width=120))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(page, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _download(into: Path) -> Path:
    """Unpacks the archive of the page's commit; returns its one folder."""
    import tarfile  # here, because checks before a run import this module and have to be quick
    from http.client import HTTPException
    from urllib.request import urlopen

    try:
        with urlopen(URL, timeout=60) as answer, tarfile.open(fileobj=answer, mode="r|gz") as archive:
            archive.extractall(into, filter="data")
    except (OSError, HTTPException, tarfile.TarError) as error:
        raise InputError(
            f"{URL}: the authors' page cannot be fetched ({error}): expected a network connection and space on the "
            "disk, run again"
        ) from None
    (page,) = into.iterdir()
    return page


def checked_page(page: Path) -> list[Composition]:
    """The compositions of the page. Raises InputError unless it is the known page and all its input media are whole."""
    index = page / "index.html"
    if not index.is_file() or file_digest(index) != INDEX_SHA256:
        raise InputError(f"{index}: not the page of commit {COMMIT[:12]}: expected SHA-256 {INDEX_SHA256[:12]}...")
    compositions = read_page(index)
    most = max(len(composition.media) for composition in compositions)
    if len(compositions) != COMPOSITIONS or most > MOST_SOURCES:
        found = f"{len(compositions)} compositions of at most {most} sources"
        raise InputError(f"{index}: {found}: expected {COMPOSITIONS} of at most {MOST_SOURCES}")
    for composition in compositions:
        for source, medium in composition.media.items():
            check_media(page / medium, composition.kinds[source])
    return compositions


def benchmark(compositions: list[Composition], folder: Path) -> dict[str, dict[str, Any]]:
    """The compositions as `sources` and `cases` of a config."""
    sources = {
        source: {"kind": kind, "file": str(folder / one.media[source])}
        for one in compositions
        for source, kind in one.kinds.items()
    }
    cases = {one.name: {"prompt": one.prompt, "bind": one.bind} for one in compositions}
    return {"sources": sources, "cases": cases}


def due(config: Config, source: str) -> set[Path]:
    """The files of a source that belong to the page, as long as it is not downloaded.

    Raises:
        InputError: the page has no such file.
    """
    folder = config.authors_page
    files = [file for file in config.sources[source].own_files if file.is_relative_to(folder)]
    for file in files:
        medium = file.relative_to(folder).as_posix()
        if medium not in MEDIA:
            near = [known for known in MEDIA if Path(known).stem == Path(medium).stem] or MEDIA
            raise InputError(
                f"{file}: sources.{source}.file: the authors' page has no '{medium}': expected one of {', '.join(near)}"
            )
    return set() if (folder / "index.html").is_file() else set(files)


# --- reading ----------------------------------------------------------------------------------------------------------


def read_page(index: Path) -> list[Composition]:
    """The compositions of a page, in its order.

    Raises:
        InputError: there is no page, or something in it does not fit: a composition without prompt or source, a colour
            without source, a phrase that is not in the prompt, a row that is not in the paper.
    """
    if not index.is_file():
        raise InputError(f"{index}: no such file: expected the authors' page, which `bico authors` fetches")
    reader = _Reader()
    reader.feed(index.read_text(encoding="utf-8"))
    groups: list[list[_Panel]] = []
    for panel in reader.panels:
        if panel.is_input and not (groups and groups[-1][-1].is_input):
            groups.append([])
        if not groups:
            raise InputError(f"{index} (line {panel.line}): '{panel.title}' has no inputs: expected them before it")
        groups[-1].append(panel)
    if not groups:
        raise InputError(f"{index}: no composition: expected panels (div.section-image) of inputs and outputs")
    return [_composition(index, group) for group in groups]


@dataclass
class _Panel:
    """A medium of the page, with its title and the coloured pieces of its prompt."""

    line: int
    caption: str = ""
    kind: str = ""
    medium: str = ""
    pieces: list[tuple[str | None, str]] = field(default_factory=list)

    @property
    def title(self) -> str:
        return clean(self.caption)

    @property
    def is_input(self) -> bool:
        return self.title.startswith("Input")

    @property
    def prompt(self) -> str:
        return clean("".join(text for _, text in self.pieces)).strip('" ')

    @property
    def phrases(self) -> list[tuple[str, str]]:
        """(colour, phrase), in the prompt's order."""
        return [(colour, clean(text)) for colour, text in self.pieces if colour]


class _Reader(HTMLParser):
    """Collects panels: `div.section-image` around `div.caption`, a medium, and perhaps `div.prompt-text`."""

    COLOUR = "prompt-highlight-"

    def __init__(self) -> None:
        super().__init__()
        self.panels: list[_Panel] = []
        self._open: list[tuple[str, str]] = []  # (tag, class) of the elements that contain the present place

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in ("div", "span", "strong"):
            self._open.append((tag, given.get("class", "")))
            if (tag, given.get("class")) == ("div", "section-image"):
                self.panels.append(_Panel(line=self.getpos()[0]))
        elif tag in ("img", "source") and self._within("publication-video"):
            panel = self.panels[-1]
            panel.kind, panel.medium = "image" if tag == "img" else "video", given.get("src", "")

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1][0] == tag:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._within("caption"):
            self.panels[-1].caption += data
        elif self._within("prompt-text") and self._open[-1][0] != "strong":  # "strong" names the owner of the prompt
            _, name = self._open[-1]
            colour = name.removeprefix(self.COLOUR) if name.startswith(self.COLOUR) else None
            self.panels[-1].pieces.append((colour, data))

    def _within(self, name: str) -> bool:
        """Whether the innermost box has this class and is inside a panel."""
        box = next((classes for tag, classes in reversed(self._open) if tag == "div"), "")
        return name in box.split() and bool(self.panels)


def _composition(index: Path, panels: list[_Panel]) -> Composition:
    def problem(panel: _Panel, what: str) -> InputError:
        return InputError(f"{index} (line {panel.line}): '{panel.title}' {what}")

    for panel in panels:
        if not panel.medium:
            raise problem(panel, "has no medium: expected an image or a video")
        if not panel.is_input and panel.title not in (OURS, *ROWS):
            raise problem(panel, f"is no row of the paper: expected one of {', '.join((OURS, *ROWS))}")
    inputs = [panel for panel in panels if panel.is_input]
    outputs = {panel.title: panel for panel in panels if not panel.is_input}
    if OURS not in outputs or not outputs[OURS].prompt:
        raise problem(panels[0], f"leads to no composed prompt: expected one below '{OURS}'")
    ours = outputs[OURS]
    sources: dict[str, str] = {}  # colour -> source
    for panel in inputs:
        colours = {colour for colour, _ in panel.phrases} - set(sources)
        if len(colours) != 1:
            raise problem(panel, f"has {len(colours)} colours of its own in its prompt: expected one")
        sources[colours.pop()] = Path(panel.medium).stem
    bind: dict[str, list[str]] = {source: [] for source in sources.values()}
    for colour, phrase in ours.phrases:
        if colour not in sources:
            raise problem(ours, f"has a {colour} phrase, '{phrase}': expected a source of that colour")
        bind[sources[colour]].append(phrase)
    for source, phrases in bind.items():
        if not phrases:
            raise problem(ours, f"takes nothing from {source}: expected a phrase of its colour")
    try:
        spans(ours.prompt, bind)
    except InputError as error:
        raise problem(ours, f"does not fit: {error}") from None
    return Composition(
        name=_name(ours.medium),
        prompt=ours.prompt,
        kinds={source: panel.kind for source, panel in zip(bind, inputs, strict=True)},
        media={source: panel.medium for source, panel in zip(bind, inputs, strict=True)},
        bind=bind,
        published={title: panel.medium for title, panel in outputs.items()},
    )


def _name(clip: str) -> str:
    """The name of a case: that of its clip, without "_ours" or the strength (1.0 to 1.5) at the end."""
    stem = Path(clip).stem
    return stem.removesuffix("_ours") if "." not in stem else stem.rpartition("_")[0]
