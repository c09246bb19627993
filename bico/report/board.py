"""A board: a static page of any number of entries, sorted and filtered, that shows which entries are comparable."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from bico.config.section import checked
from bico.core.archives import copy_into, filling
from bico.core.errors import InputError
from bico.core.files import write_text
from bico.plan.bundle import read_values
from bico.report.entry import Entry, EntryRow
from bico.report.pages import filled

MANIFEST = "entry.json"


def read_entries(folder: Path) -> dict[str, Entry]:
    """Name of each folder in `folder` -> its entry, sorted by name.

    Raises:
        InputError: one line: no entries, one that is damaged or has a score that is not finite, or a clip that is not
            there.
    """
    paths = sorted(folder.glob(f"*/{MANIFEST}")) if folder.is_dir() else []
    if not paths:
        raise InputError(f"{folder}: no entries: expected folders with {MANIFEST}, as a run leaves one in entry/")
    entries = {}
    for path in paths:
        entry = checked(Entry, read_values(path.parent, MANIFEST), name=str(path))
        for name, row in entry.rows.items():
            for clip in row.clips.values():
                file = (path.parent / clip).resolve()
                if file.suffix != ".mp4" or not file.is_file() or not file.is_relative_to(path.parent.resolve()):
                    raise InputError(f"{path}: rows.{name}: no {clip} beside it: copy the entry again, with its clips")
        entries[path.parent.name] = entry
    return entries


def write_board(folder: Path, out: Path) -> list[str]:
    """Writes `out/index.html` and the clips beside it. Returns a line for each group of comparable entries.

    Raises:
        InputError: see `read_entries`; or `out` exists already, or ends in .zip.
    """
    entries = read_entries(folder)
    if out.suffix.lower() == ".zip":
        raise InputError(f"{out}: a board is a folder: expected a name without .zip")
    groups = _groups(entries)
    with filling(out) as filled_folder:
        for name, entry in entries.items():
            for clip in {clip for row in entry.rows.values() for clip in row.clips.values()}:
                copy_into(filled_folder, f"{name}/{clip}", folder / name / clip)
        write_text(filled_folder / "index.html", filled("board.html", _data(entries, groups)))
    return [f"{label}: {', '.join(names)}" for label, names in groups]


def _groups(entries: dict[str, Entry]) -> list[tuple[str, list[str]]]:
    """Name of each group and its entries, which have the same cases and the same scoring; largest group first."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, entry in entries.items():
        found.setdefault((entry.set_digest, entry.judges_digest), []).append(name)
    groups = []
    for (media, judges), names in sorted(found.items(), key=lambda group: (-len(group[1]), group[1])):
        label = entries[names[0]].benchmark
        if sum(entries[group[0]].benchmark == label for group in found.values()) > 1:
            label += f" (set {media[:8]}, scored by {judges[:8]})"
        groups.append((label, names))
    return groups


def _data(entries: dict[str, Entry], groups: list[tuple[str, list[str]]]) -> dict[str, Any]:
    shown = []
    for label, names in groups:
        first = entries[names[0]]
        columns = {column for name in names for row in entries[name].rows.values() for column in row.scores}
        shown.append(
            {
                "label": label,
                "cases": first.cases,
                "columns": [
                    {
                        "name": column,
                        "label": first.labels.get(column, column),
                        "meaning": meaning,
                        "ordered": column not in first.unordered,
                    }
                    for column, meaning in first.meanings.items()
                    if column in columns
                ],
                "rows": [
                    _row(name, entries[name], row, line) for name in names for row, line in entries[name].rows.items()
                ],
                "prompts": {case: prompt for name in names for case, prompt in entries[name].prompts.items()},
                "aspect": f"{first.width} / {first.height}",
            }
        )
    first = next(iter(entries.values()))
    # The player steps through all clips together, so it uses the shortest length and the first rate.
    frames = min(entry.num_frames for entry in entries.values())
    return {"groups": shown, "aspect": shown[0]["aspect"], "small": False, "fps": first.fps, "frames": frames}


def _row(name: str, entry: Entry, row: str, line: EntryRow) -> dict[str, Any]:
    return {
        "entry": name,
        "row": row,
        "version": entry.version,
        "backbone": entry.backbone,
        "seeds": entry.seeds,
        "of": entry.cases,
        **line.model_dump(mode="json", exclude={"clips"}),
        "clips": {case: quote(f"{name}/{clip}") for case, clip in line.clips.items()},
    }
