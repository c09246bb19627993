"""The DAG: what it runs, what an edit makes it run again, and that it runs as a whole and then rests."""

import os
import re
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import ROOT, needs_zoo
from dagtools import jobs, pretend_results, snakemake
from PIL import Image

from bico.config.reading import load
from bico.core.errors import InputError
from bico.core.files import write_text
from bico.models.binder import HierarchicalBinder
from bico.pipeline.preflight import check
from bico.plan import dependencies
from bico.report.answers import COLUMNS
from bico.sources import authors_page as authors
from bico.sources.weights import read_lock
from bico.training.artifacts import save_artifact

# --- what runs ------------------------------------------------------------------------------------------------------


def test_dry_run_has_one_job_for_each_row(config_file):
    output = snakemake("-n", "--configfile", config_file).stdout
    expected = {"render": 2, "concepts": 1, "encode": 1, "appearance": 1, "learn": 6}
    expected |= {"generate": 8, "score": 8, "table": 1, "plot": 1, "truth": 1, "coverage": 1, "entry": 1}
    assert jobs(output).items() >= expected.items()


def test_nothing_is_learned_for_cases_that_a_method_cannot_take(small, config_file):
    """Two videos: DualReal and DreamVideo have no image, all others go on as ever."""
    small["sources"]["rocket_circling"] = {
        "kind": "video", "scene": {"seed": 7012, "subject": "rocket", "scene": "space", "motion": "circling"}
    }  # fmt: skip
    bind = {"rocket_circling": ["rocket"], "fish_bouncing": ["bouncing"]}
    small["cases"] = {"rocket_bouncing": {"prompt": "a rocket bouncing", "bind": bind}}
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    found = jobs(snakemake("-n", "--configfile", config_file).stdout)
    assert "appearance" not in found
    assert found["learn"] == 4 and found["generate"] == 8


def test_rows_that_learn_the_same_learn_once(small, config_file):
    bico = small["methods"]["bico"]
    small["methods"] |= {
        "bico_half": bico | {"method": "bico", "strength": 0.5},
        "bico_flat": bico | {"method": "bico", "hierarchical": False},
    }
    small["tables"]["table1"] |= {"bico_half": None, "bico_flat": None}
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    found = jobs(snakemake("-n", "--configfile", config_file).stdout)
    assert found["learn"] == 6 + 1 and found["generate"] == 10  # bico_flat


def test_a_binder_that_is_given_is_not_learned(small, config_file, tmp_path):
    given = tmp_path / "given.safetensors"
    save_artifact(given, HierarchicalBinder(8, 6).state_dict(), {"source": "cat"})
    for source in small["sources"].values():
        source["binder"] = str(given)
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    found = jobs(snakemake("-n", "--configfile", config_file).stdout)
    assert found["learn"] == 4  # all but bico and bico_isolated
    config = load(small)
    assert str(given) in dependencies.generate(config, "bico", "auto").params(config)


def test_what_a_row_learns_can_be_divided_among_jobs(small, config_file):
    config_file.write_text(yaml.safe_dump(small | {"parts": 3}, sort_keys=False))
    due = jobs(snakemake("-n", "--configfile", config_file).stdout)
    assert due["learn"] == 5 * 2 + 1  # five rows learn from two sources, DualReal from one case; no job has nothing


def test_a_table_asks_for_its_own_rows_and_no_others(small, config_file):
    def due(table: str) -> dict[str, int]:
        return jobs(snakemake("-n", "--configfile", config_file, "--", f"{small['results']}/{table}.csv").stdout)

    assert due("table1").items() >= {"learn": 6, "generate": 8, "score": 8}.items()
    assert due("table2").items() >= {"learn": 7, "generate": 7, "score": 7}.items()
    assert due("table3").items() >= {"learn": 5, "generate": 5, "score": 5}.items()


