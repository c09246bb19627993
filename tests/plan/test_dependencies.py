"""What each result depends on: one dict, from which both the rules' params and the records are made."""

import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from bico.config.methods import LearnedSettings
from bico.config.reading import load
from bico.config.schema import Config
from bico.core.files import write_text
from bico.pipeline.appearance import appearance as embed
from bico.plan import dependencies
from bico.plan.dependencies import Dependencies

# Settings on which no result depends: where things are and run, how a row's work is divided, what is only looked at.
WITHOUT_EFFECT = {
    "results", "weights_store", "authors_page", "device", "gradient_checkpointing", "split", "parts",
    "checkpoint_every", "eval_every", "preview_every", "preview_prompt", "frozen",
}  # fmt: skip
# Files and folders: inputs of rules, whose digests count.
FOLDERS = {"wan", "vlm", "vqa", "clip", "appearance", "dino", "probe"}
FILES = {"file", "files", "mask", "masks"}


@pytest.fixture
def config(small) -> Config:
    """Every section has something in it."""
    small["sources"]["cat_beach"]["concepts"] = {"spatial": ["cat"], "temporal": []}
    small["applications"] = {"alone": {"source": "fish_bouncing", "prompt": "a fish in space", "keep": ["fish"]}}
    small["curves"] = {"knob": {"label": "of the knob", "rows": {"base": 0, "bico": 1}}}
    small["controls"] = {
        "diversification": {"lacks": "bico_hierarchical", "has": "bico_diversified"},
        "absorption": {"row": "bico_tds"},
        "hierarchy": {"lacks": "bico_global", "has": "bico_hierarchical"},
    }
    small["seeds"], small["learning_seeds"] = [3, 4], [3, 4]
    return load(small)


def steps(config: Config) -> Iterator[Dependencies]:
    """Of all steps, of all that they make."""
    for step in (
        "truth",
        "concepts",
        "coverage",
        "appearance",
        "unbound",
        "binding_table",
        "applications",
        "calibrate",
        "doses",
    ):
        yield getattr(dependencies, step)(config)
    for step in ("control_diversification", "control_counterparts", "control_absorption", "controls"):
        yield getattr(dependencies, step)(config)
    for step in ("published", "concept_parts", "figures", "gallery", "rating"):
        yield getattr(dependencies, step)(config)
    yield dependencies.encode(config, config.dtype)
    yield dependencies.absorption(config, "bico", "bico_tds")
    yield from (dependencies.render(config, source) for source in config.sources)
    yield from (dependencies.table(config, name) for name in ("table1", "table2", "table3"))
    yield from (dependencies.plot(config, name) for name in ("table1", "table2", "table3"))
    yield from (dependencies.curve(config, name) for name in config.curves)
    for row, settings in config.methods.items():
        if settings.LEARNS_PER != "nothing":
            yield dependencies.learn(config, row, 0, config.dtype)
            yield dependencies.training_plot(config, row)
        yield dependencies.generate(config, row, config.dtype)
        yield dependencies.binding(config, row)
        yield dependencies.score(config, row)


