"""One command per step of the benchmark: what Snakemake calls is what a person types.

    bico compose --prompt "a cat bouncing" --bind cat.jpg=cat --bind clip.mp4=bouncing --out out.mp4
    bico check --config config/toybox.yaml
    bico learn --config results/config.yaml bico 0

Heavy libraries are imported inside the commands, so that a wrong argument is told at once.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from bico.config.schema import METHOD_SETTINGS, Application, Config, Tables, checked, load
from bico.core.errors import InputError
from bico.core.files import replacing, write_json
from bico.core.fingerprints import code_digest, file_digest, folder_digest
from bico.core.lease import take_device
from bico.core.records import Record, checkpoints, make_all
from bico.media.files import media_kind, read_media
from bico.pipeline.preflight import preflight
from bico.sources.concepts import Vlm, concepts_path, extract, unnamed
from bico.sources.weights import due, repositories

if TYPE_CHECKING:
    import numpy as np

    from bico.models.wan.backbone import Backbone
    from bico.sources.encoding import EncodedSource

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
            if command in OF_THE_TOYBOX and not options["config"].models.probe:
                name = command.__name__.replace("_", "-")
                raise InputError(f"{name}: measured against Toybox scenes by models.probe: there is none")
        command(**options)
        _tell_gpu_memory()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except FileNotFoundError as error:
        results = options["config"].results.absolute() if "config" in options else None
        if results is None or not Path(str(error.filename)).absolute().is_relative_to(results):
            raise
        print(
            f"error: {error.filename}: not there: expected what an earlier step makes; Snakemake runs all in order",
            file=sys.stderr,
        )
        return 2
    return 0


def _tell_gpu_memory() -> None:
    """What a GPU has to have for this command, as the last line of its log."""
    if (torch := sys.modules.get("torch")) and torch.cuda.is_initialized():
        print(f"GPU memory: {torch.cuda.max_memory_reserved() / 2**30:.1f} GiB at most", file=sys.stderr)


# --- sources --------------------------------------------------------------------------------------------------------


def check(config: Config) -> None:
    """Look for everything that would make a run fail later."""
    config = config.chosen()
    preflight(config)
    counts = f"{len(config.sources)} sources, {len(config.cases)} cases, {len(config.methods)} rows"
    print(f"{config.name}: {counts}, all fine")
    used = {*config.bound(), *(application.source for application in config.applications.values())}
    for source in config.sources:
        if source not in used:
            print(f"notice: sources.{source}: no case binds it", file=sys.stderr)


def weights(config: Config, repository: str) -> None:
    """Fetch a model of full size, as config/weights.lock pins it; then look again whether the benchmark fits it."""
    from bico.sources.weights import fetch

    fetch(config.weights_store, repository)
    preflight(config)


def authors(config: Config) -> None:
    """Fetch the authors' project page: media for sources, and published clips."""
    from bico.sources.authors import fetch

    fetch(config.authors_page)


def estimate(config: Config, machine: str, measure: bool, targets: list[str]) -> None:
    """Tell jobs, hours and disk of a run before it starts, without what is already there."""
    import yaml

    from bico.profiling import estimate as run

    costs = run.measure(config) if measure else run.costs_of(machine)
    print(run.estimate(config, costs, targets))
    if measure:
        print("\n" + yaml.safe_dump({"this_machine": costs.model_dump()}, sort_keys=False))


def render(config: Config, source: str) -> None:
    """Render a Toybox source."""
    from bico.toybox.scenes import write_source

    if config.sources[source].scene is None:
        raise InputError(f"sources.{source}: a file of your own: expected a source with 'scene'")
    write_source(config, source)


def truth(config: Config) -> None:
    """Render what every Toybox case should show."""
    from bico.toybox.scenes import write_truth

    for case in config.truths:
        write_truth(config, case)


