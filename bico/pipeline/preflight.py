"""Checks before anything runs: media, models, prompts, answers of raters.

They need no heavy imports and take less than a second. Rows of clips made elsewhere take longer, as all are read.
"""

import logging
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from bico.config.benchmark import Source, ToyScene
from bico.config.reading import load
from bico.config.schema import Config
from bico.config.settings import Media
from bico.core.errors import InputError
from bico.media.inspecting import check_mask, check_media, check_shape
from bico.models.binder_form import ABSORPTION, EXPECTED, compare_shapes, form, misfit
from bico.models.weights import check_activation
from bico.pipeline.model_folders import ENTRY_FILES, check_model, read_json
from bico.plan.dependencies import scoring_models
from bico.prompts.slots import slots, word_offsets
from bico.prompts.text import casings, clean
from bico.prompts.words import spans
from bico.report.answers import read_answers
from bico.scoring.scores import vqa
from bico.sources import authors_page, weights
from bico.toybox.words import ROLES, names

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LONG_PROMPT = 4096  # tokens: an image and the request of `concepts.instructions: paper` fill half of them

log = logging.getLogger("bico")


def check(config: Config) -> None:
    """Runs all checks and prints a summary. A source that no case binds gives a notice."""
    config = config.chosen()
    check_folders(config)
    preflight(config)
    check_numbers(config)
    notice_prompts(config)
    counts = f"{len(config.sources)} sources, {len(config.cases)} cases, {len(config.methods)} rows"
    print(f"{config.name}: {counts}, all fine")
    used = {*config.bound(), *(application.source for application in config.applications.values())}
    for source in config.sources:
        if source not in used:
            log.warning("notice: sources.%s: no case binds it", source)


def check_numbers(config: Config) -> None:
    """Checks that all numbers in given binders are finite. Reading a binder of full size takes seconds."""
    for source in config.sources.values():
        if source.binder:
            from bico.training.binders import load_binder  # opens torch

            load_binder(source.binder)


def notice_prompts(config: Config) -> None:
    """Gives a notice for prompts that CLIP does not read as a whole. Opening its tokenizer takes seconds."""
    if "clip" not in weights.due(config):
        from bico.scoring.clip_judge import notice_unread_prompts  # opens torch

        notice_unread_prompts(config)


def preflight(config: Config) -> None:
    """Raises InputError, one line, for the first thing that would make the benchmark fail later.

    For models and media that are not downloaded yet, only the names are checked; `bico weights` checks them afterwards.
    """
    fetched_later = weights.due(config)
    for name in ENTRY_FILES:
        folder = getattr(config.models, name)
        if folder is not None and name not in fetched_later:
            check_model(name, folder)
            if name in ("clip", "appearance"):
                check_activation(folder)
    if "vlm" not in fetched_later:
        check_vlm_context(config)
    if config.models.vqa_entry not in fetched_later:
        check_vqa(config)
    check_results(config.results)
    check_sources(config)
    if "wan" not in fetched_later:
        check_size(config.models.wan, config.media)
        check_binders(config)
        check_prompts(config)
        check_methods(config)
    check_scenes(config)
    for row, settings in config.methods.items():
        settings.check(row, config)
    read_answers(config)


def check_sources(config: Config) -> None:
    """The sources are whole: files of the user's own, and words of scenes."""
    for name, source in config.sources.items():
        if source.scene is not None:
            check_words(f"sources.{name}.scene", source.scene)
        else:
            check_own_media(config, source, later=authors_page.due(config, name))


def check_own_media(config: Config, source: Source, *, later: Collection[Path]) -> None:
    """Checks that the user's files of a source are whole and of its kind, and their masks, except files in `later`."""
    frame = config.media.width, config.media.height
    for file in source.own_files:
        if file in later:
            continue
        check_media(file, source.kind, start=source.start, frame=frame, num_frames=config.media.num_frames)
        if source.kind == "image" and config.concepts.look == "original":
            check_shape(file)
    for mask, file in zip(source.own_masks, source.own_files, strict=False):
        if file not in later:
            check_mask(mask, file, frame)


