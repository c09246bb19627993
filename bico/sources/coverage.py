"""Coverage: how many words of each bound phrase the captions of its source contain. Training learns only these. Rows
that train key words alone learn only those that are key words of the source, too."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bico.core.errors import InputError
from bico.core.records import load_json
from bico.core.saving import save_csv
from bico.prompts.content_words import FUNCTION_WORDS, content_words, stems
from bico.sources.instructions import TEMPLATES, template

if TYPE_CHECKING:
    from bico.config.schema import Config

LEAST = 0.5  # mean share of a phrase's content words in a caption; below it there is a notice
MOST = 0.5  # share of the VLM's answers that are rejected; above it there is a notice

log = logging.getLogger("bico")


@dataclass(frozen=True)
class Coverage:
    """A bound phrase, and the captions of its source, without those of single frames, and its key words."""

    case: str
    source: str
    phrase: str
    captions: list[str]
    key_words: list[str]

    @cached_property
    def named(self) -> dict[str, int]:
        """Content word -> number of captions that contain it, in any inflection."""
        found = [stems(caption) for caption in self.captions]
        return {word: sum(stem in each for each in found) for stem, word in content_words(self.phrase).items()}

    @property
    def ever(self) -> float:
        """Share of the content words that are in at least one caption."""
        return sum(count > 0 for count in self.named.values()) / len(self.named)

    @property
    def on_average(self) -> float:
        """Share of the content words that are in a caption, averaged over captions."""
        return sum(self.named.values()) / (len(self.named) * len(self.captions))

    @property
    def is_low(self) -> bool:
        return self.on_average < LEAST

    @property
    def never(self) -> list[str]:
        """Content words that are in no caption."""
        return [word for word, count in self.named.items() if count == 0]

    @property
    def beside_key_words(self) -> list[str]:
        """Content words that are in a caption, and in no key word."""
        known = {stem for words in self.key_words for stem in stems(words)}
        words = content_words(self.phrase)
        return [word for stem, word in words.items() if self.named[word] and stem not in known]

    @property
    def has_content(self) -> bool:
        return _has_content(self.phrase)

    @property
    def counts(self) -> str:
        return ", ".join(f"{word} {count}" for word, count in self.named.items())


def coverage(config: Config) -> Iterator[Coverage]:
    """The coverage of each bound phrase of each case, without sources that have no captions and are not learned."""
    for case_id, case in config.cases.items():
        for source, phrases in case.bind.items():
            if config.paths.concepts(source).exists():
                found = _found(config, source)
                key_words = [*found["spatial"], *found["temporal"]]
                yield from (Coverage(case_id, source, phrase, found["captions"], key_words) for phrase in phrases)


def write_coverage(config: Config) -> None:
    """Writes `results/coverage.csv`, a row for each bound phrase of each case.

    Columns: case, source, phrase; `named`, for each content word the number of captions that contain it; `ever` and
    `on_average`, shares of the content words in 0..1 (see `Coverage`); `captions`; `beside_key_words`, the content
    words that rows which train key words alone never train. For the source, captions of single
    frames included, the numbers of captions that were `asked` for, `rejected`, or taken from a `template`.

    Raises:
        InputError: no source has captions.
    """
    import pandas as pd  # the import takes a third of a second, and notices do not need it

    rows = []
    for each in coverage(config):
        counts = _found(config, each.source)["counts"]
        shares = {"ever": each.ever, "on_average": each.on_average, "captions": len(each.captions)}
        shares["beside_key_words"] = ", ".join(each.beside_key_words)
        answers = {name: counts[name] for name in ("asked", "rejected", "template")}
        rows.append(
            {"case": each.case, "source": each.source, "phrase": each.phrase, "named": each.counts} | shares | answers
        )
    if not rows:
        folder = config.paths.concepts(config.bound()[0]).parent
        raise InputError(f"{folder}: no captions of a bound source: expected what `bico concepts` writes; run it first")
    save_csv(config.paths.table("coverage"), pd.DataFrame(rows), decimals=2)


def log_coverage(config: Config) -> None:
    """Logs a line for each bound phrase of each source."""
    lines = (
        f"{each.source}: '{each.phrase}': {100 * each.on_average:.0f} % of its {'content ' * each.has_content}words in "
        f"a caption, on average ({each.counts} of {len(each.captions)} captions)"
        for each in coverage(config)
    )
    for line in dict.fromkeys(lines):
        log.info(line)


def notice_coverage(config: Config, place: str = "under sources.{source}.concepts") -> None:
    """Logs notices about bound words that captions do not teach.

    There is a line for each bound phrase with few words in captions; a line for each source with the words of its other
    phrases that are in no caption; and a line for each source for which most answers of the VLM were rejected.

    Args:
        place: where the user sets the key words of a source.
    """
    never, untrained = dict[str, list[str]](), dict[str, list[str]]()
    alone = [row for row, settings in config.methods.items() if settings.trains_key_words_alone]
    for each in coverage(config):
        if not each.has_content:
            # An edit also binds what stands between the content words of its prompt.
            if not any(map(_has_content, config.cases[each.case].bind[each.source])):
                log.warning(
                    "notice: cases.%s: '%s' has only function words, so captions teach nothing under it: bind a noun "
                    "or a verb",
                    each.case, each.phrase,
                )  # fmt: skip
            continue
        if alone:
            untrained.setdefault(each.source, []).extend(each.beside_key_words)
        if each.is_low:
            known, where = ", ".join(each.key_words), place.format(source=each.source)
            log.warning(
                "notice: cases.%s: %s; its key words are %s (set them %s)", each.case, _lack(each), known, where
            )
        else:
            never.setdefault(each.source, []).extend(each.never)
    for source, words in never.items():
        if words:
            log.warning("notice: sources.%s: no caption names %s", source, _quoted(words))
    for source, words in untrained.items():
        if words:
            log.warning(
                "notice: sources.%s: rows that train key words alone (%s) do not train %s, which cases bind: make them "
                "key words %s",
                source, ", ".join(alone), _quoted(words), place.format(source=source),
            )  # fmt: skip
    for source in config.bound():
        if config.paths.concepts(source).exists():
            found = _found(config, source)
            counts, captions = found["counts"], [*found["captions"], *found["frame_captions"]]
            if counts["rejected"] > MOST * counts["asked"]:
                log.warning(
                    "notice: sources.%s: %d of %d captions of the VLM were rejected, because a key word was missing or "
                    "they were too long, and %d of %d come from a template. Set fewer or simpler key words %s.",
                    source, counts["rejected"], counts["asked"], counts["template"], len(captions),
                    place.format(source=source),
                )  # fmt: skip
            elif counts["template"]:
                log.warning(
                    "notice: sources.%s: %d of %d captions come from a template, such as '%s', because those of the "
                    "VLM lacked a key word or were too long",
                    source, counts["template"], len(captions), _from_template(found, captions),
                )  # fmt: skip


def _has_content(phrase: str) -> bool:
    """Whether a phrase has content words. Otherwise all its words count as content words."""
    return not FUNCTION_WORDS.issuperset(content_words(phrase).values())


def _lack(low: Coverage) -> str:
    if low.ever == 0:
        return f"no caption of {low.source} names any word of '{low.phrase}', so nothing is learned under it"
    never = f", and never {_quoted(low.never)}" if low.never else ""
    return (
        f"captions of {low.source} name {100 * low.on_average:.0f} % of the content words of '{low.phrase}' on average"
        f"{never}, so little is learned under it"
    )


def _from_template(found: Mapping[str, Any], captions: list[str]) -> str:
    """The first caption from a template. Captions of single frames have only the spatial words."""
    words = ([*found["spatial"], *found["temporal"]], found["spatial"])
    templates = {template(each, position) for each in words for position in range(len(TEMPLATES))}
    return next(caption for caption in captions if caption in templates)


def _quoted(words: list[str]) -> str:
    return ", ".join(f"'{word}'" for word in dict.fromkeys(words))


def _found(config: Config, source: str) -> dict[str, Any]:
    """Key words, captions and counts of a source."""
    return load_json(config.paths.concepts(source))