def leaves(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Paths of all settings that have no parts."""
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from leaves(getattr(value, name), (*path, name))
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, (*path, key))
    else:
        yield path


def changed(value: Any, path: tuple) -> Any:
    """The same with another value at a path; nothing is validated."""
    if not path:
        return f"other than {value}" if not isinstance(value, list) else [*value, 77]
    name, *rest = path
    if isinstance(value, BaseModel):
        return value.model_copy(update={name: changed(getattr(value, name), tuple(rest))})
    return value | {name: changed(value[name], tuple(rest))}


def test_no_setting_is_forgotten(config):
    """A setting that no step knew of would leave old results in place."""
    warnings.simplefilter("ignore")  # of values that no validation has seen
    before, forgotten, looked_up = [step.params(config) for step in steps(config)], [], set()
    for path in leaves(config):
        if path[-1] in WITHOUT_EFFECT | FOLDERS | FILES or path[0] == "tuning" or path[-2:-1] == ("seeds",):
            continue
        try:
            after = [step.params(config) for step in steps(changed(config, path))]
        except (KeyError, ValueError, ModuleNotFoundError, AttributeError):
            looked_up.add(path[0])  # a name that nothing has: it is looked up, so it counts
            continue
        if after == before:
            forgotten.append(".".join(map(str, path)))
    assert forgotten == [] and looked_up <= {"cases", "methods", "tables", "applications", "controls"}, looked_up


@pytest.mark.parametrize("setting", ["seeds", "learning_seeds"])
def test_clips_know_the_training_that_makes_them(config, setting):
    """The clips' seeds take the trainings in turn: another order is another training for each clip."""
    turned = config.model_copy(update={setting: list(reversed(getattr(config, setting)))})
    for row in ("bico", "dualreal"):
        step, other = (dependencies.generate(each, row, "float32") for each in (config, turned))
        assert step.params(config) != other.params(turned)


@pytest.mark.parametrize("name", sorted(WITHOUT_EFFECT - LearnedSettings.BOOKKEEPING))
def test_where_and_how_things_run_makes_nothing_stale(config, name):
    values = {"device": "cuda", "gradient_checkpointing": "always", "split": "tuning", "parts": 1}
    other = config.model_copy(update={name: values.get(name, Path("elsewhere"))})
    if name == "results":  # paths of learned binders are not among the values
        other = config.model_copy(update={"results": Path("elsewhere")})
    assert [step.params(other) for step in steps(other)] == [step.params(config) for step in steps(config)]


def test_frames_are_embedded_by_a_model_of_their_own_or_by_that_of_clip_t(small, monkeypatch):
    opened = []
    monkeypatch.setattr("bico.pipeline.appearance.Clip", lambda folder, device: opened.append(folder))
    monkeypatch.setattr("bico.pipeline.appearance.make_all", lambda *arguments: None)
    monkeypatch.setattr(Dependencies, "record", lambda self, config, name: opened.extend(self.models))
    for own, entry in ((None, "clip"), (small["models"]["clip"] + "/", "appearance")):
        small["models"]["appearance"] = own
        config = load(small)
        embed(config)
        assert opened[0] == getattr(config.models, entry) and set(opened[1:]) == {entry}
        opened.clear()


def test_records_and_params_hold_the_same_values(config):
    for paths in (config.paths.encoded, config.paths.concepts):
        for source in config.sources:
            write_text(paths(source), "of a source")
    for source in config.sources:
        write_text(config.media_path(source), "of a source")
        write_text(config.paths.appearance(source), "of a source")
    whole = [
        dependencies.concepts(config),
        dependencies.encode(config, "float32"),
        dependencies.appearance(config),
        dependencies.learn(config, "dreamvideo", 0, "float32"),
    ]
    for step in whole:
        params = json.loads(step.params(config))
        assert params["items"] and params["models"]
        for name in step.items:
            record = step.record(config, name)
            own = {key: record[key] for key in params["items"][name]}
            shared = {key: record[key] for key in ("settings", "models", "code")}
            assert own == params["items"][name] and shared == {key: params[key] for key in shared}
            assert record["inputs"], "nothing is made from nothing"


def test_a_record_holds_the_digest_of_every_input(config):
    for name in ("cat_beach", "fish_bouncing"):
        write_text(config.paths.encoded(name), name)
        write_text(config.paths.appearance(name), name)
    step = dependencies.learn(config, "dualreal", 0, "float32")
    (item, _) = step.items
    before = step.record(config, item)
    for path in step.items[item].inputs.values():
        text = path.read_text()
        write_text(path, "another")
        assert step.record(config, item) != before
        write_text(path, text)
    assert step.record(config, item) == before and len(step.items[item].inputs) == 4


def test_a_model_that_is_replaced_makes_stale_what_it_was_used_for(config, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{}")
    for model in FOLDERS:
        models = config.models.model_copy(update={model: tmp_path / "other"})
        other = config.model_copy(update={"models": models})
        for before, after in zip(steps(config), steps(other), strict=True):
            assert (before.params(config) != after.params(other)) == (model in (*before.models, *after.models)), (
                before.code,
                model,
            )


def test_a_file_of_ones_own_that_an_older_copy_replaces_is_seen(small, tmp_path):
    picture = tmp_path / "cat.png"
    picture.write_bytes(b"one")
    small["sources"]["cat_beach"] = {"kind": "image", "file": str(picture)}
    del small["cases"]["cat_bouncing_in_the_city"]["truth"]
    config = load(small)
    before = dependencies.concepts(config).params(config), dependencies.score(config, "bico").params(config)
    picture.write_bytes(b"another")
    os.utime(picture, (0, 0))
    config = load(small)
    after = dependencies.concepts(config).params(config), dependencies.score(config, "bico").params(config)
    assert before[0] != after[0] and before[1] != after[1]


@pytest.fixture
def photographs(small, tmp_path):
    """Two photographs with masks in place of the cat, and what is made before they are encoded."""
    for name in ("a.png", "b.png", "mask_a.png", "mask_b.png"):
        (tmp_path / name).write_bytes(b"a picture")
    files, masks = (
        [str(tmp_path / name) for name in names] for names in (("a.png", "b.png"), ("mask_a.png", "mask_b.png"))
    )
    small["sources"]["cat_beach"] = {"kind": "image", "files": files, "masks": masks}
    del small["cases"]["cat_bouncing_in_the_city"]["truth"]
    config = load(small)
    for source in config.sources:
        write_text(config.paths.concepts(source), "of a source")
    write_text(config.media_path("fish_bouncing"), "a clip")
    return small


@pytest.mark.parametrize(
    ("changed", "stale"),
    [
        ("a.png", {"concepts", "encode", "appearance", "score", "calibrate", "figures", "gallery", "rating"}),
        ("b.png", {"concepts", "encode", "appearance", "score", "calibrate"}),  # the rest shows the first alone
        ("mask_b.png", {"encode"}),
    ],
)
def test_a_photograph_or_a_mask_that_changes_makes_stale_what_it_is_used_for(photographs, tmp_path, changed, stale):
    def found() -> dict[str, tuple]:
        config = load(photographs)
        made = {
            name: getattr(dependencies, name)(config) for name in ("concepts", "appearance", "calibrate", "figures")
        }
        made |= {name: getattr(dependencies, name)(config) for name in ("gallery", "rating")}
        made |= {"encode": dependencies.encode(config, "float32"), "score": dependencies.score(config, "bico")}
        items = {name: "cat_beach" if "cat_beach" in step.items else "" for name, step in made.items()}
        return {name: (step.params(config), step.record(config, items[name])["inputs"]) for name, step in made.items()}

    before = found()
    (tmp_path / changed).write_bytes(b"another picture")
    after = found()
    for which in (0, 1):  # for the rules, and for the records
        assert {name for name in before if before[name][which] != after[name][which]} == stale


@pytest.mark.parametrize("key", ["files", "masks"])
def test_photographs_or_masks_in_another_order_are_encoded_anew(photographs, key):
    """Each caption, and each mask, is of one of them."""
    source = photographs["sources"]["cat_beach"]
    for path in map(Path, (*source["files"], *source["masks"])):
        path.write_text(path.name)

    def found() -> tuple:
        config = load(photographs)
        step = dependencies.encode(config, "float32")
        return step.params(config), step.record(config, "cat_beach")

    before = found()
    source[key].reverse()
    after = found()
    assert before[0] != after[0] and before[1] != after[1]


def test_one_photograph_in_a_list_depends_on_what_a_file_depends_on(photographs, tmp_path):
    source = photographs["sources"]["cat_beach"]
    del source["masks"]
    listed, alone = {"kind": "image", "files": source["files"][:1]}, {"kind": "image", "file": source["files"][0]}
    records = []
    for entry in (listed, alone):
        photographs["sources"]["cat_beach"] = entry
        config = load(photographs)
        step = dependencies.encode(config, "float32")
        records.append((step.params(config), step.record(config, "cat_beach")))
    assert records[0] == records[1] and list(records[0][1]["inputs"]) == ["media", "concepts"]


def test_trainings_are_divided_among_jobs_and_know_their_seed(config):
    for name in ("cat_beach", "fish_bouncing"):
        write_text(config.paths.encoded(name), name)

    def records(config: Config, part: int) -> dict[str, dict]:
        step = dependencies.learn(config, "bico", part, "float32")
        return {name: step.record(config, name) for name in step.items}

    whole = records(config, 0)
    assert {name: record["seed"] for name, record in whole.items()} == {
        "cat_beach 3": 3, "cat_beach 4": 4, "fish_bouncing 3": 3, "fish_bouncing 4": 4
    }  # fmt: skip
    divided = config.model_copy(update={"parts": 3})
    parts = [records(divided, part) for part in range(3)]
    assert {name: record for part in parts for name, record in part.items()} == whole
    assert sum(map(len, parts)) == 4


def test_copied_frames_depend_on_no_model_and_on_nothing_of_sampling(config):
    copied = dependencies.generate(config, "copy", "float32")
    other = config.model_copy(update={"sampling": config.sampling.model_copy(update={"steps": 99})})
    assert copied.models == () and copied.params(config) == dependencies.generate(other, "copy", "float32").params(
        other
    )


@pytest.mark.parametrize("analysis", [dependencies.unbound, dependencies.applications])
def test_what_is_compared_with_the_plain_prompt_depends_on_the_code_of_its_clips(config, analysis):
    assert "bico.methods.base.compose" in analysis(config).code


@pytest.mark.parametrize("step", [dependencies.calibrate, lambda config: dependencies.score(config, "bico")])
def test_scores_are_stale_when_a_source_shows_something_else_that_nobody_asked_for(small, step):
    before = load(small)
    scene = small["sources"]["cat_beach"]["scene"]
    scene["clutter"] = not scene.get("clutter", False)
    after = load(small)
    assert step(before).params(before) != step(after).params(after)


READS = {
    "concepts": (dependencies.concepts, ["media.fps", "concepts.seed"]),
    "encode": (lambda config: dependencies.encode(config, config.dtype), ["media.fps", "text_slots", "dtype"]),
    "appearance": (dependencies.appearance, ["media.fps"]),
    "learn": (
        lambda config: dependencies.learn(config, "bico", 0, config.dtype),
        ["training_shift", "dtype", "compile", "text_slots"],
    ),
    "generate": (
        lambda config: dependencies.generate(config, "bico", config.dtype),
        ["sampling.steps", "media.fps", "text_slots", "dtype"],
    ),
    "score": (
        lambda config: dependencies.score(config, "bico"),
        ["scoring.pooling", "scoring.dino_crop", "media.fps"],
    ),
    "binding": (
        lambda config: dependencies.binding(config, "bico"),
        ["sampling.steps", "media.fps", "text_slots", "dtype"],
    ),
}


@pytest.mark.parametrize(("step", "setting"), [(step, each) for step, (_, read) in READS.items() for each in read])
def test_each_step_itself_knows_the_settings_that_it_reads(config, step, setting):
    """That another step knows a setting does not make the results of this one stale."""
    warnings.simplefilter("ignore")  # of values that no validation has seen
    depends, other = READS[step][0], changed(config, tuple(setting.split(".")))
    assert depends(config).params(config) != depends(other).params(other)
