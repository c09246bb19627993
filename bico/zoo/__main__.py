"""The entry point of the zoo.

python -m bico.zoo vae build/zoo/wan/vae       train one of vae, wan, vlm, clip, dino, probe into a folder
python -m bico.zoo wan build/zoo/wan --start data/toybox/zoo/wan
                                               continue from these weights, in a sixth of the time
python -m bico.zoo vqa build/zoo/vqa            teach a trained vlm to answer yes or no
python -m bico.zoo lean build/lean --lean 0    a copy with another strength of dependence of words on their sentence
python -m bico.zoo scale build/scale           text-to-video models of which each was trained longer than the last
python -m bico.zoo clutter build/zoo/probe     train anew the part of a trained probe that reads clutter
python -m bico.zoo install data/toybox/zoo     install all trained models
python -m bico.zoo card data/toybox/zoo        measure the installed models and write their card

`snakemake -s workflow/zoo.smk` runs all of them in order.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from bico.core.errors import InputError, exit_code

# Imported only when they are asked for, because their libraries take seconds to import.
TRAINED = {
    "vae": "bico.zoo.vae",
    "wan": "bico.zoo.wan.train",
    "lean": "bico.zoo.wan.lean",
    "scale": "bico.zoo.wan.scale",
    "vlm": "bico.zoo.vlm.train",
    "vqa": "bico.zoo.vlm.questions",
    "clip": "bico.zoo.clip",
    "dino": "bico.zoo.dino",
    "probe": "bico.zoo.probe",
    "clutter": "bico.zoo.clutter",
}
TAKES = {"start": ("wan", "lean", "scale", "vlm", "vqa"), "lean": ("wan", "lean")}
"""Option -> the models whose training has it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. Bad input gives one line on stderr and exit code 2."""

    def command() -> None:
        options = _parser().parse_args(arguments)
        run(options.command, options.folder, workdir=options.workdir, start=options.start, lean=options.lean)

    return exit_code(command)


def run(command: str, folder: Path, *, workdir: Path | None, start: Path | None, lean: float | None) -> None:
    """Trains a model into `folder`, installs all models there, or measures the models in it."""
    if command == "card":
        from bico.zoo.card import write_card

        write_card(folder)
    elif command == "install":
        from bico.zoo.install import install

        install(workdir or Path("build/zoo"), folder)
    else:
        further = {name: value for name, value in {"start": start, "lean": lean}.items() if value is not None}
        for name in further:
            if command not in TAKES[name]:
                raise InputError(
                    f"--{name}: {command} takes no such option: expected it with {' or '.join(TAKES[name])}"
                )
        if start is not None and not start.is_dir():
            raise InputError(f"--start: {start}: no such folder: expected that of a trained {command}")
        import_module(TRAINED[command]).train(folder, workdir=workdir or Path("build/zoo/work") / command, **further)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; 'python -m bico.zoo --help' shows what is expected")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m bico.zoo", description="Train, install or measure the Toybox's shipped models.")
    parser.add_argument(
        "command",
        choices=[*TRAINED, "install", "card"],
        help="the model to train (clutter is a part of the probe: FOLDER is that of a trained probe); or install, "
        "which copies all trained models to FOLDER and lists their checksums; or card, which measures the models in "
        "FOLDER and writes its README.md",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--workdir",
        type=Path,
        metavar="W",
        help="for a training: folder of its rendered scenes and checkpoints, default build/zoo/work/<model>; for "
        "install: folder of the trained models, default build/zoo",
    )
    parser.add_argument(
        "--start",
        type=Path,
        metavar="S",
        help="for wan and vlm: folder of a trained model to continue from, by default training starts from scratch; "
        "for lean: folder of the wan whose DiT is kept; for scale: folder of the wan whose text encoder is kept; "
        "default of both: data/toybox/zoo/wan; for vqa: folder of the vlm that learns to answer yes or no, default "
        "data/toybox/zoo/vlm",
    )
    parser.add_argument(
        "--lean",
        type=float,
        metavar="L",
        help="for wan and lean: how much words depend on their sentence, 0 = not at all; default: the shipped value",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