def test_controls_run_the_rows_that_they_compare(small, _toybox, config_file):
    small["controls"] = _toybox["controls"]
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    output = snakemake("-n", "--configfile", config_file, "--", f"{small['results']}/controls.csv").stdout
    expected = {"control_diversification": 1, "control_counterparts": 1, "control_absorption": 1, "controls": 1}
    assert jobs(output).items() >= (expected | {"learn": 7, "generate": 6, "score": 6, "encode": 1}).items()
    compared = {row for rows in load(small).controls.rows().values() for row in rows}
    assert set(re.findall(r"output: .*/learned/(\w+)/part0.json", output)) == compared
    scored = compared - {"bico_diversified"}  # its binders alone are looked at
    assert set(re.findall(r"output: .*/scores/(\w+).csv", output)) - {"calibration", "truth"} == scored


def test_tables_of_parts_keep_controls_up_to_date_once_they_are_there(small, _toybox, config_file):
    small["controls"] = {"hierarchy": _toybox["controls"]["hierarchy"]}
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))

    def due(table: str) -> dict[str, int]:
        return jobs(snakemake("-n", "--configfile", config_file, "--", f"{small['results']}/{table}.csv").stdout)

    assert "controls" not in due("table2")
    write_text(Path(small["results"]) / "controls.csv", "made with other settings")
    assert due("table2")["controls"] == due("table3")["controls"] == 1 and "controls" not in due("table1")


def test_a_config_of_ones_own_is_not_mixed_with_the_default_one(config_file, small):
    done = snakemake(
        "--configfile", config_file, "--cores", 1, "--", Path(small["results"]) / "media" / "cat_beach.png"
    )
    assert done.returncode == 0, done.stdout
    written = yaml.safe_load((Path(small["results"]) / "config.yaml").read_text())
    assert set(written["sources"]) == {"cat_beach", "fish_bouncing"}


def test_what_runs_nothing_needs_no_cores(checkout):
    unlocked = snakemake("--unlock", folder=checkout, cores=())
    assert unlocked.returncode == 0, unlocked.stdout


def test_without_a_probe_there_is_no_truth(small, config_file):
    small["models"]["probe"] = None
    small["cases"]["cat_bouncing_in_the_city"].pop("truth")
    config_file.write_text(yaml.safe_dump(small))
    assert not {"truth", "calibrate"} & set(
        jobs(snakemake("-n", "--configfile", config_file, "--", f"{small['results']}/table1.csv").stdout)
    )


def test_a_model_that_does_not_exist_is_refused_before_anything_runs(small, config_file):
    small["models"]["wan"] = "nowhere"
    config_file.write_text(yaml.safe_dump(small))
    refused = snakemake("-n", "--configfile", config_file)
    assert refused.returncode != 0 and "nowhere: models.wan does not exist" in refused.stdout


@pytest.mark.parametrize(
    "change", [{"smpling": {}}, {"seeds": "many"}, {"cases": {"a": {"prompt": "a", "bind": {"b": ["a"]}}}}]
)
def test_bad_config_ends_in_one_line_before_anything_runs(small, config_file, change):
    config_file.write_text(yaml.safe_dump(small | change))
    done = snakemake("--configfile", config_file)
    errors = [line for line in done.stdout.splitlines() if "error: " in line]
    assert done.returncode != 0 and len(errors) == 1 and errors[0].startswith(f"error: {config_file}: ")
    assert "Traceback" not in done.stdout and not Path(small["results"]).exists()


def test_a_new_ablation_is_all_that_runs(checkout, config_file, small):
    table = f"{small['results']}/table2.csv"

    def scheduled() -> dict[str, int]:
        return jobs(snakemake("-n", "--configfile", config_file, "--", table, folder=checkout).stdout)

    pretend_results(checkout, config_file, table)
    assert scheduled() == {}
    bico = small["methods"]["bico"]
    small["methods"]["bico_faster"] = bico | {"method": "bico", "learning_rate": 2 * bico["learning_rate"]}
    small["tables"]["table2"]["bico_faster"] = None
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    assert scheduled() == {"learn": 1, "generate": 1, "score": 1, "table": 1}


