"""A config is complete, refuses what it does not understand, and says so in one line."""

import sys
from types import ModuleType

import pytest
import yaml
from conftest import ROOT

from bico.config.methods import method_names, settings_class
from bico.config.reading import load
from bico.config.schema import Tables
from bico.core.errors import InputError
from bico.plan.clips import jobs
from bico.plan.trainings import learned_items, learning_seed, trainings
from bico.report.tables import paper_table

CASE = "cases.cat_bouncing_in_the_city"


def problem(config: dict) -> str:
    with pytest.raises(InputError) as caught:
        load(config, name="my.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_default_benchmark_has_what_the_table_needs():
    config = load(ROOT / "config" / "toybox.yaml")
    kinds = [source.kind for source in config.sources.values()]
    assert kinds.count("image") >= 5 and kinds.count("video") >= 5
    assert len(config.cases) >= 12 and len(config.seeds) >= 2
    assert set(config.table("table1")) == {*method_names(), "bico_isolated"} - {"external"}
    assert {source for case in config.cases.values() for source in case.bind} == set(config.sources)


def test_tables_hold_every_row_of_the_paper():
    config = load(ROOT / "config" / "toybox.yaml")
    for table in Tables.model_fields:
        numbers = [number for number in config.table(table).values() if number]
        assert sorted(numbers) == paper_table(table).index[1:].tolist()


def test_ablations_differ_from_the_full_model_in_what_they_take_away():
    methods = load(ROOT / "config" / "toybox.yaml").methods
    full = methods["bico"].model_dump()
    taken = {
        row: {key for key, value in settings.model_dump().items() if value != full[key]} - {"label"}
        for row, settings in methods.items()
        if row.startswith("bico_")
    }
    assert taken == {
        "bico_isolated": {"binds", "isolation"},  # a method of its own, not an ablation
        "bico_key_words": {"binds"},
        "bico_plain_keys": {"attention_keys"},
        "bico_fast": {
            "stages",
            "clip_stages",
            "learning_rate",
            "gamma_learning_rate",
            "batch_size",
            "binds",
            "attention_keys",
        },
        "bico_global": {"hierarchical", "diversification", "absorption", "temporal_decoupling"},
        "bico_hierarchical": {"diversification", "absorption", "temporal_decoupling"},
        "bico_diversified": {"absorption", "temporal_decoupling"},
        "bico_absorption": {"temporal_decoupling"},
        "bico_tds": {"absorption"},
        "bico_single_stage": {"stages", "clip_stages"},
        "bico_not_inverted": {"noise"},
        "bico_sigma": {"noise"},
        "bico_released": {"noise"},
        "bico_low_noise": {"noise", "stages", "clip_stages"},
        "bico_high_noise": {"noise", "stages", "clip_stages"},
        **{f"bico_{length}": {"stages", "clip_stages"} for length in ("quarter", "half", "double")},
        **{f"bico_strength_{percent}": {"strength"} for percent in (0, 30, 60, 140)},
        **{f"bico_rank_{rank}": {"rank"} for rank in (2, 8, 32)},
    }
    for stages in ("stages", "clip_stages"):
        single = getattr(methods["bico_single_stage"], stages)
        assert single.global_steps == 0 and single.all_steps == sum(full[stages].values())


def test_without_tables_the_main_one_holds_all_rows(toybox):
    numbers = toybox.pop("tables")["table1"]
    config = load(toybox)
    assert list(config.table("table1")) == list(config.methods) and not config.table("table2")
    assert config.table("table1")["bico"] == 5 and config.table("table1")["bico_tds"] is None
    assert config.table("table1") == dict.fromkeys(config.methods) | numbers


def test_tuning_shares_no_source_and_no_prompt_with_the_table():
    config = load(ROOT / "config" / "toybox.yaml")
    seeds = [source.scene.seed for part in (config, config.tuning) for source in part.sources.values()]
    prompts = [case.prompt for part in (config, config.tuning) for case in part.cases.values()]
    assert len(set(seeds)) == len(seeds) and len(set(prompts)) == len(prompts)


def test_tuning_shares_no_source_and_no_prompt_with_the_drawn_cases():
    config = load(ROOT / "config" / "toybox_120.yaml")
    seeds = [source.scene.seed for part in (config, config.tuning) for source in part.sources.values()]
    assert len(set(seeds)) == len(seeds)
    tuned = {case.prompt for case in config.tuning.cases.values()}
    assert not tuned & {case.prompt for case in config.cases.values()}


def test_split_tuning_runs_the_tuning_set_in_a_folder_of_its_own(toybox):
    tuning = load(toybox | {"split": "tuning"}).chosen()
    assert set(tuning.cases) == set(toybox["tuning"]["cases"]) and str(tuning.results) == "results/tuning"
    assert toybox["applications"] and not tuning.applications  # of sources that it does not have
    assert toybox["controls"] and not tuning.controls.rows()
    del toybox["tuning"]
    assert "no tuning set" in problem(toybox | {"split": "tuning"})


def test_written_config_reads_back_equal(toybox):
    config = load(toybox)
    assert load(yaml.safe_load(config.to_yaml())) == config


def test_defaults_are_those_of_the_paper(toybox):
    needed = {key: toybox[key] for key in ("name", "models", "sources", "cases")}
    config = load(needed | {"methods": {"bico": {}, "db_lora": {}, "textual_inversion": {}}})
    bico = config.methods["bico"]
    assert (bico.stages.global_steps, bico.stages.all_steps, bico.learning_rate) == (2400, 2400, 1e-4)
    assert (bico.noise.alpha, bico.noise.beta, bico.noise.inversion) == (0.875, 0.875, "position")
    assert (config.media.num_frames, config.media.height, config.media.width) == (81, 480, 832)
    assert (config.sampling.steps, config.sampling.shift, config.text_slots) == (50, 5.0, 512)
    assert (config.sampling.guidance_scale, config.media.fps, config.media.read) == (5.0, 15, "time")
    assert (config.scoring.pooling, config.scoring.dino_crop, config.concepts.captions) == ("mean", 0.875, 60)

    def is_number(key: str, value: object) -> bool:
        return isinstance(value, float | int) and "_every" not in key

    numbers = {
        method: {
            key: value
            for key, value in settings_class(method)()
            if isinstance(value, float | int) and "_every" not in key
        }
        for method in method_names()
        if method != "external"  # it has no defaults: clips were made elsewhere
    }
    learned = {"learning_rate": 1e-4, "weight_decay": 0.01, "batch_size": 1}
    as_published = {"warm_up": 0, "fresh_optimizer": False}
    identity = {"hierarchical": True, "diversification": True, "temporal_decoupling": True, "strength": 1.0}
    assert numbers == {
        "base": {}, "copy": {}, "bico": learned | identity | as_published,
        "textual_inversion": learned | {"steps": 3000, "vectors": 1, "weight_decay": 0.0, "learning_rate": 7.4e-3},
        "db_lora": learned | {"steps": 1000, "rank": 32, "video_rank": 64, "merge_weight": 1.0},
        "dreamvideo": {
            "learning_rate": 1e-5, "weight_decay": 0.0, "batch_size": 4, "inversion_steps": 3000, "vectors": 1,
            "inversion_rate": 7.4e-3, "identity_steps": 1000, "motion_steps": 1000, "text_dropout": 0.5,
            "guidance_scale": 9.0,
        },
        "dualreal": {
            "learning_rate": 1e-3, "weight_decay": 1e-4, "batch_size": 1, "identity_batch_size": 3, "steps": 1000,
            "warm_up": 200, "decision_width": 128,
            "clip_norm": 1.0, "bottleneck": 64, "controller_width": 512, "groups": 5, "guidance_scale": 6.0,
        },
    }  # fmt: skip


def test_what_is_decomposed_is_learned_too_and_what_nothing_uses_is_not(toybox):
    case = "cat_bouncing_in_the_city"
    toybox["cases"] = {case: toybox["cases"][case]}
    toybox["applications"] = {"alone": {"source": "robot_city", "prompt": "a robot in space", "keep": ["robot"]}}
    config = load(toybox)
    assert config.bound() == ["cat_beach", "fish_bouncing"]
    assert list(learned_items(config, "bico")) == ["cat_beach", "fish_bouncing", "robot_city"]
    assert list(learned_items(config, "db_lora")) == ["cat_beach", "fish_bouncing"]


def test_seeds_take_the_trainings_in_turn(toybox):
    config = load(toybox | {"seeds": [4, 5, 6, 7], "learning_seeds": [0, 9]})
    assert [learning_seed(config, seed) for seed in config.seeds] == [0, 9, 0, 9]
    assert [seed for item, seed in trainings(config, "bico") if item == "cat_beach"] == [0, 9]
    shifted = load(toybox | {"seeds": [1, 2], "learning_seeds": [0, 9]})
    assert [learning_seed(shifted, seed) for seed in shifted.seeds] == [0, 9]  # by their places, whatever they are
    made = {job.seed: job.artifacts for job in jobs(config, "bico") if job.case_id == next(iter(config.cases))}
    assert made[4] == made[6] != made[5] == made[7]


METHOD = """
from bico.config.methods import LearnedSettings, MethodSettings

class Settings(LearnedSettings):
    COMPOSE_KEYS = frozenset({"weight"})
    weight: float = 1.0

def learn(backbone, encoded, settings, *, shift, seed, workdir, progress="", preview=None): ...

def compose(backbone, jobs, settings, sampling, media): ...
"""


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("class Settings(LearnedSettings)", "class Other(LearnedSettings)", "no 'Settings' in it that derives from"),
        ("class Settings(LearnedSettings)", "class Settings", "no 'Settings' in it that derives from"),
        ('frozenset({"weight"})', 'frozenset({"wieght"})', "COMPOSE_KEYS names 'wieght', which is no setting"),
        ("    weight", "    LEARNS_PER = 'sources'\n    weight", "LEARNS_PER is 'sources', expected nothing"),
        ("def learn(", "def train(", "no 'learn' in it"),
        ("settings, *, shift, seed", "settings, shift, seed", None),
        ("workdir, progress", "folder, progress", "learn: missing a required"),
        ("sampling, media", "sampling", "compose: too many positional arguments; it is called as compose(backbone"),
        ("", "", None),
    ],
)  # fmt: skip
def test_a_method_that_is_half_done(before, after, expected, tmp_path, toybox, monkeypatch):
    assert before in METHOD
    monkeypatch.setattr("bico.config.methods.METHODS", tmp_path / "bico" / "methods")
    (tmp_path / "bico" / "methods").mkdir(parents=True)
    code = METHOD.replace(before, after)
    (tmp_path / "bico" / "methods" / "own.py").write_text(code)
    own = ModuleType("bico.methods.own")
    exec(code, vars(own))
    monkeypatch.setitem(sys.modules, "bico.methods.own", own)
    config = toybox | {"methods": {"own": {}}, "tables": {}, "curves": {}, "applications": {}, "controls": {}}
    if expected is None:
        assert load(config).methods["own"].weight == 1.0
    else:
        text = problem(config)
        assert text.startswith(f"my.yaml: methods: bico/methods/own: {expected}") and "see docs/extending.md" in text


