"""Commands for a user's own files, which need no config for them: compose, decompose, edit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from bico.cli.arguments import Count, Positive, open_config
from bico.core.errors import InputError

Like = Annotated[Path, Parameter(name="--config", help="YAML file of a benchmark with the models and sizes to use.")]
Media = Annotated[Path, Parameter(help="An image, a video, or a folder of photographs of one subject.")]
Out = Annotated[Path, Parameter(help="The clip to write, an .mp4 file.")]
Steps = Annotated[Positive | None, Parameter(help="Denoising steps, by default as in the config.")]
Seed = Annotated[Count, Parameter(help="Seed of the clip's noise.")]
Workdir = Annotated[Path | None, Parameter(help="Folder in which captions, latents and binders are kept.")]
FILE_KEY_WORD = "FILE=WORD: a key word that the file's captions must contain ({}); by default the VLM finds them."
KEY_WORD = "A key word that the file's captions must contain ({}); by default the VLM finds them."
LOOKS, MOVES = "objects, colours, style, light", "motion, change of view"
SpatialOfFile = Annotated[Sequence[str], Parameter(name="--spatial", negative="", help=FILE_KEY_WORD.format(LOOKS))]
TemporalOfFile = Annotated[Sequence[str], Parameter(name="--temporal", negative="", help=FILE_KEY_WORD.format(MOVES))]
Spatial = Annotated[Sequence[str], Parameter(name="--spatial", negative="", help=KEY_WORD.format(LOOKS))]
Temporal = Annotated[Sequence[str], Parameter(name="--temporal", negative="", help=KEY_WORD.format(MOVES))]
BOUND = (
    "FILE=WORD: an image, a video, or a folder of photographs of one subject, and a word of the prompt that takes its "
    "look or motion from it."
)
SWAPPED = "WORD=NEW: a word of the prompt, and its replacement."
Bindings = Annotated[list[str], Parameter(negative="", help=BOUND)]
Swaps = Annotated[list[str], Parameter(negative="", help=SWAPPED)]
DEFAULT_CONFIG = Path("config/toybox.yaml")


def compose(
    *,
    prompt: Annotated[str, Parameter(help="What the clip shows.")],
    bind: Bindings,
    out: Out,
    spatial: SpatialOfFile = (),
    temporal: TemporalOfFile = (),
    steps: Steps = None,
    seed: Seed = 0,
    workdir: Workdir = None,
    config: Like = DEFAULT_CONFIG,
) -> None:
    """Bind files to words of a prompt and write the clip that combines them."""
    words = {"spatial": _bindings("--spatial", spatial), "temporal": _bindings("--temporal", temporal)}
    _compose(config, prompt, _bindings("--bind", bind), _mp4(out), **words, steps=steps, seed=seed, workdir=workdir)


def decompose(
    media: Media,
    /,
    *,
    prompt: Annotated[str, Parameter(help="What the clip shows.")],
    keep: Annotated[list[str], Parameter(negative="", help="A word of the prompt that is bound to the file.")],
    out: Out,
    spatial: Spatial = (),
    temporal: Temporal = (),
    steps: Steps = None,
    seed: Seed = 0,
    workdir: Workdir = None,
    config: Like = DEFAULT_CONFIG,
) -> None:
    """Bind only the given words of a prompt to one file, and write the clip."""
    words = {"spatial": _words("--spatial", spatial), "temporal": _words("--temporal", temporal)}
    of_file = {kind: [(media, word) for word in given] for kind, given in words.items()}
    bind = [(media, word) for word in keep]
    _compose(config, prompt, bind, _mp4(out), **of_file, steps=steps, seed=seed, workdir=workdir)


def edit(
    media: Media,
    /,
    *,
    prompt: Annotated[str, Parameter(help="What the file shows.")],
    swap: Swaps,
    out: Out,
    spatial: Spatial = (),
    temporal: Temporal = (),
    steps: Steps = None,
    seed: Seed = 0,
    workdir: Workdir = None,
    config: Like = DEFAULT_CONFIG,
) -> None:
    """Swap words of a sentence that describes one file, bind all others to the file, and write the clip."""
    from bico.pipeline.own_files import swapped_case

    new, kept = swapped_case(prompt, _swaps(swap))
    decompose(
        media, prompt=new, keep=kept, out=out, spatial=spatial, temporal=temporal, steps=steps, seed=seed,
        workdir=workdir, config=config,
    )  # fmt: skip


def _compose(config: Path, prompt: str, bind: Sequence[tuple[Path, str]], out: Path, **options: Any) -> None:
    from bico.pipeline.own_files import compose

    compose(open_config(config), prompt, bind, out, **options)
    print(out)


def _bindings(option: str, texts: Iterable[str]) -> list[tuple[Path, str]]:
    """Parses FILE=WORD. The name of a file may contain "="."""
    pairs = [text.rpartition("=") for text in texts]
    for text, (file, _, word) in zip(texts, pairs, strict=True):
        if not file or not word:
            raise InputError(f"{option} '{text}': expected FILE=WORD, such as cat.jpg=cat")
    return [(Path(file), word) for file, _, word in pairs]


def _swaps(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Parses WORD=NEW."""
    pairs = [text.partition("=") for text in texts]
    for text, (word, _, new) in zip(texts, pairs, strict=True):
        if not word or not new:
            raise InputError(f"--swap '{text}': expected WORD=NEW, such as cat=robot")
    return [(word, new) for word, _, new in pairs]


def _words(option: str, texts: Iterable[str]) -> list[str]:
    for text in texts:
        if "=" in text:
            raise InputError(f"{option} '{text}': expected only a WORD, such as cat, because there is one file")
    return list(texts)


def _mp4(path: Path) -> Path:
    if path.suffix.lower() != ".mp4" or path.is_dir():
        raise InputError(f"--out '{path}': expected the name of a file that ends in .mp4")
    return path
