"""Runs all tests one after the other, and writes the report.

    bico doctor --config config/paper.yaml

Models are opened one after the other and freed, so that a GPU of 24 GB is enough.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import torch

from bico.config.methods import LearnedSettings
from bico.config.schema import Config
from bico.core.device import free_device
from bico.core.errors import InputError
from bico.core.files import write_json
from bico.doctor.backbone import examine_loss, examine_vae, short_clips
from bico.doctor.finding import Finding
from bico.doctor.judges import examine_appearance, examine_clip, examine_clips, examine_dino, examine_yes
from bico.doctor.memory import examine_memory
from bico.doctor.samples import COMPARED, caption_each, read_samples
from bico.doctor.training import examine_training
from bico.doctor.vlm import examine_vlm
from bico.media.writing import write_clip
from bico.models.wan.backbone import Backbone
from bico.pipeline.opening import open_backbone
from bico.pipeline.preflight import preflight
from bico.profiling.estimate import estimated
from bico.scoring.clip_judge import open_clip_judge
from bico.scoring.dino_judge import open_dino_judge
from bico.scoring.scores import vqa
from bico.sources import weights
from bico.sources.encoding import EncodedSource, encode_source

CASES = 4
"""Number of cases for which a clip is made."""


def doctor(config: Config) -> bool:
    """Examines all parts, prints a line for each, and writes `results/doctor/report.json` with clips beside it.

    Returns:
        Whether all are fine.

    Raises:
        InputError: something is not downloaded yet, or `bico check` refuses the config.
    """
    config = config.chosen()
    if later := weights.due(config):
        name, repository = next(iter(later.items()))
        raise InputError(
            f"models.{name}: {repository} is not there yet: expected its weights; run "
            "`snakemake --cores all --configfile FILE -- downloads` first, with the file of this config"
        )
    preflight(config)
    on_gpu = free_device(config.device) == "cuda"
    report: list[dict[str, object]] = []
    for finding in findings(config.model_copy(update={"compile": config.compile and on_gpu})):
        print(finding, flush=True)
        report.append(asdict(finding))
        write_json(config.paths.doctor / "report.json", report)
    print(f"The report, and clips to look at, are in {config.paths.doctor}.")
    print(estimated(config, "h100" if on_gpu else "cpu_amx", measure=False, targets=()))
    return all(finding["fine"] for finding in report)


def findings(config: Config) -> Iterator[Finding]:
    """The finding of each part, as soon as it is known.

    If a model does not open, its parts give one finding. Tests that compare sources are left out if there are too few.
    """
    samples = read_samples(config)
    if len(samples) < COMPARED:
        yield Finding(
            "sources, compared with each other",
            f"not tested: {len(samples)} sources are too few",
            f"{COMPARED} or more",
            fine=True,
            look="",
        )
    if free_device(config.device) == "cuda":
        yield examine_memory(config)
    answers: dict[str, dict[str, Any]] = {}
    try:
        found, answers = examine_vlm(config, samples)
        yield found
    except InputError as error:
        yield unusable("VLM", error)
    _free()
    captions, cases = caption_each(config, samples, answers), chosen_cases(config)
    clips: dict[str, np.ndarray] = {}
    try:
        yield from _of_backbone(config, samples, captions, cases, clips)
    except InputError as error:
        yield unusable("backbone", error)
    _free()
    if len(samples) < COMPARED:
        return
    try:
        yield from _of_judges(config, samples, captions, cases, clips)
    except InputError as error:
        yield unusable("CLIP and DINO", error)
    _free()
    try:
        yield from _of_answers(config, samples, captions)
    except InputError as error:
        yield unusable("VQA score", error)


def unusable(part: str, error: InputError) -> Finding:
    """The finding for a model that does not open, or a training that fails."""
    return Finding(part, f"cannot be used: {error}", "it works", fine=False, look="that message")


def _of_judges(
    config: Config,
    samples: Mapping[str, np.ndarray],
    captions: Mapping[str, str],
    cases: Sequence[str],
    clips: Mapping[str, np.ndarray],
) -> Iterator[Finding]:
    """The findings on CLIP and DINO. The clips are those of the backbone, if it could make any."""
    device = free_device(config.device)
    clip = open_clip_judge(config, device)
    yield examine_clip(clip, config, samples, captions)
    if clips:
        prompts = {case: config.cases[case].prompt for case in clips}
        others = {case: other_texts(config, case, cases, captions) for case in clips}
        yield examine_clips(clip, clips, prompts, others, config.paths.doctor)
    yield examine_dino(open_dino_judge(config, device), config, samples)
    if any(settings.APPEARANCE for settings in config.methods.values()):
        yield examine_appearance(config, samples, device)


def _of_answers(config: Config, samples: Mapping[str, np.ndarray], captions: Mapping[str, str]) -> Iterator[Finding]:
    """The finding on the VLM of the VQA score, if the config has that score."""
    settings = config.scoring.all.get("vqa")
    if isinstance(settings, vqa.Settings):
        yield examine_yes(vqa.open_vlm(config, free_device(config.device)), settings.look, config, samples, captions)


def _of_backbone(
    config: Config,
    samples: Mapping[str, np.ndarray],
    captions: Mapping[str, str],
    cases: Sequence[str],
    clips: dict[str, np.ndarray],
) -> Iterator[Finding]:
    """The findings on the backbone, whose memory is freed afterwards. Adds the clips of the cases to `clips`."""
    backbone = open_backbone(config)
    texts = [*captions.values(), *(config.cases[case].prompt for case in cases), config.sampling.negative_prompt]
    prompt_embeds, _ = backbone.encode_prompts(texts)
    settings = next((each for each in config.methods.values() if each.BINDS_WORDS), None)
    encoded = _encoded(config, backbone, samples, captions) if settings else None
    backbone.offload_text_encoder()  # before the transformer opens
    with torch.no_grad():
        contexts = backbone.context(prompt_embeds)
    yield examine_vae(backbone, config, samples)
    of_captions, of_cases, negative = contexts.split([len(captions), len(cases), 1])
    if len(samples) >= COMPARED:
        yield examine_loss(backbone, config, samples, of_captions)
    for case, frames in short_clips(backbone, config, dict(zip(cases, of_cases.split(1), strict=True)), negative):
        clips[case] = frames
        write_clip(config.paths.doctor / f"{case}.mp4", frames, config.media.fps)
    if encoded:
        yield examine_training(backbone, config, encoded, cast(LearnedSettings, settings))


def _encoded(
    config: Config, backbone: Backbone, samples: Mapping[str, np.ndarray], captions: Mapping[str, str]
) -> EncodedSource:
    """A video among the samples, or without one an image, encoded for training."""
    name = next((name for name in samples if config.sources[name].kind == "video"), next(iter(samples)))
    caption = [captions[name]]
    concepts = {"kind": config.sources[name].kind, "spatial": [], "temporal": [], "captions": caption}
    return encode_source(backbone, samples[name], concepts | {"frame_captions": caption, "frame_indices": [0]})


def chosen_cases(config: Config) -> list[str]:
    """A few cases. Those that share no source with another one come first."""
    apart: list[str] = []
    for case, entry in config.cases.items():
        if not any(entry.bind.keys() & config.cases[other].bind.keys() for other in apart):
            apart.append(case)
    return list(dict.fromkeys([*apart, *config.cases]))[:CASES]


def other_texts(config: Config, case: str, cases: Sequence[str], captions: Mapping[str, str]) -> list[str]:
    """Texts that do not belong to a case: prompts of others, and captions of sources that it does not bind (of all
    sources if it binds them all)."""
    prompts = [config.cases[other].prompt for other in cases if other != case]
    unbound = [caption for source, caption in captions.items() if source not in config.cases[case].bind]
    return prompts + (unbound or list(captions.values()))


def _free() -> None:
    """Frees the memory of models that are not used any more."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
