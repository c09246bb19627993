"""Digests of code and models: what they see, and what they do not."""

import json
import shutil

import pytest

from bico.core.fingerprints import PACKAGE, closure, code_digest, folder_digest


def test_code_digests_follow_imports():
    bico, generate = closure("bico.methods.bico.learn"), closure("bico.pipeline.generate")
    assert {"bico.training.loop", "bico.models.binder", "bico.models.wan.forward_pass"} <= bico
    assert {"bico.prompts.slots", "bico.sources.encoding"} <= bico and "bico.plan.clips" in generate
    assert not {"bico.methods.db_lora.learn", "bico.report.figures", "bico.scoring.scoring"} & bico
    assert "bico.scoring.truth" in closure(
        "bico.scoring.scoring"
    )  # `from bico.scoring import truth`, inside a function
    assert "bico.toybox.world" in closure("bico.toybox.render")
    assert "bico.models.binder" not in closure("bico.report.figures")


def test_settings_of_a_config_are_compared_as_values_and_those_of_the_zoo_are_code():
    assert not {"bico.methods.bico.settings", "bico.config.settings"} & closure("bico.methods.bico.learn")
    assert "bico.zoo.wan.settings" in closure("bico.zoo.wan.pool")


MODULE = '''
"""A module."""
import logging
from typing import TYPE_CHECKING
from pydantic import Field

if TYPE_CHECKING:
    from bico.report import tables

log = logging.getLogger("bico")
steps: int = Field(3, description="of training")


def run(value):
    """Runs."""
    if value < 0:
        raise ValueError(f"{value}: expected none below 0")
    log.info("%d", value)
    print(value)
    return value + steps  # the sum
'''


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ('"""A module."""', '"""Some module."""', True),
        ('"""Runs."""', "", True),
        ("# the sum", "# a sum", True),
        ("of training", "of each stage", True),
        ("expected none below 0", "expected 0 or more", True),
        ('log.info("%d", value)', 'log.info("now %d", value)', True),
        ("print(value)", 'print("value", value)', True),
        ("from bico.report import tables", "from bico.report import plots", True),
        ("return value + steps", "return value - steps", False),
        ("Field(3,", "Field(4,", False),
        ("value < 0", "value <= 0", False),
        ("raise ValueError", "raise KeyError", False),
    ],
)
def test_a_digest_sees_what_has_an_effect_and_nothing_that_only_says_something(tmp_path, before, after, same):
    assert before in MODULE
    digests = []
    for name, code in (("one", MODULE), ("two", MODULE.replace(before, after))):
        package = tmp_path / name / "bico"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "run.py").write_text(code)
        digests.append(code_digest("bico.run", package=package))
    assert (digests[0] == digests[1]) == same


def test_a_digest_is_the_same_in_every_version_of_python(tmp_path):
    """3.12 gave functions and classes a field that is empty in older code; 3.13 no longer writes empty fields."""
    package = tmp_path / "bico"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "run.py").write_text(MODULE + "\nclass Two(int):\n    one = {**{}, 'a': None, 'b': f'{steps!r:>4}'}\n")
    assert code_digest("bico.run", package=package) == "0aca36a3f6643945"


def test_an_edit_of_an_imported_module_counts_and_one_of_another_does_not(tmp_path):
    def digest(name: str, edited: str) -> str:
        package = shutil.copytree(PACKAGE, tmp_path / name / "bico", ignore=shutil.ignore_patterns("__pycache__"))
        with (package / edited).open("a") as file:
            file.write("\nNEW = 1\n")
        return code_digest("bico.methods.bico.learn", package=package)

    before = code_digest("bico.methods.bico.learn")
    assert digest("other", "report/figures.py") == before
    assert digest("settings", "methods/bico/settings.py") == before  # settings arrive as values
    assert digest("imported", "training/loop.py") != before


def test_models_of_equal_size_are_told_apart(tmp_path):
    own, fetched = tmp_path / "own", tmp_path / "store" / "fetched"
    for folder in (own, fetched):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(bytes(1000))
    manifest = {"repository": "some/model", "revision": "one", "gigabytes": 28.8, "files": {}}
    fetched.with_name("fetched.json").write_text(json.dumps(manifest))
    before = folder_digest(own), folder_digest(fetched)
    (own / "model.safetensors").write_bytes(bytes([1]) * 1000)
    assert folder_digest(own) != before[0] and folder_digest(fetched) == before[1]
    fetched.with_name("fetched.json").write_text(json.dumps(manifest | {"gigabytes": 28.9}))  # as counted on the hub
    assert folder_digest(fetched) == before[1]
    fetched.with_name("fetched.json").write_text(json.dumps(manifest | {"revision": "another"}))
    assert folder_digest(fetched) != before[1]


def test_imports_are_absolute_so_that_digests_can_follow_them():
    relative = [path for path in PACKAGE.rglob("*.py") if "\nfrom ." in path.read_text()]
    assert relative == []


def test_the_packages_above_a_module_count(tmp_path):
    package = tmp_path / "some"
    (package / "inner").mkdir(parents=True)
    for name in ("__init__.py", "inner/__init__.py", "inner/one.py"):
        (package / name).write_text("VALUE = 1\n")
    assert closure("some.inner.one", package=package) == {"some", "some.inner", "some.inner.one"}