def concepts(config: Config) -> None:
    """Ask the VLM for every source's key concepts and for captions that hold them."""
    shared = {"vlm": folder_digest(config.models.vlm), "code": code_digest("bico.sources.concepts", "bico.media.files")}
    shared["settings"] = config.model_dump(mode="json", include={"concepts", "media"})

    def thing(source: str) -> tuple[Path, Record]:
        own = config.sources[source].model_dump(mode="json", include={"kind", "concepts"})
        return concepts_path(config, source), shared | {"media": file_digest(config.media_path(source))} | own

    @cache
    def vlm() -> Vlm:
        return Vlm(config.models.vlm, device=_device(config))

    def make(source: str) -> None:
        entry, frames, fps = config.sources[source], _frames(config, source), config.media.fps
        try:
            found = extract(frames, entry.kind, config.concepts, vlm(), fps=fps, key_words=entry.concepts)
        except InputError as error:
            raise InputError(f"sources.{source}: {error}") from None
        write_json(concepts_path(config, source), found)

    things = {source: thing(source) for source in config.sources}
    make_all("concepts", things, make, config.results / "concepts.json")
    for case, source, word in unnamed(config):
        found = json.loads(concepts_path(config, source).read_text(encoding="utf-8"))
        known = ", ".join([*found["spatial"], *found["temporal"]])
        setting = "--spatial and --temporal set" if case == CASE else "'concepts' of the source sets"
        print(
            f"notice: cases.{case}: no caption of {source} names '{word}', so little is learned under that word; "
            f"its key words are {known} ({setting} them)",
            file=sys.stderr,
        )


def encode(config: Config) -> None:
    """Turn sources and their captions into the latents and prompt embeddings that training reads."""
    from bico.sources.encoding import encode_source

    backbone = _backbone(config)
    shared = {"wan": folder_digest(config.models.wan), "code": code_digest("bico.sources.encoding", "bico.media.files")}
    shared["settings"] = [config.media.model_dump(mode="json"), config.text_slots, str(backbone.dtype)]

    def thing(source: str) -> tuple[Path, Record]:
        inputs = [config.media_path(source), concepts_path(config, source)]
        return config.encoded_path(source), shared | {"inputs": [file_digest(path) for path in inputs]}

    def make(source: str) -> None:
        found = json.loads(concepts_path(config, source).read_text(encoding="utf-8"))
        encode_source(backbone, _frames(config, source), found).save(config.encoded_path(source))

    things = {source: thing(source) for source in config.sources}
    make_all("encode", things, make, config.results / "encoded.json")


def appearance(config: Config) -> None:
    """Embed every source's frames with CLIP, for the methods that learn from it."""
    from safetensors.torch import save_file

    from bico.models.clip import Clip

    clip = Clip(config.models.clip, device=_device(config))
    shared = {"clip": folder_digest(config.models.clip), "code": code_digest("bico.models.clip", "bico.media.files")}
    shared["settings"] = config.model_dump(mode="json", include={"media"})

    def thing(source: str) -> tuple[Path, Record]:
        return config.appearance_path(source), shared | {"media": file_digest(config.media_path(source))}

    def make(source: str) -> None:
        with replacing(config.appearance_path(source)) as unfinished:
            save_file({"appearance": clip.image_embeddings(_frames(config, source)).cpu()}, unfinished)

    things = {source: thing(source) for source in config.sources}
    make_all("appearance", things, make, config.results / "appearance.json")


# --- methods --------------------------------------------------------------------------------------------------------