def test_what_raters_send_back_makes_tables_new_and_nothing_else(checkout, config_file, small):
    results = Path(small["results"])

    def scheduled(*targets: object) -> dict[str, int]:
        return jobs(snakemake("-n", "--configfile", config_file, "--", *targets, folder=checkout).stdout)

    pretend_results(checkout, config_file)
    assert scheduled() == {} and scheduled(results / "rating" / "pages") == {"rating": 1}
    for rater in (1, 2):
        write_text(
            results / "rating/keys/0123abcd.csv", "rater,item,case,method,seed,sha256\n1,1,a,base,0,\n2,1,a,base,0,\n"
        )
        write_text(results / f"rating/answers/{rater}.csv", f"{','.join(COLUMNS)}\n0123abcd,{rater},1,5,4,3\n")
        assert scheduled() == {"all": 1, "table": 1, "plot": 1, "entry": 1}
        pretend_results(checkout, config_file)
        assert scheduled() == {}
    write_text(results / "rating/answers/2.csv", f"{','.join(COLUMNS)}\n0123abcd,2,1,5,4,4\n")
    assert scheduled() == {"all": 1, "table": 1, "plot": 1, "entry": 1}
    write_text(results / "rating/answers/2.csv", f"{','.join(COLUMNS)}\n0123abcd,2,1,5,4,6\n")
    refused = snakemake("-n", "--configfile", config_file, folder=checkout).stdout
    assert "2.csv, row 2, column motion: expected a whole number from 1 to 5, got '6'" in refused


def dry_run(checkout: Path, config_file: Path, *targets: object) -> dict[str, tuple[str, str]]:
    """Rule -> the params and the inputs of all its jobs, as a dry run prints them."""
    for rules in (checkout / "workflow" / "rules").glob("*.smk"):
        text = rules.read_text().replace("python -m bico.cli", ": dry_run {rule} # {params} # {input} #")
        rules.write_text(text)
    output = snakemake("-n", "-p", "--configfile", config_file, "--", *targets, folder=checkout).stdout
    found: dict[str, tuple[str, str]] = {}
    for rule, params, inputs in re.findall(r": dry_run (\w+) # (.*?) # (.*?) #", output):
        before = found.get(rule, ("", ""))
        found[rule] = (f"{before[0]} {params}", f"{before[1]} {inputs}")
    assert found, output
    return found


def test_every_rule_has_the_params_of_its_own_step(checkout, config_file, small):
    """A rule with another step's params would leave old results in place."""
    small["applications"] = {"alone": {"source": "fish_bouncing", "prompt": "a fish in Paris", "keep": ["fish"]}}
    small["curves"] = {"knob": {"label": "of the knob", "rows": {"base": 0, "bico": 1}}}
    small["controls"] = {"diversification": {"lacks": "bico_tds", "has": "bico"}, "absorption": {"row": "bico_tds"}}
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    results, config = Path(small["results"]), load(small)
    targets = ["table1.csv", "concept_parts.csv", "binding.csv", "applications.csv", "absorption.csv", "gallery.html"]
    targets += ["figures/table1.png", "figures/training/bico.png", "figures/curves/knob.png", "rating/pages"]
    targets += ["figures/cases/cat_bouncing_in_the_city.png", "published.csv", "controls.csv"]
    targets += ["scorers.csv", "entry/entry.json"]
    found = dry_run(checkout, config_file, *(results / name for name in targets))
    arguments = {
        "render": ("cat_beach",), "encode": ("auto",), "learn": ("bico", 0, "auto"), "generate": ("bico", "auto"),
        "binding": ("bico",), "score": ("bico",), "table": ("table1",), "curve": ("knob",),
        "absorption": ("bico", "bico_tds"), "plot": ("table1",), "training_plot": ("bico",),
    }  # fmt: skip
    for rule, (params, _) in found.items():
        step = getattr(dependencies, rule, None)
        if step is None:
            assert rule == "authors", rule  # its param is the commit of the page
            continue
        assert step(config, *arguments.get(rule, ())).params(config) in params, rule


