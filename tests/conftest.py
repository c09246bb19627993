"""What several tests need: a stand-in for the model folders, and a small benchmark of the Toybox."""

import copy
import os
import shutil
from pathlib import Path

import pytest
import yaml
from files import write_weights
from hypothesis import HealthCheck, settings

from bico.pipeline.model_folders import ENTRY_FILES

ROOT = Path(__file__).parents[1]
ZOO = ROOT / "data" / "toybox" / "zoo"

# The same examples in every run, however slow the machine.
settings.register_profile(
    "repeatable", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as a job has; two processes of two threads each wait for one another

needs_zoo = pytest.mark.skipif(not (ZOO / "SHA256SUMS").exists(), reason="needs the Toybox's models")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run also what takes many minutes, marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="takes many minutes; --slow runs it"))


@pytest.fixture(scope="session")
def stub_zoo(tmp_path_factory) -> Path:
    """Model folders as far as the checks look into them: entry files, blocks, empty weights, and tokenizers of single
    words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    zoo = tmp_path_factory.mktemp("zoo")
    for name, (entry_file, key) in ENTRY_FILES.items():
        (zoo / name).mkdir()
        (zoo / name / entry_file).write_text(f'{{"{key}": {{}}}}')
        write_weights(name, zoo / name)
    (zoo / "wan" / "tokenizer").mkdir()
    (zoo / "wan" / "transformer" / "config.json").write_text(
        '{"num_layers": 6, "patch_size": [1, 2, 2], "num_attention_heads": 2, "attention_head_dim": 4, "ffn_dim": 16, '
        '"text_dim": 8, "in_channels": 16}'
    )
    (zoo / "wan" / "vae" / "config.json").write_text("{}")
    (zoo / "clip" / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 8}}')
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    for folder in (zoo / "wan" / "tokenizer", zoo / "vqa"):
        tokenizer.save(str(folder / "tokenizer.json"))
    return zoo


@pytest.fixture(scope="module")
def backbone():
    """A tiny Wan backbone; imported here, because many tests need none and torch takes seconds to import."""
    import tiny

    return tiny.backbone()


@pytest.fixture(scope="module")
def sources() -> dict:
    """An image, "still", and a video, "clip", as training reads them."""
    import tiny

    return tiny.sources()


@pytest.fixture(scope="session")
def _toybox() -> dict:
    return yaml.safe_load((ROOT / "config" / "toybox.yaml").read_text())


@pytest.fixture
def toybox(_toybox) -> dict:
    """config/toybox.yaml, to be changed at will."""
    return copy.deepcopy(_toybox)


@pytest.fixture
def few_are_enough(monkeypatch):
    """Intervals of as few cases as the toy benchmark has (`toy.py`): three."""
    monkeypatch.setattr("bico.report.statistics.FEWEST", 3)


@pytest.fixture
def small(toybox, stub_zoo, tmp_path) -> dict:
    """One image and one video, one case, one seed; models that only the checks can open."""
    toybox["results"] = str(tmp_path / "results")
    toybox["models"] = {name: folder and str(stub_zoo / name) for name, folder in toybox["models"].items()}
    toybox["sources"] = {name: toybox["sources"][name] for name in ("cat_beach", "fish_bouncing")}
    toybox["cases"] = {"cat_bouncing_in_the_city": toybox["cases"]["cat_bouncing_in_the_city"]}
    toybox["applications"] = toybox["controls"] = {}
    toybox["seeds"] = [0]
    toybox["compile"] = False  # takes longer than all else
    del toybox["tuning"]
    return toybox


@pytest.fixture
def checkout(tmp_path) -> Path:
    """What Snakemake needs of the repository, to be edited at will; models and all are linked."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("Snakefile", "README.md", "workflow", "profiles", "config", "envs", "bico"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    if ZOO.exists():
        (folder / "data").symlink_to(ROOT / "data")
    return folder


@pytest.fixture
def config_file(small, tmp_path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(small, sort_keys=False))
    return path