def test_a_row_may_be_a_variant_of_a_method(toybox):
    methods = {"bico": {}, "bico_no_tds": {"method": "bico", "temporal_decoupling": False}}
    config = load(toybox | {"methods": methods, "tables": {}, "curves": {}, "controls": {}})
    assert config.methods["bico_no_tds"].method == "bico" and not config.methods["bico_no_tds"].temporal_decoupling


def test_people_read_the_methods_own_names(toybox):
    rows = {"isolated": {"method": "bico"}, "bico_no_tds": {"method": "bico"}, "ours": {"method": "bico", "label": "Ü"}}
    methods = toybox["methods"] | rows | {"my_row": {"method": "db_lora"}}
    config = load(toybox | {"methods": methods})
    labels = {row: config.label(row) for row in ("db_lora", "textual_inversion", "bico_isolated", "my_row", *rows)}
    assert labels == {
        "db_lora": "DB-LoRA",
        "textual_inversion": "Textual Inversion",
        "bico_isolated": "BiCo, isolated",
        "my_row": "my row",
        "isolated": "isolated",
        "bico_no_tds": "BiCo, no tds",
        "ours": "Ü",
    }


def test_two_rows_of_one_name_are_refused(toybox):
    toybox["methods"]["db_lora"]["label"] = "BiCo"
    assert "methods.bico: row 'db_lora' has the same label 'BiCo': expected a 'label'" in problem(toybox)