def test_rules_know_the_models_that_they_fetch(checkout, config_file, small, tmp_path):
    lock = read_lock()
    repositories = dict(zip(("wan", "vlm", "clip", "appearance", "dino"), lock, strict=True))
    small["weights_store"] = str(tmp_path / "store")
    small["models"] |= {model: str(tmp_path / "store" / repository) for model, repository in repositories.items()}
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    targets = "table1.csv", "binding.csv", "published.csv"
    found = dry_run(checkout, config_file, *(Path(small["results"]) / name for name in targets))
    needed = {
        rule: {model for model, repository in repositories.items() if f"/{repository}.json" in inputs}
        for rule, (_, inputs) in found.items()
    }
    assert {rule: models for rule, models in needed.items() if models} == {
        "concepts": {"vlm"}, "encode": {"wan"}, "appearance": {"appearance"}, "learn": {"wan"}, "generate": {"wan"},
        "unbound": {"wan"}, "calibrate": {"clip", "dino"}, "score": {"clip", "dino"}, "published": {"clip", "dino"},
    }  # fmt: skip
    assert all(pin.revision in found["weights"][0] for pin in lock.values())
    assert authors.COMMIT in found["authors"][0]


# --- any path, any text, any date -----------------------------------------------------------------------------------


def test_commands_get_whatever_the_folder_of_results_is_called(small, config_file, tmp_path):
    results = tmp_path / 'out (v2), it\'s my $HOME & "run"; ü'
    config_file.write_text(yaml.safe_dump(small | {"results": str(results)}, sort_keys=False))
    done = snakemake("--configfile", config_file, "--", results / "media" / "cat_beach.png")
    assert done.returncode == 0, done.stdout
    assert (results / "media/cat_beach.png").exists() and (results / "logs/render/cat_beach.png.log").exists()
    for rules in (ROOT / "workflow" / "rules").glob("*.smk"):
        for command in re.findall(r'"(python -m bico.cli .*)"', rules.read_text()):
            assert re.findall(r"{[^}]*}", command) == re.findall(r"{[^}]*:q}", command), command


@pytest.mark.parametrize("folder", ["out{1}", "{results}", "-out", "~/out", "out\n"])
def test_folders_that_rules_cannot_name_are_refused(small, folder):
    for key in ("results", "weights_store", "authors_page"):
        with pytest.raises(InputError, match=rf"^{key}: .*: expected a path without braces"):
            check(load(small | {key: folder}))


def test_files_of_tomorrow_and_prompts_with_braces_run_once(small, config_file, checkout, tmp_path):
    """A camera's clock, or another time zone: the first job failed on every run, because its output was older."""
    cat, tomorrow = tmp_path / "cat {1}.jpg", time.time() + 86400
    Image.new("RGB", (64, 48), "orange").save(cat)
    small["sources"]["cat_beach"] = {"kind": "image", "file": str(cat)}
    case = {"prompt": "a {cat} bouncing", "bind": {"cat_beach": ["cat"], "fish_bouncing": ["bouncing"]}}
    small |= {"cases": {"shown": case}, "models": small["models"] | {"probe": None}}
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    keys, results = "rater,item,case,method,seed,sha256\n1,1,shown,base,0,\n", Path(small["results"])
    write_text(results / "rating/keys/0123abcd.csv", keys)
    answers = results / "rating/answers/1.csv"
    write_text(answers, f"{','.join(COLUMNS)}\n0123abcd,1,1,5,4,3\n")
    for path in (cat, answers):
        os.utime(path, (tomorrow, tomorrow))
    pretend_results(checkout, config_file)

    def scheduled() -> dict[str, int]:
        return jobs(snakemake("-n", "--configfile", config_file, folder=checkout).stdout)

    assert scheduled() == {}
    os.utime(answers)
    assert scheduled() == {"all": 1, "table": 1, "plot": 1, "entry": 1}
    os.utime(cat)
    assert scheduled().items() >= {"concepts": 1, "figures": 1, "gallery": 1, "score": 8}.items()