def learn(config: Config, method: str, part: int) -> None:
    """Learn what a method keeps of its sources, or cases: PART of as many parts of them as the config says."""
    from bico.methods import method as module_of
    from bico.methods.base import save_artifact
    from bico.methods.training import METRICS

    if part not in range(config.parts):
        raise InputError(f"no part {part} of {config.parts} ('parts' in the config): expected one from 0 on")
    settings, backbone = config.methods[method], _backbone(config)
    manifest, sources = config.results / "learned" / method / f"part{part}.json", config.learned(method)
    trainings = {f"{item} {seed}": (item, seed) for item, seed in config.trainings(method)[part :: config.parts]}
    shared = {
        "settings": settings.learning(),
        "sampling": {"shift": config.sampling.shift},
        "dtype": str(backbone.dtype),
        "compile": config.compile,
        "text_slots": config.text_slots,
        "wan": folder_digest(config.models.wan),
        "code": code_digest(f"bico.methods.{settings.method}"),
    }

    def thing(item: str, seed: int) -> tuple[Path, Record]:
        inputs = [config.encoded_path(source) for source in sources[item]]
        inputs += [config.appearance_path(source) for source in sources[item] if settings.APPEARANCE]
        own = {"seed": seed, "inputs": [file_digest(path) for path in inputs]}
        return config.artifact_path(method, item, seed), shared | own

    def make(name: str) -> None:
        item, seed = trainings[name]
        data = {source: _encoded(config, method, source) for source in sources[item]}
        artifact, record = things[name]
        workdir = checkpoints(artifact, record)  # survive a failure
        tensors = module_of(settings.method).learn(
            backbone,
            data if settings.LEARNS_PER == "case" else data[item],
            settings,
            shift=config.sampling.shift,
            seed=seed,
            workdir=workdir,
            progress=f"{method} {name}",
        )
        with replacing(artifact.with_suffix(".metrics.jsonl")) as unfinished:
            shutil.copyfile(workdir / METRICS, unfinished)
        kept = {"method": settings.method, "source": item, "settings": json.dumps(settings.learning(), sort_keys=True)}
        save_artifact(artifact, tensors, kept)
        shutil.rmtree(workdir)

    things = {name: thing(*training) for name, training in trainings.items()}
    make_all(f"learn {method}", things, make, manifest)


def generate(config: Config, method: str) -> None:
    """Make a method's clip of every case and seed."""
    from bico.pipeline.generate import make_clips

    make_clips(config, method, _backbone(config))


def unbound(config: Config) -> None:
    """Measure what the base shows of every source's words, for `binding` to compare with."""
    from bico.analysis.binding import unbound

    unbound(config, _backbone(config))


def binding(config: Config, method: str) -> None:
    """Measure on its own what a method has learned of each source: reconstruction, and the leak test."""
    from bico.analysis.binding import binding

    binding(config, method, _backbone(config))


def applications(config: Config) -> None:
    """Decompose and edit sources: make the clips, measure and draw them."""
    from bico.analysis.applications import applications

    applications(config, _backbone(config))


def absorption(config: Config) -> None:
    """Show where bound words and the absorption token look, with it and without."""
    from bico.analysis.absorption import absorption

    absorption(config, _backbone(config))


# --- results --------------------------------------------------------------------------------------------------------


def calibrate(config: Config) -> None:
    """Find both ends of the truth scores, the rendered truth and another clip, and score that truth like a clip."""
    from bico.scoring.scores import calibrate

    calibrate(config)


def score(config: Config, method: str) -> None:
    """Score a method's clips."""
    from bico.scoring.scores import score

    _device(config)  # scoring chooses the same way: this keeps other jobs off its GPU
    score(config, method)


def published(config: Config) -> None:
    """Score the clips that the authors published."""
    from bico.sources.authors import score_published

    score_published(config, device=_device(config))


def table(config: Config, table: str) -> None:
    """Write a table: table1 (methods), table2 (parts of BiCo) or table3 (stages of its training)."""
    from bico.report.tables import write_table

    write_table(config, table)


def parts(config: Config) -> None:
    """Take the concept score apart: which looks each row of table 1 holds, and which it loses."""
    from bico.analysis.concept_parts import parts

    parts(config, list(config.table("table1")))