def test_settings_of_composing_are_none_of_learning(toybox):
    before = load(toybox).methods
    toybox["methods"]["bico"]["strength"] = 0.3
    toybox["methods"]["db_lora"]["merge_weight"] = 0.3
    toybox["methods"]["dreamvideo"]["guidance_scale"] = toybox["methods"]["dualreal"]["guidance_scale"] = 2.0
    after = load(toybox).methods
    assert [before[row].learning() for row in before] == [after[row].learning() for row in after]
    clips = {row for row in before if before[row].effective() != after[row].effective()}
    assert clips == {"bico", "db_lora", "dreamvideo", "dualreal"}
    seldom = before["bico"].model_copy(update={"eval_every": 7, "checkpoint_every": 7, "label": "Ours"})
    assert (seldom.effective(), seldom.learning()) == (before["bico"].effective(), before["bico"].learning())


@pytest.mark.parametrize(
    ("method", "kinds", "reason"),
    [
        ("dreamvideo", ["image", "video"], None),
        ("dreamvideo", ["video", "image", "image"], None),
        ("dreamvideo", ["video", "video"], "takes an image and a video: no image is bound"),
        ("dreamvideo", ["image"], "takes an image and a video: no video is bound"),
        ("dualreal", ["video", "image"], None),
        ("dualreal", ["image", "image", "video"], "takes one image and one video, not 2 and 1"),
        ("dualreal", ["video"], "takes one image and one video, not 0 and 1"),
        ("bico", ["video", "video"], None),
    ],
)
def test_cases_that_a_method_cannot_take(method, kinds, reason):
    assert settings_class(method)().unsupported(kinds) == reason


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("smpling", {}, "unknown key 'smpling': did you mean 'sampling'?"),
        ("sampling.stepz", 3, "sampling: unknown key 'stepz': did you mean 'steps'?"),
        ("sampling.steps", "many", "sampling.steps: expected a whole number, got \"many\""),
        ("sampling.steps", 0, "sampling.steps: expected a number greater than or equal to 1, got 0"),
        ("media.num_frames", 8, "media.num_frames: expected 4k + 1"),
        ("methods.bico.noise.alpha", 3, "methods.bico.noise.alpha: expected a number less than or equal to 1, got 3"),
        ("methods.bico.noise.inversion", "x", "methods.bico.noise.inversion: expected 'position', 'sigma'"),
        ("methods.dualreal.groups", 0, "methods.dualreal.groups: expected a number greater than or equal to 1, got 0"),
        ("methods.dreamvideo.guidance_scale", 0, "guidance_scale: expected a number greater than or equal to 1, got 0"),
        ("methods.dualreal.betas", [0.9, 0.95, 0.99], "betas: expected two numbers from 0 to below 1, as in [0.9"),
        ("methods.dualreal.betas", [0.9], "methods.dualreal.betas: expected two numbers from 0 to below 1, as in [0.9"),
        ("methods.dualreal.betas", 0.9, "methods.dualreal.betas: expected two numbers from 0 to below 1, as in [0.9"),
        ("methods.dualreal.warm_up", 225, "methods.dualreal: warm_up: 225 steps, but only 225 'steps', none"),
        ("methods.bico.warm_up", 60, "methods.bico: warm_up: 60 steps, but an optimiser has only 60, none with the"),
        ("methods.bico.frame_stages", 3, "frame_stages: expected the keys 'global_steps' and 'all_steps', got 3"),
        ("methods.bico_tds", {"method": "bico", "gate": "released", "gate_learning_rate": 0.1}, "the gate 'released'"),
        ("methods.bico_global.fresh_optimizer", True, "fresh_optimizer: it has no effect without 'temporal_deco"),
        ("methods.bico_global.frame_stages", {}, "frame_stages: it has no effect without 'temporal_decoupling'"),
        ("methods.bico_global.gate_learning_rate", 0.1, "gate_learning_rate: it has no effect without 'temporal_deco"),
        ("sampling.shift", float("inf"), "sampling.shift: expected a finite number, got Infinity"),
        ("training_shift", float("inf"), "training_shift: expected a finite number"),
        ("concepts.temperature", float("inf"), "concepts.temperature: expected a finite number"),
        ("methods.db_lora.merge_weight", float("nan"), "merge_weight: expected a finite number, got NaN"),
        ("curves.strength.rows.bico", float("inf"), "curves.strength.rows.bico: expected a finite number"),
        ("results", 3, "my.yaml: results: expected a path, got 3"),
        ("models.clip", "", "my.yaml: models.clip: expected a path, got ''"),
        ("results", "", "my.yaml: results: expected a path, got ''"),
        ("sources.cat_beach", {"kind": "image", "file": "a\0b"}, "cat_beach.file: expected a path, got 'a\\x00b'"),
        ("sources." + "x" * 240, {}, "expected a name of 100 characters at most, got 240: 'xxx"),
        ("methods.a/b", {"method": "bico"}, "expected a name of letters, digits and underscores, got 'a/b'"),
        ("compile", "perhaps", "compile: expected true or false, got"),
        ("seeds", [], "seeds: expected at least 1 item, got []"),
        ("cases", 3, "cases: expected keys with values, got 3"),
        (CASE, {"prompt": "a cat, bouncing", "bind": {"cat_beach": ["cat", ","]}}, "bind.cat_beach: ',' has no word"),
        ("methods.bica", {}, "unknown method 'bica': did you mean 'bico'? Or add bico/methods/bica.py"),
        ("methods.bico", 3, "row 'bico': expected settings, or {} for the defaults, got 3"),
        ("methods.truth", {"method": "bico"}, "row 'truth': this is the name of the exact renderings in results"),
        ("tables.tabel2", {}, "tables: unknown key 'tabel2': did you mean 'table2'?"),
        ("tables.table2.bico_tsd", None, "tables.table2: no row 'bico_tsd': did you mean 'bico_tds'?"),
        ("tables.table2.bico", 8, "tables.table2.bico: expected a number less than or equal to 7, got 8"),
        ("tables.table3.bico_sigma", 3, "tables.table3: expected each row of the paper once"),
        ("tables.table1", {}, "tables.table1: "),
        ("scoring.bootstrap", True, "scoring: bootstrap: got true: expected neither true nor false"),
        ("seeds", [0, True], "seeds: got true: expected neither true nor false"),
        ("sampling.guidance_scale", False, "sampling: guidance_scale: got false: expected neither true nor false"),
        ("seeds", [1, 1], "seeds: expected each seed once"),
        ("learning_seeds", [0, 1, 2], "learning_seeds: 3 learning seeds, but 2 'seeds'"),
        ("models", None, "models: expected keys such as 'wan' and 'vlm', got null"),
        ("sources.cat_beach.kind", "audio", "sources.cat_beach.kind: expected 'image' or 'video', got \"audio\""),
        ("sources.cat_beach.file", "cat.png", "sources.cat_beach: expected one of 'file', 'files' (own media) and"),
        ("sources.cat", {"kind": "image", "files": []}, "sources.cat.files: expected at least 1 item, got []"),
        ("sources.cat", {"kind": "image", "files": 3}, "sources.cat.files: expected a list, got 3"),
        ("sources.cat", {"kind": "image", "files": ["a.png", "./a.png"]}, "sources.cat: 'files' names a file twice"),
        ("sources.cat", {"kind": "video", "files": ["a.png", "b.png"]}, "sources.cat: 'files' belongs to images"),
        ("sources.cat", {"kind": "image", "file": "a", "files": ["b"]}, "not several or none"),
        ("sources.cat", {"kind": "video", "file": "a.mp4", "mask": "b.png"}, "sources.cat: 'mask' belongs to an"),
        ("sources.cat", {"kind": "image", "files": ["a", "b"], "mask": "c"}, "expected 'masks' for 'files', and none"),
        ("sources.cat", {"kind": "image", "files": ["a", "b"], "masks": ["c"]}, "one for each: expected 2 of them"),
        ("sources.cat", {"kind": "image", "file": "a", "masks": ["c"]}, "'masks' belongs to 'files', one for each:"),
        ("sources.cat_beach.scene.motion", "bouncing", "sources.cat_beach: 'scene.motion' belongs to videos"),
        ("sources.cat_beach.start", 1, "sources.cat_beach: 'start' belongs to a video's 'file': expected 0"),
        ("sources.fish_bouncing.start", 1, "sources.fish_bouncing: 'start' belongs to a video's 'file': expected 0"),
        ("sources.fish_bouncing.start", -1, "sources.fish_bouncing.start: expected"),
        ("sources.my cat", {"kind": "image", "file": "x"}, "expected a name of letters, digits and underscores"),
        (f"{CASE}.bind", {"cat_beach": ["dog"]}, "'dog' (bound to cat_beach) is not in the prompt"),
        (f"{CASE}.bind.cat_beech", ["city"], "no source 'cat_beech': did you mean 'cat_beach'?"),
        (f"{CASE}.truth", {"light": "cat_beach"}, "source 'cat_beach' has no light"),
        (f"{CASE}.truth", {"subject": "robot_city"}, "truth.subject names 'robot_city', which is not bound"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_in_one_line(toybox, path, value, expected):
    *parents, key = path.split(".")
    section = toybox
    for parent in parents:
        section = section[parent]
    section[key] = value
    message = problem(toybox)
    assert message.startswith("my.yaml: ") and expected in message


def test_the_files_of_a_folder_are_its_photographs_in_natural_order(toybox, tmp_path):
    """As a run sees them: its config names them one by one, so another photograph in the folder is another config."""
    for name in ("cat10.jpg", "Cat2.jpg", "cat1.jpg", ".DS_Store"):
        (tmp_path / name).touch()
    (tmp_path / "more").mkdir()
    toybox["sources"]["cat"] = {"kind": "image", "files": str(tmp_path)}
    config = load(toybox)
    found = config.media_paths("cat")
    assert [path.name for path in found] == ["cat1.jpg", "Cat2.jpg", "cat10.jpg"]
    assert config.media_path("cat") == found[0]
    assert load(yaml.safe_load(config.to_yaml())) == config


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ("empty", "empty: no file in this folder: expected one at least"),
        ("nowhere", "nowhere: no such folder: expected a folder or a list of files"),
        ("a.jpg", "a.jpg: this is a file: expected a folder or a list of files"),
    ],
)
def test_a_folder_without_photographs_is_named(toybox, tmp_path, files, expected):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.jpg").touch()
    toybox["sources"]["cat"] = {"kind": "image", "files": str(tmp_path / files)}
    assert problem(toybox) == f"my.yaml: sources.cat.files: {tmp_path}/{expected}"