# --- the whole way --------------------------------------------------------------------------------------------------


@needs_zoo
def test_the_whole_dag_runs_and_then_rests(small, _toybox, config_file):
    small["models"] = _toybox["models"]
    small["concepts"] |= {"captions": 4, "frame_captions": 2}
    few = {"global_steps": 1, "all_steps": 2}
    for row in ("bico", "bico_isolated", "bico_tds"):
        small["methods"][row] |= {"stages": few, "clip_stages": few}
    for row in ("textual_inversion", "db_lora"):
        small["methods"][row] |= {"steps": 2}
    small["methods"]["dreamvideo"] |= {"inversion_steps": 1, "identity_steps": 1, "motion_steps": 1}
    small["methods"]["dualreal"] |= {"steps": 2, "warm_up": 1}
    small["sampling"]["steps"] = 2
    small["applications"] = {
        name: entry for name, entry in _toybox["applications"].items() if entry["source"] in small["sources"]
    }
    small["curves"] = {"knob": {"label": "of 0 and 1", "rows": {"base": 0, "bico": 1}}}
    small["controls"] = {"diversification": {"lacks": "bico_tds", "has": "bico"}, "absorption": {"row": "bico_tds"}}
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    results = Path(small["results"])
    more = "concept_parts.csv", "applications.csv", "figures/absorption.pdf", "figures/curves/knob.png", "controls.csv"
    more += "scorers.csv", "figures/scorers.pdf"
    done = snakemake("--configfile", config_file, "--", "all", *(results / name for name in more))
    assert done.returncode == 0, done.stdout[-4000:]
    assert all((results / name).exists() for name in more)
    assert "\nBiCo " in done.stdout and f"gallery:               {results}/gallery/index.html" in done.stdout
    assert "reason: " not in done.stdout and len(done.stdout.splitlines()) < 150
    table = (results / "table1.csv").read_text().splitlines()
    assert len(table) == 1 + len(small["tables"]["table1"]) and (results / "table1.md").exists()
    assert (results / "figures" / "cases" / "cat_bouncing_in_the_city.png").exists()
    assert (results / "gallery" / "index.html").exists() and (results / "figures" / "table1.pdf").exists()
    assert not list(results.rglob("*.ckpt")) and not list(results.rglob("*.unfinished"))
    again = snakemake("--configfile", config_file)
    assert again.returncode == 0 and "Nothing to be done" in again.stdout
    used = (results / "config.yaml").read_text()
    small["methods"]["bico"]["eval_every"] = 7  # changes nothing that is learned
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    assert jobs(snakemake("-n", "--configfile", config_file).stdout) == {}
    assert "score" in jobs(snakemake("-n", "--configfile", config_file, "--config", "seeds=[5]").stdout)
    assert (results / "config.yaml").read_text() == used  # running jobs may read it
    report = snakemake("--report", results / "report.html", "--configfile", config_file, cores=())
    assert report.returncode == 0, report.stdout[-2000:]
    assert "gallery.html" in (results / "report.html").read_text() and "table1.md" in report.stdout

    learned = {path: path.stat().st_mtime_ns for path in (results / "learned").rglob("*.safetensors")}
    small["sources"]["robot_city"] = _toybox["sources"]["robot_city"]
    bind = {"robot_city": ["robot"], "fish_bouncing": ["bouncing"]}
    small["cases"]["robot_bouncing"] = {"prompt": "a robot bouncing", "bind": bind}
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    two = [str(results / "scores" / f"{row}.csv") for row in ("bico", "dualreal")]  # the others would add minutes
    more = snakemake("--configfile", config_file, "--", *two)
    assert more.returncode == 0, more.stdout[-4000:]
    assert {path: path.stat().st_mtime_ns for path in learned} == learned  # a new source leaves the others alone
    assert (results / "learned" / "bico" / "robot_city" / "0.safetensors").exists()

    learned = {path: path.stat().st_mtime_ns for path in (results / "learned").rglob("*.safetensors")}
    small |= {"seeds": [0, 1], "learning_seeds": [0, 1]}
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    twice = snakemake("--configfile", config_file, "--", *two)
    assert twice.returncode == 0, twice.stdout[-4000:]
    assert {path: path.stat().st_mtime_ns for path in learned} == learned  # another training leaves the others alone
    of_two = [path for path in learned if path.parts[-3] in ("bico", "dualreal")]
    assert all(path.with_name("1.safetensors").read_bytes() != path.read_bytes() for path in of_two)

    small["sampling"]["steps"] = 3  # a run that ends between clips and scores
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    clips = snakemake("--configfile", config_file, "--", str(results / "clips" / "base.json"))
    assert clips.returncode == 0, clips.stdout[-4000:]
    scores = snakemake("-n", "--configfile", config_file, "--", str(results / "scores" / "base.csv"))
    assert jobs(scores.stdout) == {"score": 1}