def binding_table(config: Config) -> None:
    """Write the table of all methods' binding."""
    from bico.analysis.binding import collect

    collect(config, [row for row in config.table("table1") if config.methods[row].LEARNS_PER == "source"])


def figures(config: Config) -> None:
    """Draw each case: sources, truth and every method's clip."""
    from bico.report.figures import figures

    figures(config)


def plot(config: Config, table: str) -> None:
    """Draw a table's scores with their intervals, the paper's figures beside."""
    from bico.report.plots import plot

    plot(config, table)


def curve(config: Config, curve: str) -> None:
    """Draw the scores of rows that differ in one setting."""
    from bico.report.plots import curve_plot

    curve_plot(config, curve)


def training_plot(config: Config, method: str) -> None:
    """Draw how a method's training went."""
    from bico.report.plots import training_plot

    training_plot(config, method)


def gallery(config: Config) -> None:
    """Write the page on which all clips can be looked at, filtered and played in step."""
    from bico.report.gallery import gallery

    gallery(config)


def rating(config: Config) -> None:
    """Write the pages on which people rate the clips of table 1, and the key to them."""
    from bico.report.rating import rating

    rating(config)


# --- without a benchmark --------------------------------------------------------------------------------------------


def compose(
    config: Config,
    prompt: str,
    bind: list[tuple[Path, str]],
    out: Path,
    spatial: list[tuple[Path, str]],
    temporal: list[tuple[Path, str]],
    steps: int | None,
    seed: int,
    workdir: Path | None,
) -> None:
    """Bind files to words of a prompt and write the clip that they make together."""
    for folder in (out.parent, *([workdir] if workdir else [])):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: no folder can be made there ({error.strerror}): name another") from None
    with tempfile.TemporaryDirectory() if workdir is None else nullcontext(workdir) as folder:
        key_words = {"spatial": spatial, "temporal": temporal}
        config = composition(config, prompt, bind, key_words, results=Path(folder), steps=steps, seed=seed)
        preflight(config)
        for repository in due(config).values():
            weights(config, repository)
        concepts(config)
        encode(config)
        learn(config, "bico", part=0)
        generate(config, "bico")
        shutil.copyfile(config.clip_path("bico", CASE, seed), out)
    print(out)


def decompose(
    config: Config, media: Path, keep: list[str], spatial: list[str], temporal: list[str], **options: object
) -> None:
    """Bind only the wanted words of one file, and write the clip that the prompt then makes."""
    bind, spatial, temporal = ([(media, word) for word in words] for words in (keep, spatial, temporal))
    compose(config, bind=bind, spatial=spatial, temporal=temporal, **options)


def edit(config: Config, media: Path, prompt: str, swap: list[tuple[str, str]], **options: object) -> None:
    """Swap words of the sentence that one file shows, keep all others bound to it, and write the clip."""
    values = {"source": "source", "prompt": prompt, "swap": dict(swap)}
    if len(values["swap"]) < len(swap):
        raise InputError("--swap: a word stands there twice: expected each once")
    case = checked(Application, values, name="--swap").case()
    decompose(config, media, case.bind["source"], prompt=case.prompt, **options)