def check_vlm_context(config: Config) -> None:
    """Checks that the questions and pictures fit the context of the VLM."""
    for key, value, short in (("instructions", "paper", "short"), ("look", "original", "encoded")):
        if getattr(config.concepts, key) == value:
            _check_context(f"concepts.{key}", value, short, config.models.vlm, "vlm")


def check_vqa(config: Config) -> None:
    """Checks that the VLM of the VQA score, if a config has that score, can answer and has room for the frames."""
    name = config.models.vqa_entry
    folder = getattr(config.models, name)
    for section, scores in (("scores", config.scoring.scores), ("tested", config.scoring.tested)):
        if name not in scoring_models(config, scores):
            continue
        settings = scores.get("vqa")
        if isinstance(settings, vqa.Settings) and settings.look == "original":
            _check_context(f"scoring.{section}.vqa.look", "original", "encoded", folder, name)
        tokenizer = _tokenizer(folder, name)
        for word in ("yes", "no"):
            if all(len(tokenizer.encode(casing, add_special_tokens=False).ids) > 1 for casing in casings(word)):
                raise InputError(
                    f"{folder}: models.{name}: the tokenizer has no token for '{word}', with which the score vqa "
                    "begins an answer: expected a VLM that answers yes or no; set models.vqa, or remove the score"
                )


def _check_context(where: str, value: str, short: str, folder: Path, model: str) -> None:
    """Checks that a VLM has the context that this value of a setting needs. `short` is the value for a small VLM."""
    shape = read_json(folder / "config.json", model)
    longest = (shape.get("text_config") or shape).get("max_position_embeddings", LONG_PROMPT)
    if longest < LONG_PROMPT:
        raise InputError(
            f"{where}: '{value}' is for a large VLM, and models.{model} reads {longest} tokens: expected '{short}', as "
            "in config/toybox.yaml"
        )


def check_scenes(config: Config) -> None:
    """Toybox scenes fit the media and their prompts, and those of a frozen benchmark are the ones that were drawn."""
    if any(source.scene for source in config.sources.values()) and config.media.width != config.media.height:
        raise InputError(
            f"media: {config.media.width} x {config.media.height} pixels: expected width and height to be equal, "
            "because Toybox scenes are square"
        )
    for case_id in config.truths:
        check_truth(config, case_id)
    if config.frozen is None:
        return
    from bico.toybox.drawing import scenes_digest

    if (found := scenes_digest(config)) != config.frozen:
        raise InputError(
            f"frozen: the scenes of sources and cases have the digest {found[:12]}...: expected "
            f"{config.frozen[:12]}..., that of '{config.name}' as it was drawn; undo the change, or remove `frozen` "
            "and give the benchmark another name"
        )


def check_truth(config: Config, case_id: str) -> None:
    """A prompt names no other word of a role than that of the source which plays the role in the exact rendering."""
    case = config.cases[case_id]
    for role, source in (case.truth or {}).items():
        scene = config.sources[source].scene if source else None
        if scene is None:
            continue
        own = getattr(scene, role)
        others = [word for word in ROLES[role] if word != own and names(case.prompt, word)]
        if others and not names(case.prompt, own):
            raise InputError(
                f"cases.{case_id}.truth.{role}: '{source}' shows '{own}', and the prompt says '{others[0]}': expected "
                "a source that shows what the prompt says; change the prompt, or leave the role out"
            )


def check_folders(config: Config) -> None:
    """Checks that rules can use the names of the folders into which they write."""
    for key in ("results", "weights_store", "authors_page"):
        folder = str(getattr(config, key))
        if re.search(r"[{}]|[^\S ]|^[-~]", folder):
            raise InputError(
                f"{key}: {folder!r}: expected a path without braces (Snakemake's wildcards), tabs and line breaks that "
                "begins with neither '-' nor '~'; name another folder"
            )