def test_a_missing_section_is_named(toybox):
    del toybox["models"]
    assert problem(toybox) == "my.yaml: models: missing, and there is no default"


def test_a_key_that_stands_there_twice_is_refused(tmp_path):
    text = "methods:\n  one: &one {steps: 3}\n  two: {<<: *one, steps: 4}\n  one: {steps: 5}\n"
    (tmp_path / "twice.yaml").write_text(text)
    with pytest.raises(InputError, match=r"twice.yaml \(line 4\): the key 'one' stands there twice, first in line 2"):
        load(tmp_path / "twice.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seeds: [010]", "010 would be read as 8: write 8, or '010' for text"),
        ("seeds: [0x10]", "0x10 would be read as 16: write 16"),
        ("seeds: [1_000]", "1_000 would be read as 1000: write 1000"),
        ("name: 007", "007 would be read as 7: write 7, or '007' for text"),
        ("cases:\n\n  no: {}", "no would be read as false: write false, or 'no' for text"),
        ("compile: on", "on would be read as true: write true, or 'on' for text"),
        ("media: {fps: 1:30}", "1:30 would be read as 90: write 90, or '1:30' for text"),
        ("cases: {2024-01-01: {}}", "2024-01-01 would be read as a date: write '2024-01-01', in quotes"),
        ("name: =", "= would be read as of YAML's type value: write '=', in quotes"),
        ("prompt: {{prompt}}", "a key in braces or brackets: expected a word; put text with braces in quotes"),
        ("prompt: {[a]: b}", "a key in braces or brackets: expected a word"),
        ("seeds: &all [*all]", "not valid YAML: found unconstructable recursive node"),
        ("seeds: [" + "9" * 5000 + "]", "not valid YAML: Exceeds the limit"),
    ],
)
def test_a_value_that_does_not_mean_what_it_looks_like_is_refused(text, expected, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load(path)
    assert expected in str(caught.value) and "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_names_stay_what_they_are_called(toybox, tmp_path):
    """Those that YAML takes for text, and those in quotes; others are refused."""
    case = yaml.safe_dump(toybox["cases"].pop("cat_bouncing_in_the_city"), default_flow_style=True).strip()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(toybox | {"cases": None}).replace("cases: null", ""))

    def read(names: str) -> list[str]:
        lines = "\n".join(f"  {name}: {case}" for name in names.split())
        (tmp_path / "cases.yaml").write_text(f"{(tmp_path / 'config.yaml').read_text()}\ncases:\n{lines}\n")
        return list(load(tmp_path / "cases.yaml").cases)

    assert read("NA nan 1e3 008 '007' 'no' 'null'") == ["NA", "nan", "1e3", "008", "007", "no", "null"]
    for name, shown in {"2024": "2024", "true": "true", "~": "null"}.items():
        with pytest.raises(InputError, match=rf"cases\.\w+\.\[key\]: expected text, got {shown}"):
            read(name)