def composition(
    like: Config,
    prompt: str,
    bind: Sequence[tuple[Path, str]],
    key_words: Mapping[str, Sequence[tuple[Path, str]]],
    *,
    results: Path,
    steps: int | None,
    seed: int,
) -> Config:
    """A benchmark of one case: files bound to words; models, sizes and training as in `like`.

    Args:
        key_words: spatial and temporal ones of files; where a file has any, the VLM is not asked for its.
    """
    sources = _named(dict.fromkeys(path for path, _ in bind))
    given: dict[Path, dict[str, list[str]]] = {}
    for kind, pairs in key_words.items():
        for path, word in pairs:
            if path not in sources.values():
                raise InputError(f"--{kind}: {path} is bound to no word: expected one of the files that are")
            given.setdefault(path, {}).setdefault(kind, []).append(word)
    numbers = {"media", "text_slots", "concepts"}
    machine = {"weights_store", "device", "dtype", "compile", "gradient_checkpointing"}
    shared = like.model_dump(mode="json", include=numbers | machine)
    shared["media"]["read"] = "time"  # of one's own clips nobody has counted the frames
    sampling = like.sampling.model_dump() | ({"steps": steps} if steps else {})
    words = {source: [word for file, word in bind if file == path] for source, path in sources.items()}
    settings = next((row for row in like.methods.values() if row.method == "bico"), None)
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
            "sources": {
                source: {"kind": media_kind(path), "file": path, "concepts": given.get(path)}
                for source, path in sources.items()
            },
            "cases": {CASE: {"prompt": prompt, "bind": words}},
            "methods": {"bico": settings.model_dump()},
        },
        name="--bind",
    )


def _named(files: Iterable[Path]) -> dict[str, Path]:
    """Sources by the names of their files."""
    named: dict[str, Path] = {}
    for path in files:
        name = re.sub(r"\W+", "_", path.stem, flags=re.ASCII).strip("_") or "source"
        while name in named:
            name += "_2"
        named[name] = path
    return named


def pin_weights() -> None:
    """Write config/weights.lock anew: revisions and checksums of all models of full size, as their hub has them now."""
    from bico.sources.weights import pin_all

    pin_all()


# --- the authors' checkpoints ----------------------------------------------------------------------------------------


def import_(checkpoint: Path, out: Path) -> None:
    """Read a checkpoint of the authors' code into OUT, an artifact of the method bico."""
    from bico.methods.released import import_checkpoint

    with _writing(out):
        import_checkpoint(checkpoint, out)


def export(artifact: Path, out: Path) -> None:
    """Write what the method bico learned of a source as a checkpoint for the authors' code."""
    from bico.methods.released import export_checkpoint

    with _writing(out):
        export_checkpoint(artifact, out)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}): name another file") from None


# --- full size -------------------------------------------------------------------------------------------------------


def bench(device: str, **options: object) -> None:
    """Measure training and generation of the full-size model on random weights, beside two other ways to train it."""
    from bico.profiling.bench import bench

    bench(**options, device=_free_device(device))


# --- the Toybox's models ---------------------------------------------------------------------------------------------


def zoo(model: str, folder: Path, workdir: Path | None) -> None:
    """Train one of the Toybox's models into FOLDER, or install them all there, or measure them and write their card."""
    if model == "card":
        from bico.zoo.card import write_card

        write_card(folder)
    elif model == "install":
        from bico.zoo.install import install

        install(workdir or Path("build/zoo"), folder)
    else:
        import_module(f"bico.zoo.{model}").train(folder, workdir=workdir or Path("build/zoo/work"))


# --- helpers --------------------------------------------------------------------------------------------------------


def _check_names(config: Config, options: dict[str, object]) -> None:
    known = {
        "source": config.sources,
        "method": config.methods,
        "table": [table for table in Tables.model_fields if config.table(table)],
        "curve": config.curves,
        "repository": repositories(config).values(),
    }
    for name in known.keys() & options.keys():
        if options[name] not in known[name]:
            expected = f"one of {', '.join(known[name])}" if known[name] else "one that has some"
            raise InputError(f"no {name} '{options[name]}' in the config: expected {expected}")


def _device(config: Config) -> str:
    return _free_device(config.device)


def _free_device(device: str) -> str:
    """Where models run; on a GPU that no other job of this node has."""
    import torch

    if device != "cpu":
        take_device()
    found = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and found == "cpu":
        raise InputError("device: 'cuda', but torch sees no GPU: expected one, or device 'auto' or 'cpu'")
    return found if device == "auto" else device


