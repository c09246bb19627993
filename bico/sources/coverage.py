"""Which bound words the captions of their sources name."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator

from bico.config.schema import Config

log = logging.getLogger("bico")


def unnamed(config: Config) -> Iterator[tuple[str, str, str]]:
    """(case, source, word) of each bound word of which no caption of its source names even a part: little is learned
    under it. Sources without captions, which no row has learned, are left out."""
    for case_id, case in config.cases.items():
        for source, words in case.bind.items():
            path = config.paths.concepts(source)
            if not path.exists():
                continue
            captions = json.loads(path.read_text(encoding="utf-8"))["captions"]
            named = set(re.findall(r"\w+", " ".join(captions).lower()))
            lost = (word for word in words if named.isdisjoint(re.findall(r"\w+", word.lower())))
            yield from ((case_id, source, word) for word in lost)


def notice_unnamed(config: Config, remedy: str = "'concepts' of the source sets") -> None:
    """A notice for each word that `unnamed` finds, with what sets the key words of its source."""
    for case, source, word in unnamed(config):
        found = json.loads(config.paths.concepts(source).read_text(encoding="utf-8"))
        known = ", ".join([*found["spatial"], *found["temporal"]])
        log.warning(
            "notice: cases.%s: no caption of %s names '%s', so little is learned under that word; "
            "its key words are %s (%s them)", case, source, word, known, remedy,
        )  # fmt: skip
