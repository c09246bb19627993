"""One command per step of the benchmark: what Snakemake calls is what a person types.

    bico compose --prompt "a cat bouncing" --bind cat.jpg=cat --bind clip.mp4=bouncing --out out.mp4
    bico check --config config/toybox.yaml
    bico learn --config results/config.yaml bico 0

Heavy libraries are imported inside the commands, so that a wrong argument is told at once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from bico.check import preflight
from bico.config import Config, Tables, load
from bico.errors import InputError
from bico.files import replacing, write_json
from bico.keep import Record, make_all
from bico.media import media_kind, read_media
from bico.provenance import code_digest, file_digest, folder_digest

if TYPE_CHECKING:
    import numpy as np

    from bico.backbone import Backbone
    from bico.encode import EncodedSource

DEFAULT_CONFIG = Path("config/toybox.yaml")
CASE = "composition"  # the one case of `bico compose`


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; bad input is one line on stderr and exit code 2."""
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    try:
        if "config" in options:
            options["config"] = load(options["config"])
            _check_names(options["config"], options)
        command(**options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


# --- sources --------------------------------------------------------------------------------------------------------


def check(config: Config) -> None:
    """Look for everything that would make a run fail later."""
    config = config.chosen()
    preflight(config)
    counts = f"{len(config.sources)} sources, {len(config.cases)} cases, {len(config.methods)} rows"
    print(f"{config.name}: {counts}, all fine")


def render(config: Config, source: str) -> None:
    """Render a Toybox source."""
    from bico.toybox.benchmark import write_source

    write_source(config, source)


def truth(config: Config) -> None:
    """Render what every Toybox case should show."""
    from bico.toybox.benchmark import write_truth

    for case in config.cases:
        if config.cases[case].truth:
            write_truth(config, case)


def concepts(config: Config) -> None:
    """Ask the VLM for every source's key concepts and for captions that hold them."""
    from bico.concepts import Vlm, extract

    shared = {"vlm": folder_digest(config.models.vlm), "code": code_digest("bico.concepts", "bico.media")}
    shared["settings"] = config.model_dump(mode="json", include={"concepts", "media"})

    def thing(source: str) -> tuple[Path, Record]:
        own = config.sources[source].model_dump(mode="json", include={"kind", "concepts"})
        return _concepts_path(config, source), shared | {"media": file_digest(config.media_path(source))} | own

    @cache
    def vlm() -> Vlm:
        return Vlm(config.models.vlm, device=_device(config))

    def make(source: str) -> None:
        entry, frames, fps = config.sources[source], _frames(config, source), config.media.fps
        found = extract(frames, entry.kind, config.concepts, vlm(), fps=fps, key_words=entry.concepts)
        write_json(_concepts_path(config, source), found)

    things = {source: thing(source) for source in config.sources}
    make_all("concepts", things, make, config.results / "concepts.json")


def encode(config: Config) -> None:
    """Turn sources and their captions into the latents and prompt embeddings that training reads."""
    from bico.encode import encode_source

    backbone = _backbone(config)
    shared = {"wan": folder_digest(config.models.wan), "code": code_digest("bico.encode", "bico.media")}
    shared["settings"] = [config.media.model_dump(mode="json"), config.text_slots, str(backbone.dtype)]

    def thing(source: str) -> tuple[Path, Record]:
        inputs = [config.media_path(source), _concepts_path(config, source)]
        return _encoded_path(config, source), shared | {"inputs": [file_digest(path) for path in inputs]}

    def make(source: str) -> None:
        found = json.loads(_concepts_path(config, source).read_text(encoding="utf-8"))
        encode_source(backbone, _frames(config, source), found).save(_encoded_path(config, source))

    things = {source: thing(source) for source in config.sources}
    make_all("encode", things, make, config.results / "encoded.json")


def appearance(config: Config) -> None:
    """Embed every source's frames with CLIP, for the methods that learn from it."""
    from safetensors.torch import save_file

    from bico.clip import Clip

    clip = Clip(config.models.clip, device=_device(config))
    shared = {"clip": folder_digest(config.models.clip), "code": code_digest("bico.clip", "bico.media")}
    shared["settings"] = config.model_dump(mode="json", include={"media"})

    def thing(source: str) -> tuple[Path, Record]:
        return _appearance_path(config, source), shared | {"media": file_digest(config.media_path(source))}

    def make(source: str) -> None:
        with replacing(_appearance_path(config, source)) as unfinished:
            save_file({"appearance": clip.image_embeddings(_frames(config, source)).cpu()}, unfinished)

    things = {source: thing(source) for source in config.sources}
    make_all("appearance", things, make, config.results / "appearance.json")


# --- methods --------------------------------------------------------------------------------------------------------


def learn(config: Config, method: str, part: int) -> None:
    """Learn what a method keeps of its sources, or cases: every PARTth of as many jobs as the config says."""
    from bico.methods import method as module_of
    from bico.methods.base import save_artifact
    from bico.training import METRICS

    settings, backbone = config.methods[method], _backbone(config)
    folder, sources = config.results / "learned" / method, config.learned(method)
    shared = {
        "settings": settings.learning(),
        "sampling": {"shift": config.sampling.shift},
        "seed": config.learning_seed,
        "dtype": str(backbone.dtype),
        "compile": config.compile,
        "text_slots": config.text_slots,
        "wan": folder_digest(config.models.wan),
        "code": code_digest(f"bico.methods.{settings.method}"),
    }

    def thing(item: str) -> tuple[Path, Record]:
        inputs = [_encoded_path(config, source) for source in sources[item]]
        inputs += [_appearance_path(config, source) for source in sources[item] if settings.APPEARANCE]
        return folder / f"{item}.safetensors", shared | {"inputs": [file_digest(path) for path in inputs]}

    def make(item: str) -> None:
        data = {source: _encoded(config, method, source) for source in sources[item]}
        artifact = folder / f"{item}.safetensors"
        workdir = artifact.with_suffix(".ckpt")  # survives a failure
        tensors = module_of(settings.method).learn(
            backbone,
            data if settings.LEARNS_PER == "case" else data[item],
            settings,
            shift=config.sampling.shift,
            seed=config.learning_seed,
            workdir=workdir,
            progress=f"{method} {item}",
        )
        os.replace(workdir / METRICS, artifact.with_suffix(".metrics.jsonl"))
        kept = {"method": settings.method, "source": item, "settings": json.dumps(settings.learning(), sort_keys=True)}
        save_artifact(artifact, tensors, kept)
        shutil.rmtree(workdir)

    things = {item: thing(item) for item in list(sources)[part :: config.parts]}
    make_all(f"learn {method}", things, make, folder / f"part{part}.json")


def generate(config: Config, method: str) -> None:
    """Make a method's clip of every case and seed."""
    from bico.clips import make_clips

    make_clips(config, method, _backbone(config))


def binding(config: Config, method: str) -> None:
    """Measure on its own what a method has learned of each source: reconstruction, and the leak test."""
    from bico.binding import binding

    binding(config, method, _backbone(config))


# --- results --------------------------------------------------------------------------------------------------------


def calibrate(config: Config) -> None:
    """Find both ends of the truth scores: the rendered truth, and another clip."""
    from bico.scoring import calibrate

    calibrate(config)


def score(config: Config, method: str) -> None:
    """Score a method's clips."""
    from bico.scoring import score

    score(config, method)


def table(config: Config, table: str) -> None:
    """Write a table: table1 (methods), table2 (parts of BiCo) or table3 (stages of its training)."""
    from bico.tables import write_table

    write_table(config, table)


def binding_table(config: Config) -> None:
    """Write the table of all methods' binding."""
    from bico.binding import collect

    collect(config, [row for row in config.table("table1") if config.methods[row].LEARNS_PER == "source"])


def figures(config: Config) -> None:
    """Draw each case: sources, truth and every method's clip."""
    from bico.figures import figures

    figures(config)


def plot(config: Config, table: str) -> None:
    """Draw a table's scores with their intervals, the paper's figures beside."""
    from bico.plots import plot

    plot(config, table)


def training_plot(config: Config, method: str) -> None:
    """Draw how a method's training went."""
    from bico.plots import training_plot

    training_plot(config, method)


def gallery(config: Config) -> None:
    """Write the page on which all clips can be looked at, filtered and played in step."""
    from bico.gallery import gallery

    gallery(config)


# --- without a benchmark --------------------------------------------------------------------------------------------


def compose(
    config: Config,
    prompt: str,
    bind: list[tuple[Path, str]],
    out: Path,
    steps: int | None,
    seed: int,
    workdir: Path | None,
) -> None:
    """Bind files to words of a prompt and write the clip that they make together."""
    with tempfile.TemporaryDirectory() if workdir is None else nullcontext(workdir) as folder:
        config = composition(config, prompt, bind, results=Path(folder), steps=steps, seed=seed)
        preflight(config)
        concepts(config)
        encode(config)
        learn(config, "bico", part=0)
        generate(config, "bico")
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(config.results / "clips" / "bico" / CASE / f"{seed}.mp4", out)
    print(out)


def composition(
    like: Config, prompt: str, bind: Sequence[tuple[Path, str]], *, results: Path, steps: int | None, seed: int
) -> Config:
    """A benchmark of one case: files bound to words; models, sizes and training as in `like`."""
    files = list(dict.fromkeys(path for path, _ in bind))
    sources = {f"source_{number}": path for number, path in enumerate(files, start=1)}
    shared = like.model_dump(
        mode="json", include={"media", "text_slots", "concepts", "learning_seed", "device", "dtype", "compile"}
    )
    sampling = like.sampling.model_dump() | ({"steps": steps} if steps else {})
    words = {source: [word for file, word in bind if file == path] for source, path in sources.items()}
    return load(
        shared
        | {
            "name": CASE,
            "results": results,
            "models": like.models.model_dump() | {"probe": None},
            "sampling": sampling,
            "seeds": [seed],
            "sources": {source: {"kind": media_kind(path), "file": path} for source, path in sources.items()},
            "cases": {CASE: {"prompt": prompt, "bind": words}},
            "methods": {"bico": like.methods["bico"].model_dump()},
        },
        name="--bind",
    )


# --- the Toybox's models ---------------------------------------------------------------------------------------------


def zoo(model: str, folder: Path, workdir: Path) -> None:
    """Train one of the Toybox's models into FOLDER, or install them all there, or measure them and write their card."""
    if model == "card":
        from bico.toybox.zoo.card import write_card

        write_card(folder)
    elif model == "install":
        from bico.toybox.zoo.install import install

        install(workdir, folder)
    else:
        import_module(f"bico.toybox.zoo.{model}").train(folder, workdir=workdir)


# --- helpers --------------------------------------------------------------------------------------------------------


def _check_names(config: Config, options: dict[str, object]) -> None:
    known = {
        "source": config.sources,
        "method": config.methods,
        "table": [table for table in Tables.model_fields if config.table(table)],
    }
    for name in known.keys() & options.keys():
        if options[name] not in known[name]:
            raise InputError(f"no {name} '{options[name]}' in the config: expected one of {', '.join(known[name])}")


def _device(config: Config) -> str:
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device


def _backbone(config: Config) -> Backbone:
    import torch

    from bico.backbone import Backbone, best_dtype

    device = _device(config)
    dtype = best_dtype(device) if config.dtype == "auto" else getattr(torch, config.dtype)
    return Backbone.open(
        config.models.wan, text_slots=config.text_slots, device=device, dtype=dtype, compiles=config.compile
    )


def _frames(config: Config, source: str) -> np.ndarray:
    return read_media(config.media_path(source), **config.media.model_dump())


def _encoded(config: Config, method: str, source: str) -> EncodedSource:
    """What a method may know of a source."""
    from safetensors.torch import load_file

    from bico.encode import EncodedSource

    encoded = EncodedSource.load(_encoded_path(config, source))
    if not config.methods[method].APPEARANCE:
        return encoded
    return replace(encoded, **load_file(_appearance_path(config, source)))


def _concepts_path(config: Config, source: str) -> Path:
    return config.results / "concepts" / f"{source}.json"


def _encoded_path(config: Config, source: str) -> Path:
    return config.results / "encoded" / f"{source}.safetensors"


def _appearance_path(config: Config, source: str) -> Path:
    return config.results / "appearance" / f"{source}.safetensors"


def _binding(text: str) -> tuple[Path, str]:
    path, _, word = text.rpartition("=")
    if not path or not word:
        raise argparse.ArgumentTypeError(f"'{text}': expected FILE=WORD, such as cat.jpg=cat")
    return Path(path), word


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bico", description="Compose concepts of images and videos: BiCo and its benchmark."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(command: Callable[..., None], *names: str, config: Path | None = None) -> argparse.ArgumentParser:
        sub = commands.add_parser(command.__name__.replace("_", "-"), help=command.__doc__, description=command.__doc__)
        sub.set_defaults(command=command)
        sub.add_argument(
            "--config", type=Path, default=config, required=config is None, help="YAML file of a benchmark"
        )
        for name in names:
            sub.add_argument(name, type=int if name == "part" else str)
        return sub

    for command, *names in STEPS:
        add(command, *names)
    sub = commands.add_parser("zoo", help=zoo.__doc__, description=zoo.__doc__)
    sub.set_defaults(command=zoo)
    sub.add_argument("model", choices=["vae", "wan", "vlm", "clip", "dino", "probe", "install", "card"])
    sub.add_argument("folder", type=Path)
    sub.add_argument(
        "--workdir", type=Path, default=Path("build/zoo/work"), help="checkpoints of a training; install: models"
    )
    sub = add(compose, config=DEFAULT_CONFIG)
    sub.add_argument("--prompt", required=True, help="what the clip shows")
    sub.add_argument(
        "--bind",
        type=_binding,
        action="append",
        required=True,
        metavar="FILE=WORD",
        help="an image or a video, and a word of the prompt that it gives its look or motion",
    )
    sub.add_argument("--out", type=Path, required=True, metavar="OUT.mp4")
    sub.add_argument("--steps", type=int, help="denoising steps; default: those of the config")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--workdir", type=Path, help="keep what is computed on the way here")
    return parser


STEPS = [
    (check,),
    (render, "source"),
    (truth,),
    (concepts,),
    (encode,),
    (appearance,),
    (learn, "method", "part"),
    (generate, "method"),
    (binding, "method"),
    (binding_table,),
    (calibrate,),
    (score, "method"),
    (table, "table"),
    (plot, "table"),
    (training_plot, "method"),
    (figures,),
    (gallery,),
]


if __name__ == "__main__":
    sys.exit(main())