def _backbone(config: Config) -> Backbone:
    import torch

    from bico.models.wan.backbone import Backbone, best_dtype

    device = _device(config)
    dtype = best_dtype(device) if config.dtype == "auto" else getattr(torch, config.dtype)
    return Backbone.open(
        config.models.wan,
        text_slots=config.text_slots,
        device=device,
        dtype=dtype,
        compiles=config.compile,
        recomputes=config.gradient_checkpointing,
    )


def _frames(config: Config, source: str) -> np.ndarray:
    return read_media(config.media_path(source), **config.media.model_dump())


def _encoded(config: Config, method: str, source: str) -> EncodedSource:
    """What a method may know of a source."""
    from safetensors.torch import load_file

    from bico.sources.encoding import EncodedSource

    encoded = EncodedSource.load(config.encoded_path(source))
    if not config.methods[method].APPEARANCE:
        return encoded
    return replace(encoded, **load_file(config.appearance_path(source)))


def _binding(text: str) -> tuple[Path, str]:
    path, _, word = text.rpartition("=")
    if not path or not word:
        raise argparse.ArgumentTypeError(f"'{text}': expected FILE=WORD, such as cat.jpg=cat")
    return Path(path), word


def _word(text: str) -> str:
    if "=" in text:
        raise argparse.ArgumentTypeError(f"'{text}': expected a WORD of the one file, such as cat")
    return text


def _swap(text: str) -> tuple[str, str]:
    word, _, new = text.partition("=")
    if not word or not new:
        raise argparse.ArgumentTypeError(f"'{text}': expected WORD=NEW, such as cat=robot")
    return word, new


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}': expected a whole number from 1 on")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}': expected a whole number from 0 on")
    return int(text)


