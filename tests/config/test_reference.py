"""A key is explained once, in its field's description: the reference and the JSON schema are written from those."""

import json
from collections.abc import Iterator

import pytest
import yaml
from conftest import ROOT
from jsonschema import Draft202012Validator

from bico.config.methods import settings_class
from bico.config.reading import load
from bico.config.reference import COMMAND, EXAMPLE, REFERENCE, SCHEMA, reference, schema
from bico.config.schema import Config

CONFIGS = [REFERENCE, *(ROOT / "config" / name for name in ("toybox.yaml", "paper.yaml", "examples/own_media.yaml"))]


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    whole = json.loads(schema())
    Draft202012Validator.check_schema(whole)
    return Draft202012Validator(whole)


def keys() -> Iterator[tuple[str, dict]]:
    """Every key of every section and of every method's settings, as the schema has it."""
    whole = json.loads(schema())
    for name, section in {"config": whole, **whole["$defs"]}.items():
        for key, value in section.get("properties", {}).items():
            yield f"{name}.{key}", value


@pytest.mark.parametrize(("path", "written"), [(REFERENCE, reference), (SCHEMA, schema)], ids=["reference", "schema"])
def test_file_is_up_to_date(path, written):
    assert path.read_text(encoding="utf-8") == written(), f"{path.name} is out of date: run `{COMMAND}`"


def test_every_key_has_a_description():
    assert [key for key, value in keys() if not value.get("description")] == []


def test_every_description_is_in_the_reference():
    comments = (line.partition("# ")[2] for line in reference().splitlines())
    text = " ".join(" ".join(comments).split())
    assert [key for key, value in keys() if value["description"] not in text] == []


def test_every_allowed_value_is_explained():
    silent = [key for key, value in keys() for word in value.get("enum", ()) if word not in value["description"]]
    assert silent == []


def test_what_is_no_example_in_the_reference_is_a_default():
    shown, least = (
        load(REFERENCE),
        load({key: EXAMPLE[key] for key in ("name", "models", "sources", "cases", "methods")}),
    )
    assert {key for key in Config.model_fields if getattr(shown, key) != getattr(least, key)} == {
        "methods", "tables", "curves", "applications", "controls", "tuning", "scoring",
    }  # fmt: skip
    rows = {row: settings for row, settings in shown.methods.items() if row not in EXAMPLE["methods"]}
    assert rows == {row: settings_class(row)() for row in rows}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_schema_accepts_the_configurations(path, validator):
    assert [error.message for error in validator.iter_errors(yaml.safe_load(path.read_text()))] == []
    first, target = path.read_text().splitlines()[0].split("$schema=")
    assert first == "# yaml-language-server: " and (path.parent / target).resolve() == SCHEMA


@pytest.mark.parametrize(
    "place",
    [
        (),
        ("sampling",),
        ("sources", "cat_beach"),
        ("sources", "cat_beach", "scene"),
        ("methods", "bico"),
        ("methods", "bico", "noise"),
        ("methods", "bico_global"),
        ("tuning",),
        ("tables",),
    ],
    ids=".".join,
)
def test_the_schema_refuses_a_misspelt_key(place, validator, toybox):
    section = toybox
    for key in place:
        section = section[key]
    section["misspelt"] = 0
    assert not validator.is_valid(toybox)


def test_the_schema_tells_methods_apart(validator, toybox):
    def valid(**methods: dict | None) -> bool:
        return validator.is_valid(toybox | {"methods": methods})

    assert valid(bico={}) and valid(bico=None) and valid(mine={"method": "bico", "strength": 0.5})
    assert valid(bico={"method": "db_lora", "rank": 4})
    assert (
        not valid(mine={})
        and not valid(bico={"merge_weight": 0.4})
        and not valid(mine={"method": "db_lora", "strength": 0.5})
    )
