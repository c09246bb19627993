"""The site and what stands on its pages: links, pictures, generated parts, and commands."""

import os
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT, needs_zoo
from dagtools import snakemake
from PIL import Image

from bico.cli.main import app
from bico.config.reading import load
from bico.media.writing import write_clip
from bico.toybox.render import render
from bico.toybox.world import sample_scene

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
MESSAGES = "\n".join(path.read_text() for path in (ROOT / "bico").rglob("*.py"))


def title(page: Path) -> str:
    return str(page.relative_to(DOCS))


def commands(page: Path) -> list[list[str]]:
    """What the blocks marked `sh` on a page run, without `uv run`."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.splitlines() if line.strip()]
    return [words(line)[2:] for line in lines if line.startswith("uv run ")]


def words(line: str) -> list[str]:
    """A line as a shell reads it."""
    if "{" in line:
        line = subprocess.run(["bash", "-c", f"set -f; echo {line}"], capture_output=True, text=True, check=True).stdout
    return shlex.split(line, comments=True)


README = ROOT / "README.md"
COMMANDS = [command for page in [*PAGES, README] for command in commands(page)]


# --- pages ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site. A link, an anchor or a picture that is missing is an error, and so is a page in no contents."""
    out = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", f"{out}/cache", DOCS, out / "html"]
    done = subprocess.run([*map(str, build)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / "html"


def test_the_site_has_every_page(site):
    assert [page for page in PAGES if not (site / page.relative_to(DOCS).with_suffix(".html")).is_file()] == []


def test_the_site_needs_no_network(site):
    """Scripts, styles, fonts and pictures are its own; links that a reader follows may lead elsewhere."""
    loaded = re.compile(r'<(?:script|img|iframe|source)[^>]*\ssrc="(?:https?:)?//|<link[^>]*\shref="(?:https?:)?//')
    assert [page.name for page in site.rglob("*.html") if loaded.search(page.read_text())] == []
    assert [
        style.name
        for style in site.rglob("*.css")
        if re.search(r"(@import|url\()[\"' ]*(https?:)?//", style.read_text())
    ] == []


def test_formulas_are_drawn_by_the_browser(site):
    assert (site / "method.html").read_text().count("<math") > 10


def test_generated_parts_are_those_of_the_code():
    done = subprocess.run([sys.executable, DOCS / "generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "page", [*PAGES, README, ROOT / "benchmarks" / "README.md"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_every_relative_link_and_picture_is_there(page):
    text = re.sub(r"^( *)```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^    .*$", "", text, flags=re.MULTILINE)  # code, too
    targets = re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text))
    files = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:", target)]
    assert [file for file in files if file and not (page.parent / file).exists()] == []


def test_every_table_of_results_says_what_made_it():
    described = yaml.safe_load((DOCS / "results" / "tables.yaml").read_text())["tables"]
    assert sorted(described) == sorted(path.stem for path in (DOCS / "results").glob("*.csv"))
    assert [name for name, table in described.items() if not (table["command"] and table["date"])] == []


def test_explained_errors_are_those_of_the_code():
    """The first column of the tables in docs/troubleshooting.md quotes messages; "..." stands for what varies."""
    _, _, explained = (DOCS / "troubleshooting.md").read_text().partition("## Config")
    quoted = [
        text
        for line in explained.splitlines()
        if line.startswith("| `")
        for text in re.findall("`([^`]+)`", line.split(" | ")[0])
    ]
    source = re.sub(r'"\s*\n\s*f?"', "", MESSAGES)  # a message may go over several lines
    assert len(quoted) > 40
    assert [text for text in quoted for part in text.split("...") if part.strip() not in source] == []


# --- commands -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [pytest.param(each, id=" ".join(each)) for each in COMMANDS if each[0] == "bico"])
def test_commands_of_bico_can_be_parsed(command):
    app.parse_args(command[1:], exit_on_error=False, print_error=False)


@needs_zoo
def test_snakemake_knows_the_options_and_targets_of_every_command():
    """Commands with the same config are planned together, since a plan takes seconds."""
    from snakemake.cli import get_argument_parser

    values, targets = defaultdict(dict), defaultdict(dict)
    for command in COMMANDS:
        if command[0] == "snakemake":
            given = get_argument_parser().parse_args(command[1:])
            file = str((given.configfile or ["config/toybox.yaml"])[0])
            values[file] |= dict.fromkeys(given.config or ())
            targets[file] |= dict.fromkeys(given.targets)
    del targets["config/my_media.yaml"]  # the user's own, see test_own_media.py
    assert {"config/toybox.yaml", "config/pilot.yaml", "config/paper.yaml"} == targets.keys()
    for file, wanted in targets.items():
        given = ["--config", *values[file]] if values[file] else []
        done = snakemake("-n", "--quiet", "all", "--configfile", file, *given, "--", *wanted)
        assert done.returncode == 0, (file, done.stdout)


@pytest.fixture
def copy_of_the_repository(checkout, toybox) -> Path:
    """A default config with few cases and few steps of everything, and media under the names that the pages use."""
    config = load(toybox)
    toybox["methods"] = {row: entry.shortened(1).model_dump(mode="json") for row, entry in config.methods.items()}
    toybox["concepts"] |= {"captions": 4, "frame_captions": 2}
    toybox["sampling"]["steps"] = 1
    toybox["compile"] = False  # takes longer than all else
    names = [*list(toybox["cases"])[:5], "fish_spinning_in_space"]  # they bind every source; one has videos alone
    toybox["cases"] = {name: toybox["cases"][name] for name in names}
    toybox["rating"] |= {"groups": len(names)}
    (checkout / "config/toybox.yaml").write_text(yaml.safe_dump(toybox, sort_keys=False))
    own = yaml.safe_load((ROOT / "config/examples/own_media.yaml").read_text())
    own |= {"sampling": toybox["sampling"], "concepts": toybox["concepts"], "compile": False}
    own["methods"]["bico"] = toybox["methods"]["bico"]
    (checkout / "config/my_media.yaml").write_text(yaml.safe_dump(own, sort_keys=False))
    cat = sample_scene(np.random.default_rng(7001), subject="cat", scene="beach", moving=False)
    fish = sample_scene(np.random.default_rng(7011), subject="fish", scene="city", motion="bouncing")
    for folder in ("my_media", "photos"):
        (checkout / folder).mkdir()
    for path in ("cat.jpg", "photos/1.jpg", "photos/2.jpg", "my_media/cat.jpg", "my_media/cup.png"):
        Image.fromarray(render(cat, num_frames=1)[0]).save(checkout / path)
    for path in ("ball.mp4", "my_media/riding.mp4"):
        write_clip(checkout / path, render(fish, num_frames=9), fps=8)
    return checkout


@needs_zoo
@pytest.mark.slow
@pytest.mark.parametrize("page", ["start.md", "tutorials/own-media.md", "tutorials/benchmark.md"])
def test_commands_of_a_page_run_in_order_as_they_stand_there(page, copy_of_the_repository):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for command in commands(DOCS / page):
        environment = os.environ | {"PATH": path}
        done = subprocess.run(command, cwd=copy_of_the_repository, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-4000:])
