"""A user's own files without a config: binds them to words of a prompt, and makes the clip.

Everything runs as in a benchmark of one case, whose results are in their own folder.
"""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

from bico.config.benchmark import Application
from bico.config.reading import load
from bico.config.schema import Config
from bico.config.section import LONGEST_NAME, checked
from bico.core.errors import InputError
from bico.core.files import check_writable, replacing
from bico.core.records import intact
from bico.media.inspecting import media_kind
from bico.pipeline.preflight import preflight
from bico.plan.clips import as_case
from bico.sources.coverage import notice_coverage
from bico.sources.weights import due, fetch

CASE = "composition"
ROW = "bico"

log = logging.getLogger("bico")

Binding = tuple[Path, str]
"""A file and a word of the prompt."""


def compose(
    like: Config,
    prompt: str,
    bind: Sequence[Binding],
    out: Path,
    *,
    spatial: Sequence[Binding] = (),
    temporal: Sequence[Binding] = (),
    steps: int | None = None,
    seed: int = 0,
    workdir: Path | None = None,
) -> None:
    """Binds files to words of a prompt and writes the clip that combines them.

    Args:
        like: the benchmark whose models, sizes and training settings are used.
        bind: pairs of a file and the word that takes its look or motion from it. A file is an image, a video, or a
            folder of photographs of one subject.
        out: an .mp4 file.
        spatial, temporal: key words of files. For these files the VLM is not asked for key words.
        steps: denoising steps; None = as in `like`.
        seed: seed of the clip's noise.
        workdir: folder that keeps intermediate results; None = they are kept only if the clip cannot be made.

    Raises:
        InputError: files, words or folders that do not fit.
    """
    from bico.pipeline.concepts import concepts
    from bico.pipeline.encode import encode
    from bico.pipeline.generate import generate
    from bico.pipeline.learn import learn

    reads = (path.iterdir() if path.is_dir() else [path] for path, _ in bind)
    check_writable(out, reads=tuple(chain.from_iterable(reads)))
    if workdir:
        check_writable(workdir / "config.yaml")
        if (workdir / "config.yaml").exists():
            raise InputError(
                f"--workdir {workdir}: a benchmark has its results there, which would be overwritten: expected "
                "another folder"
            )
    with _kept_if_it_fails() if workdir is None else nullcontext(workdir) as folder:
        key_words = {"spatial": spatial, "temporal": temporal}
        config = composition(like, prompt, bind, key_words, results=folder, steps=steps, seed=seed)
        preflight(config)
        for repository in due(config).values():
            fetch(config.weights_store, repository)
            preflight(config)
        concepts(config)
        notice_coverage(config, "with --spatial and --temporal")
        encode(config)
        learn(config, ROW, part=0)
        generate(config, ROW)
        with replacing(out) as unfinished:
            shutil.copyfile(intact(config.paths.clip(ROW, CASE, seed)), unfinished)


@contextmanager
def _kept_if_it_fails() -> Iterator[Path]:
    """A temporary folder. It stays if the work fails after a training has begun, and a notice gives its name."""
    folder = Path(tempfile.mkdtemp(prefix="bico-"))
    stays = False
    try:
        yield folder
    except BaseException:
        stays = (folder / "learned").is_dir()
        raise
    finally:
        if stays:
            log.warning("notice: trainings are kept in %s: continue with --workdir %s", folder, folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def swapped_case(prompt: str, swap: Sequence[tuple[str, str]]) -> tuple[str, list[str]]:
    """The prompt of an edit, and the words of it that stay bound to the file.

    Args:
        prompt: a description of the file.
        swap: words of the prompt, each with its replacement.

    Raises:
        InputError: a word is not in the prompt, or is given twice, or no word is left.
    """
    words = dict(swap)
    if len(words) < len(swap):
        raise InputError("--swap: a word stands there twice: expected each once")
    return swapped_words(prompt, words, name="--swap")


def swapped_words(prompt: str, swap: Mapping[str, str], *, name: str) -> tuple[str, list[str]]:
    """Like `swapped_case`, with a dict of words and replacements. Errors give `name` as the place of the words."""
    case = as_case(checked(Application, {"source": "source", "prompt": prompt, "swap": dict(swap)}, name=name))
    return case.prompt, case.bind["source"]


def composition(
    like: Config,
    prompt: str,
    bind: Sequence[Binding],
    key_words: Mapping[str, Sequence[Binding]],
    *,
    results: Path,
    steps: int | None,
    seed: int,
) -> Config:
    """A benchmark of one case: files bound to words; models, sizes and training as in `like`.

    Args:
        key_words: spatial and temporal key words of files. The VLM names the spatial ones of a file without any.
    """
    files = list(dict.fromkeys(path for path, _ in bind))
    sources = dict(zip(source_names(path.stem for path in files), files, strict=True))
    given: dict[Path, dict[str, list[str]]] = {}
    for kind, pairs in key_words.items():
        for path, word in pairs:
            if path not in sources.values():
                raise InputError(f"--{kind}: {path} is bound to no word: expected one of the files that are")
            if kind == "temporal" and (path.is_dir() or media_kind(path) == "image"):
                it = "a folder of photographs" if path.is_dir() else "an image"
                raise InputError(f"--temporal: {path} is {it}: expected a video; --spatial names words of an image")
            given.setdefault(path, {}).setdefault(kind, []).append(word)
    numbers = {"media", "text_slots", "concepts", "training_shift"}
    machine = {"weights_store", "device", "dtype", "learned_dtype", "compile", "gradient_checkpointing"}
    shared = like.model_dump(mode="json", include=numbers | machine)
    shared["media"]["read"] = "time"  # a user's clips have any frame rate
    sampling = like.sampling.model_dump() | ({"steps": steps} if steps else {})
    words = {source: [word for file, word in bind if file == path] for source, path in sources.items()}
    settings = next((each for each in like.methods.values() if each.BINDS_WORDS), None)
    if settings is None:
        raise InputError("--config: none of its 'methods' is bico: expected a row of that method, for its settings")
    return load(
        shared
        | {
            "name": CASE,
            "results": results,
            "models": like.models.model_dump() | {"probe": None},
            "sampling": sampling,
            "seeds": [seed],
            "learning_seeds": like.learning_seeds[:1],
            "sources": {source: {**_own_media(path), "concepts": given.get(path)} for source, path in sources.items()},
            "cases": {CASE: {"prompt": prompt, "bind": words}},
            "methods": {ROW: settings.model_dump()},
        },
        name="--bind",
    )


def _own_media(path: Path) -> dict[str, Any]:
    """A file, or a folder of photographs of one subject, as a source of a config."""
    return {"kind": "image", "files": path} if path.is_dir() else {"kind": media_kind(path), "file": path}


def source_names(names: Iterable[str]) -> list[str]:
    """Different names of sources that a config accepts, each as similar to the given one as possible."""
    accepted: list[str] = []
    for given in names:
        name = re.sub(r"\W+", "_", given, flags=re.ASCII).strip("_")[: LONGEST_NAME // 2] or "source"
        while name in accepted:
            name += "_2"
        accepted.append(name)
    return accepted