@needs_zoo
def test_a_method_is_added_by_one_file_and_one_line(small, _toybox, checkout, config_file):
    """The example of docs/extending.md, as it stands there."""
    code = (ROOT / "docs" / "extending.md").read_text().split("```python\n")[1].split("```")[0]
    (checkout / "bico" / "methods" / "offset.py").write_text(code)
    small["models"] = _toybox["models"]
    small["concepts"] |= {"captions": 4, "frame_captions": 2}
    small["sampling"]["steps"] = 2
    small["methods"] = {"base": {}, "offset": {"steps": 3, "learning_rate": 1e-2, "batch_size": 4}}
    small |= {"tables": {"table1": {"base": None, "offset": None}}, "curves": {}, "applications": {}}
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    table = Path(small["results"]) / "table1.csv"
    done = snakemake("--configfile", config_file, "--", table, folder=checkout)
    assert done.returncode == 0, done.stdout[-4000:]
    rows = pd.read_csv(table, index_col="method")
    assert rows.loc["offset", "missing"] == 0
    assert rows.loc["offset", "truth_overall"] != rows.loc["base", "truth_overall"]

    small["methods"]["offset"]["step"] = 3
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    refused = snakemake("-n", "--configfile", config_file, "--", table, folder=checkout).stdout
    assert "methods.offset: unknown key 'step': did you mean 'steps'?" in refused


@needs_zoo
def test_a_score_is_added_by_one_file_and_one_line(small, _toybox, checkout, config_file):
    """The example of docs/extending.md, as it stands there."""
    code = (ROOT / "docs" / "extending.md").read_text().split("```python\n")[2].split("```")[0]
    (checkout / "bico" / "scoring" / "scores" / "colourfulness.py").write_text(code)
    small["models"] = _toybox["models"]
    small["sampling"]["steps"] = 2
    small["methods"] = {"base": {}}
    small |= {"tables": {"table1": {"base": None}}, "curves": {}, "applications": {}, "controls": {}}
    small["scoring"] |= {"scores": {"clip_t": {}, "colourfulness": {"every": 2}}, "tested": {}}
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    table = Path(small["results"]) / "table1.csv"
    done = snakemake("--configfile", config_file, "--", table, folder=checkout)
    assert done.returncode == 0, done.stdout[-4000:]
    rows = pd.read_csv(table, index_col="method")
    assert rows.loc["base", "colourfulness"] > 0 and "dino_i" not in rows
    assert "- `colourfulness`: how colourful the frames are" in table.with_suffix(".md").read_text()

    small["scoring"]["scores"]["colourfulness"]["evry"] = 3
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    refused = snakemake("-n", "--configfile", config_file, "--", table, folder=checkout).stdout
    assert "scoring.scores.colourfulness: unknown key 'evry': did you mean 'every'?" in refused