def check_own_config(config: Config, given: Path) -> None:
    """Checks that a run does not overwrite the user's config with its own."""
    kept = config.paths.config
    if kept.exists() and kept.samefile(given) and load(kept) != config:
        raise InputError(
            f"results: {config.results}: a run keeps its config there as {kept.name}, and this one would be "
            "overwritten: move it, or name another folder"
        )


def check_results(folder: Path) -> None:
    """Checks that the results can be written."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise InputError(f"results: {there} cannot be written: expected a folder of your own, or one that can be made")


def check_size(wan: Path, media: Media) -> None:
    """Checks that frames consist of whole patches of the latents of the backbone in this folder."""
    vae, (_, *patch) = _wan(wan, "vae"), _wan(wan, "transformer")["patch_size"]
    for side, cells in zip(("height", "width"), patch, strict=True):
        pixels, unit = getattr(media, side), cells * vae.get("scale_factor_spatial", 8)
        if pixels % unit:
            raise InputError(
                f"media.{side}: {pixels} pixels are no whole number of models.wan's patches: expected a multiple of "
                f"{unit}, such as {max(1, round(pixels / unit)) * unit}"
            )


def check_binders(config: Config) -> None:
    """Checks that given binders exist, are whole and fit the backbone. Their numbers are not read."""
    for name, source in config.sources.items():
        if source.binder:
            try:
                check_form(source.binder, _wan(config.models.wan, "transformer"))
            except InputError as error:
                raise InputError(f"sources.{name}.binder: {error}") from None


def check_form(path: Path, transformer: Mapping[str, Any]) -> None:
    """Checks that the names and shapes in a binder's file fit this transformer."""
    try:
        with safe_open(path, framework="numpy") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error}): expected a file that exists and that you may read"
        ) from None
    except SafetensorError:
        found = {}
    compare_shapes(path, found, form(path, found), optional=ABSORPTION, expected=EXPECTED)
    width = transformer["num_attention_heads"] * transformer["attention_head_dim"]
    if reason := misfit(found, width, transformer["num_layers"]):
        raise InputError(f"{path} {reason}: learn it with models.wan")


def _wan(folder: Path, part: str) -> dict[str, Any]:
    """The config of a part of the backbone."""
    return read_json(folder / part / "config.json", "wan")


def check_words(where: str, scene: ToyScene) -> None:
    """Checks that the Toybox knows the words of a source."""
    for role, words in ROLES.items():
        word = getattr(scene, role)
        if word is not None and word not in words:
            raise InputError(f"{where}.{role}: the Toybox has no '{word}': expected one of {', '.join(words)}")


def check_methods(config: Config) -> None:
    """Checks that the method of each row is complete and fits the backbone."""
    num_blocks = _wan(config.models.wan, "transformer")["num_layers"]
    for row, settings in config.methods.items():
        if misfit := settings.misfit(num_blocks):
            raise InputError(f"methods.{row}.{misfit}")


def check_prompts(config: Config) -> None:
    """Checks that every prompt fits the text slots, and that at most one source has each of its tokens."""
    tokenizer = _tokenizer(config.models.wan / "tokenizer", "wan")
    prompts = {"sampling.negative_prompt": config.sampling.negative_prompt}
    prompts |= {f"cases.{name}.prompt": case.prompt for name, case in config.cases.items()}
    for where, prompt in prompts.items():
        count = len(tokenizer.encode(clean(prompt)).ids)
        if count > config.text_slots:
            short = f"shorten '{clean(prompt)[:60]}...'"
            raise InputError(f"{where}: {count} tokens, expected at most {config.text_slots} (text_slots): {short}")
    for case in config.cases.values():
        offsets = word_offsets(tokenizer.encode(clean(case.prompt)))
        slots(case.prompt, spans(case.prompt, case.bind), offsets)


def _tokenizer(folder: Path, model: str) -> "Tokenizer":
    """The tokenizer in a folder of a model."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library has no exception type of its own
        raise InputError(
            f"{path}: a file of models.{model} cannot be opened ({error}): expected a tokenizer; copy it again"
        ) from None
