"""Test of the VLM: whether its concepts can be parsed, and its captions contain them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bico.config.schema import Config
from bico.core.device import free_device
from bico.core.errors import InputError
from bico.doctor.finding import Finding
from bico.models.vlm import Vlm
from bico.pipeline.concepts import shown
from bico.sources.concepts import extract

CAPTIONS = 3
KEPT = 0.5
"""Smallest share of captions that need no template."""


def examine_vlm(config: Config, samples: Mapping[str, np.ndarray]) -> tuple[Finding, dict[str, dict[str, Any]]]:
    """Asks for concepts and a few captions of each sample, and prints them. Also returns the answers, by source.

    As in a run, the VLM is only asked for captions if the config gives key words of a source.
    """
    settings = config.concepts.model_copy(update={"captions": CAPTIONS, "frame_captions": 1})
    vlm, answers = Vlm(config.models.vlm, device=free_device(config.device)), {}
    for name, frames in samples.items():
        source = config.sources[name]
        there = config.media_path(name).is_file()  # else it is a Toybox source, rendered in memory
        (looks, *_), fps = shown(config, name) if there else ([frames], config.media.fps)
        try:
            found = extract(looks, source.kind, settings, vlm, fps=fps, key_words=source.concepts)
        except InputError as error:
            print(f"  {name}: {error}")
            continue
        answers[name] = found
        print(f"  {name}: {', '.join([*found['spatial'], *found['temporal']])}")
        for caption in found["captions"]:
            print(f"    {caption}")
    written = sum(len(found["captions"]) + len(found["frame_captions"]) for found in answers.values())
    kept = written - sum(found["counts"]["template"] for found in answers.values())
    return (
        Finding(
            "VLM, concepts and captions",
            f"valid concepts for {len(answers)} of {len(samples)} sources; {kept} of {written} captions contain theirs",
            f"concepts for all, {KEPT:.0%} of the captions",
            len(answers) == len(samples) and kept >= KEPT * written,
            f"models.vlm ({config.models.vlm}), and the answers above",
        ),
        answers,
    )