def test_files_that_are_no_yaml_are_refused(tmp_path):
    (tmp_path / "bad.yaml").write_text("sources: {a: b: c}")
    with pytest.raises(InputError, match=r"bad.yaml \(line 1\): not valid YAML"):
        load(tmp_path / "bad.yaml")
    with pytest.raises(InputError, match=r"none.yaml: cannot read"):
        load(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("[1, 2]")
    with pytest.raises(InputError, match=r"list.yaml: expected"):
        load(tmp_path / "list.yaml")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"hierarchi": None}, "controls: unknown key 'hierarchi': did you mean 'hierarchy'?"),
        (
            {"hierarchy": {"lacks": "bico_globl", "has": "bico"}},
            "controls.hierarchy: no row 'bico_globl': did",
        ),
        ({"hierarchy": {"lacks": "bico", "has": "bico"}}, "controls.hierarchy: 'lacks' and 'has' are both 'bico'"),
        ({"absorption": {"row": "bico"}}, "controls.absorption: row 'bico': expected a row without absorption tokens"),
        ({"absorption": {"row": "db_lora"}}, "controls.absorption: row 'db_lora': expected a row that binds words"),
    ],
)
def test_a_control_that_compares_nothing_is_refused(toybox, change, expected):
    assert expected in problem(toybox | {"controls": change})


def test_controls_that_need_the_toybox_are_refused_without_it(toybox):
    toybox["models"]["probe"], toybox["applications"] = None, {}
    assert "controls.absorption: only models.probe recognises clutter, and it is null" in problem(toybox)
    for name, source in toybox["sources"].items():
        source.pop("scene")
        source["file"] = f"{name}.png"
    for case in toybox["cases"].values():
        del case["truth"]
    assert "controls.diversification: no source has a Toybox 'scene'" in problem(toybox)