def _mp4(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() != ".mp4" or path.is_dir():
        raise argparse.ArgumentTypeError(f"'{text}': expected the name of a file that ends in .mp4")
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bico", description="Compose concepts of images and videos: BiCo and its benchmark."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(command: Callable[..., None], *names: str, config: Path | None = None) -> argparse.ArgumentParser:
        sub = commands.add_parser(command.__name__.replace("_", "-"), help=command.__doc__, description=command.__doc__)
        sub.set_defaults(command=command)
        default = "" if config is None else f", whose models and sizes are taken; default: {config}"
        sub.add_argument(
            "--config", type=Path, default=config, required=config is None, help=f"YAML file of a benchmark{default}"
        )
        for name in names:
            sub.add_argument(name, type=int if name == "part" else str, help=ARGUMENTS[name])
        return sub

    for command, *names in STEPS:
        add(command, *names)
    sub = commands.add_parser("pin-weights", help=pin_weights.__doc__, description=pin_weights.__doc__)
    sub.set_defaults(command=pin_weights)
    sub = add(estimate)
    sub.add_argument("targets", nargs="*", help="files, as for Snakemake; default: those of `all`")
    sub.add_argument("--machine", default="laptop", help="one of machines.yaml; default: laptop")
    sub.add_argument("--measure", action="store_true", help="measure this machine first, on a handful of work")
    for name, command, source in (("import", import_, "checkpoint"), ("export", export, "artifact")):
        sub = commands.add_parser(name, help=command.__doc__, description=command.__doc__)
        sub.set_defaults(command=command)
        sub.add_argument(source, type=Path)
        sub.add_argument("out", type=Path)
    sub = commands.add_parser("bench", help=bench.__doc__, description=bench.__doc__)
    sub.set_defaults(command=bench)
    sub.add_argument("--preset", choices=["full", "small"], default="full", help="Wan2.1-T2V-1.3B, or toys for a CPU")
    sub.add_argument("--frames", type=_positive, nargs="+", help="of the clips, 4k + 1 each; default: 1 49 81 (full)")
    sub.add_argument("--height", type=_positive, help="pixels, a multiple of 16; default: 480 (full)")
    sub.add_argument("--width", type=_positive, help="default: 832 (full)")
    sub.add_argument("--blocks", type=_positive, help="of the transformer; default: 30 (full)")
    sub.add_argument("--steps", type=_positive, default=5, help="of each training, after two that do not count")
    sub.add_argument("--sampling-steps", type=_count, help="of the generation, 0 for none; default: 50 (full)")
    rows = [name for name, settings in METHOD_SETTINGS.items() if settings.LEARNS_PER != "nothing"]
    sub.add_argument("--methods", nargs="+", choices=rows, default=["bico"], help="whose trainings; default: bico")
    others = ["diffusers", "re-encoding"]
    sub.add_argument("--beside", nargs="*", choices=others, default=others, help="trainings to compare; default: both")
    sub.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    sub.add_argument("--out", type=Path, metavar="OUT.json", help="or OUT.csv")
    sub = commands.add_parser("zoo", help=zoo.__doc__, description=zoo.__doc__)
    sub.set_defaults(command=zoo)
    sub.add_argument("model", choices=["vae", "wan", "vlm", "clip", "dino", "probe", "install", "card"])
    sub.add_argument("folder", type=Path)
    sub.add_argument(
        "--workdir",
        type=Path,
        help="checkpoints of a training, default: build/zoo/work; install: where the models are, default: build/zoo",
    )
    for command in (compose, decompose, edit):
        sub = add(command, config=DEFAULT_CONFIG)
        sub.add_argument(
            "--prompt", required=True, help="what the file shows" if command is edit else "what the clip shows"
        )
        sub.add_argument("--out", type=_mp4, required=True, metavar="OUT.mp4")
        sub.add_argument("--steps", type=_positive, help="denoising steps; default: those of the config")
        sub.add_argument("--seed", type=_count, default=0, help="of the clip's noise; default: 0")
        sub.add_argument("--workdir", type=Path, help="keep what is computed on the way here")
        for kind, what in (("spatial", "objects, colours, style, light"), ("temporal", "motion, change of view")):
            file = "FILE=" if command is compose else ""
            sub.add_argument(
                f"--{kind}", type=_binding if file else _word, action="append", default=[], metavar=f"{file}WORD",
                help=f"a key word that the file's captions are to hold ({what}); default: the VLM finds them",
            )  # fmt: skip
        if command is compose:
            text = "an image or a video, and a word of the prompt that it gives its look or motion"
            sub.add_argument("--bind", type=_binding, action="append", required=True, metavar="FILE=WORD", help=text)
            continue
        sub.add_argument("media", type=Path, help="an image or a video")
        if command is decompose:
            text = "a word of the prompt that the file gives"
            sub.add_argument("--keep", action="append", required=True, metavar="WORD", help=text)
        else:
            text = "a word of the prompt and what stands in its place"
            sub.add_argument("--swap", type=_swap, action="append", required=True, metavar="WORD=NEW", help=text)
    return parser


ARGUMENTS = {
    "source": "one of `sources` in the config",
    "method": "one of `methods`: a row of the tables",
    "part": "of the row's trainings, from 0 on: see `parts`",
    "table": "one of `tables`",
    "curve": "one of `curves`",
    "repository": "as config/weights.lock names it",
}
OF_THE_TOYBOX = {unbound, binding, parts, binding_table, applications, absorption, calibrate}
STEPS = [
    (check,),
    (weights, "repository"),
    (authors,),
    (render, "source"),
    (truth,),
    (concepts,),
    (encode,),
    (appearance,),
    (learn, "method", "part"),
    (generate, "method"),
    (unbound,),
    (binding, "method"),
    (parts,),
    (binding_table,),
    (applications,),
    (absorption,),
    (calibrate,),
    (score, "method"),
    (published,),
    (table, "table"),
    (plot, "table"),
    (curve, "curve"),
    (training_plot, "method"),
    (figures,),
    (gallery,),
    (rating,),
]


if __name__ == "__main__":
    sys.exit(main())
