"""The DAG: what it runs, what an edit makes it run again, and that it runs as a whole and then rests."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT, needs_zoo
from dag import jobs, pretend_results, snakemake
from safetensors.numpy import save_file

from bico.core.files import write_text
from bico.core.fingerprints import PACKAGE, closure, code_digest, file_digest, folder_digest
from bico.report.answers import COLUMNS
from bico.sources import authors
from bico.sources.weights import read_lock

# --- what runs ------------------------------------------------------------------------------------------------------


def test_dry_run_has_one_job_for_each_row(config_file):
    output = snakemake("-n", "--configfile", config_file).stdout
    expected = {"render": 2, "concepts": 1, "encode": 1, "appearance": 1, "learn": 6}
    expected |= {"generate": 8, "score": 8, "table": 1, "plot": 1, "truth": 1}
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
    save_file({"shared.spatial.0.weight": np.zeros(8)}, given)
    for source in small["sources"].values():
        source["binder"] = str(given)
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    output = snakemake("-n", "--configfile", config_file).stdout
    assert jobs(output)["learn"] == 4  # all but bico and bico_isolated
    assert re.search(rf"rule generate:\n    input: .*{given}.*\n    output: .*/clips/bico.json", output)


def test_what_a_row_learns_can_be_divided_among_jobs(small, config_file):
    config_file.write_text(yaml.safe_dump(small | {"parts": 3}, sort_keys=False))
    assert jobs(snakemake("-n", "--configfile", config_file).stdout)["learn"] == 18


def test_a_table_asks_for_its_own_rows_and_no_others(small, config_file):
    def due(table: str) -> dict[str, int]:
        return jobs(snakemake("-n", "--configfile", config_file, "--", f"{small['results']}/{table}.csv").stdout)

    assert due("table1").items() >= {"learn": 6, "generate": 8, "score": 8}.items()
    assert due("table2").items() >= {"learn": 7, "generate": 7, "score": 7}.items()
    assert due("table3").items() >= {"learn": 5, "generate": 5, "score": 5}.items()


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


def test_zoo_can_be_trained_when_there_is_none(small, config_file):
    small["models"]["wan"] = "nowhere"
    config_file.write_text(yaml.safe_dump(small))
    refused = snakemake("-n", "--configfile", config_file)
    assert refused.returncode != 0 and "nowhere: models.wan does not exist" in refused.stdout
    assert snakemake("-n", "--configfile", config_file, "--", "zoo").returncode == 0


@pytest.mark.parametrize(
    "change", [{"smpling": {}}, {"seeds": "many"}, {"cases": {"a": {"prompt": "a", "bind": {"b": ["a"]}}}}]
)
def test_bad_config_ends_in_one_line_before_anything_runs(small, config_file, change):
    config_file.write_text(yaml.safe_dump(small | change))
    done = snakemake("--configfile", config_file)
    errors = [line for line in done.stdout.splitlines() if "error: " in line]
    assert done.returncode != 0 and len(errors) == 1 and errors[0].startswith(f"error: {config_file}: ")
    assert "Traceback" not in done.stdout and not Path(small["results"]).exists()


# --- what an edit makes run again -----------------------------------------------------------------------------------


def test_code_digests_follow_imports():
    bico, generate = closure("bico.methods.bico"), closure("bico.pipeline.generate")
    assert {"bico.methods.training", "bico.models.binder", "bico.models.wan.backbone", "bico.methods.base"} <= bico
    assert {"bico.prompts.slots", "bico.sources.encoding"} <= bico and "bico.core.records" in generate
    assert not {"bico.methods.db_lora", "bico.report.figures", "bico.cli", "bico.scoring.scores"} & bico
    assert "bico.scoring.truth" in closure("bico.scoring.scores")  # `from bico.scoring import truth`, inside a function
    assert "bico.toybox.world" in closure("bico.toybox.render")
    assert "bico.models.binder" not in closure("bico.report.figures")


def test_code_digests_see_edits_but_neither_comments_nor_docstrings(tmp_path):
    package = shutil.copytree(PACKAGE, tmp_path / "bico")
    before = code_digest("bico.methods.bico", package=package)
    (package / "report" / "figures.py").write_text("WIDTH = 3\n")
    training = package / "methods" / "training.py"
    reworded = training.read_text().replace('"""The one', '"""Some').replace('"""Steps that', '"""What')
    assert '"""Some training loop' in reworded and '"""What share a loss' in reworded
    training.write_text(reworded + "\n# nothing new\n")
    other = shutil.copytree(package, tmp_path / "other" / "bico")
    assert code_digest("bico.methods.bico", package=other) == before
    (other / "methods" / "training.py").write_text((other / "methods" / "training.py").read_text() + "\nNEW = 1\n")
    third = shutil.copytree(other, tmp_path / "third" / "bico")
    assert code_digest("bico.methods.bico", package=third) != before


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


def test_an_edit_reschedules_what_depends_on_it_and_nothing_else(checkout, config_file, small):
    def scheduled() -> dict[str, int]:
        return jobs(snakemake("-n", "--configfile", config_file, folder=checkout).stdout)

    pretend_results(checkout, config_file)
    assert scheduled() == {}
    for file, due, kept in [
        ("methods/training.py", {"learn", "generate", "score"}, {"render", "concepts", "encode"}),
        ("report/figures.py", {"figures"}, {"learn", "generate", "score", "table"}),
        ("report/answers.py", {"table"}, {"learn", "generate", "score", "figures", "gallery"}),
        ("report/plots.py", {"plot"}, {"learn", "generate", "score", "table", "figures"}),
        ("report/tables.py", {"table", "plot"}, {"learn", "generate", "score", "figures"}),
        ("scoring/dino_i.py", {"score", "table"}, {"learn", "generate"}),
    ]:
        edited = checkout / "bico" / file
        before = edited.read_text()
        edited.write_text(before + "\nEDITED = True\n")
        found = set(scheduled())
        assert due <= found and not kept & found, file
        edited.write_text(before)

    small["methods"]["bico"]["strength"] = 0.5  # is no matter of learning
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    found = scheduled()
    assert found["generate"] == 1 and "learn" not in found

    bind = small["cases"]["cat_bouncing_in_the_city"]["bind"]
    small["sources"]["robot_growing"] = small["sources"].pop("fish_bouncing") | {"kind": "video"}
    bind["robot_growing"] = bind.pop("fish_bouncing")
    small["cases"]["cat_bouncing_in_the_city"]["truth"]["motion"] = "robot_growing"
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    assert scheduled()["learn"] == 6  # of a case with other sources, too


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
        assert scheduled() == {"all": 1, "table": 1, "plot": 1}
        pretend_results(checkout, config_file)
        assert scheduled() == {}
    write_text(results / "rating/answers/2.csv", f"{','.join(COLUMNS)}\n0123abcd,2,1,5,4,4\n")
    assert scheduled() == {"all": 1, "table": 1, "plot": 1}
    write_text(results / "rating/answers/2.csv", f"{','.join(COLUMNS)}\n0123abcd,2,1,5,4,6\n")
    refused = snakemake("-n", "--configfile", config_file, folder=checkout).stdout
    assert "2.csv, row 2, column motion: expected a whole number from 1 to 5, got '6'" in refused


def told(checkout: Path, config_file: Path, *targets: object) -> dict[str, tuple[str, str]]:
    """Rule -> the params and the inputs of all its jobs, as a dry run prints them."""
    for rules in (checkout / "workflow" / "rules").glob("*.smk"):
        text = rules.read_text().replace("python -m bico.cli", ": told {rule} # {params} # {input} #")
        rules.write_text(text)
    output = snakemake("-n", "-p", "--configfile", config_file, "--", *targets, folder=checkout).stdout
    found: dict[str, tuple[str, str]] = {}
    for rule, params, inputs in re.findall(r": told (\w+) # (.*?) # (.*?) #", output):
        before = found.get(rule, ("", ""))
        found[rule] = (f"{before[0]} {params}", f"{before[1]} {inputs}")
    assert found, output
    return found


ARRAY = "media slots dtype"  # what encoding and generating have in common
CASE = "prompt bind truth"
PAGES = "page.js", "gallery.html", "rating.html", "paper_table1.csv"
JUDGED = "bico.scoring.scores: media pooling crop clip dino"
# Rule: the modules that it runs: all settings and models that its results depend on; its inputs.
DEPENDS = f"""
    render     | bico.toybox.scenes: media scene |
    truth      | bico.toybox.scenes: media scene prompt truth |
    concepts   | bico.sources.concepts bico.media.files: media concepts words files vlm | media
    encode     | bico.sources.encoding bico.media.files: {ARRAY} files wan | media concepts
    appearance | bico.models.clip bico.media.files: media files clip | media
    learn      | bico.methods.bico: rate shift slots dtype trainings wan | encoded appearance
    generate   | bico.methods.bico bico.pipeline.generate: {ARRAY} rate strength steps shift seeds prompt bind files wan | media learned given
    unbound    | bico.analysis.binding bico.methods.base: {ARRAY} scene steps shift seeds pooling crop bootstrap wan probe | media
    binding    | bico.methods.bico bico.analysis.binding: {ARRAY} rate strength scene steps shift seeds pooling crop bootstrap wan probe | media learned unbound
    binding_table | bico.analysis.binding: rows pooling crop bootstrap | bound
    applications | bico.analysis.applications: {ARRAY} rate strength scene steps shift seeds pooling crop bootstrap application files wan probe | media learned given
    absorption | bico.analysis.absorption: {ARRAY} rate strength scene wan | media learned encoded
    calibrate  | {JUDGED} seeds {CASE} files probe | media truth
    score      | {JUDGED} {CASE} files probe | media clips calibration
    parts      | bico.analysis.concept_parts: rows media pooling crop bootstrap seeds trainings truth probe | clips truth
    table      | bico.report.tables: name pooling crop bootstrap seeds trainings rows paper_table1.csv | clips scores calibration
    plot       | bico.report.plots: | table
    training_plot | bico.report.plots: | learned
    curve      | bico.report.plots: pooling crop bootstrap seeds trainings curve | scores
    figures    | bico.report.figures: rows media seeds {CASE} | media clips truth
    gallery    | bico.report.gallery: name rows media seeds {CASE} gallery.html page.js | media clips truth scores
    rating     | bico.report.rating: media rating seeds rows prompt bind rating.html page.js | media clips
    published  | bico.sources.authors bico.scoring.scores: media pooling crop clip dino | page
"""  # noqa: E501


def test_every_rule_knows_all_that_its_results_depend_on(checkout, config_file, small, tmp_path):
    """A setting, a model, a module or an input that a rule did not know of would leave old results in place."""
    binder = tmp_path / "given.safetensors"
    save_file({"shared.spatial.0.weight": np.zeros(8)}, binder)
    os.utime(binder, (0, 0))  # the digits of now could be a mark
    case = small["cases"]["cat_bouncing_in_the_city"]
    case["prompt"] = "a cat bouncing in the city of Rome"
    small["sources"]["cat_beach"] |= {"concepts": {"spatial": ["whiskers"]}}
    small["sources"]["cat_beach"]["scene"]["seed"] = 778101
    small["sources"]["fish_bouncing"]["binder"] = str(binder)
    small["applications"] = {"alone": {"source": "fish_bouncing", "prompt": "a fish in Paris", "keep": ["fish"]}}
    small["curves"] = {"knob": {"label": "of the knob", "rows": {"base": 0, "bico": 1}}}
    for row in ("bico", "bico_tds"):
        small["methods"][row] |= {"learning_rate": 0.08102, "strength": 0.8103}
    small["scoring"] = {"pooling": "renormalised", "dino_crop": 0.8104, "bootstrap": 778105}
    small["sampling"] |= {"steps": 778106, "shift": 8.107}
    small["media"]["fps"], small["concepts"]["seed"], small["rating"]["seed"] = 8.108, 778109, 778110
    small |= {
        "name": "marked",
        "text_slots": 778111,
        "dtype": "bfloat16",
        "seeds": [778112],
        "learning_seeds": [778113],
    }
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    results = Path(small["results"])
    targets = ["table1.csv", "parts.csv", "binding.csv", "applications.csv", "absorption.csv", "gallery.html"]
    targets += ["figures/table1.png", "figures/training/bico.png", "figures/curves/knob.png", "rating/pages"]
    targets += ["figures/cases/cat_bouncing_in_the_city.png", "published.csv"]
    found = told(checkout, config_file, *(results / name for name in targets))
    marks = {
        "media": "8.108", "slots": "778111", "dtype": "bfloat16", "seeds": "778112", "trainings": "778113",
        "name": "marked", "scene": "778101", "rate": "0.08102", "strength": "0.8103", "pooling": "renormalised",
        "crop": "0.8104", "bootstrap": "778105", "steps": "778106", "shift": "8.107",
        "concepts": "778109", "rating": "778110", "words": "whiskers",
        "prompt": "of Rome", "bind": '["bouncing"]', "truth": '"motion": "fish_bouncing"',
        "application": "in Paris", "curve": "of the knob", "rows": '"copy", ', "files": str(binder),
    }  # fmt: skip
    marks |= {name: file_digest(PACKAGE / "report" / name) for name in PAGES}
    marks |= {name: folder_digest(Path(folder)) for name, folder in small["models"].items()}
    files = {
        "media": "/media/", "concepts": "/concepts.json", "encoded": "/encoded.json", "appearance": "/appearance.json",
        "learned": "/learned/bico/", "given": str(binder), "clips": "/clips/bico.json", "scores": "/scores/bico.csv",
        "calibration": "/calibration.json", "truth": "/truth/cat", "table": "/table1.csv", "page": "/index.html",
        "unbound": "/unbound.json", "bound": "/binding/bico.csv",
    }  # fmt: skip
    expected = {}
    for line in DEPENDS.strip().splitlines():
        rule, known, read = (part.strip() for part in line.split("|"))
        modules, _, settings = known.partition(":")
        code = code_digest(*modules.split(), package=checkout / "bico") in found[rule][0]
        expected[rule] = {*settings.split()}, {*read.split()}, code or "other modules"
    assert {
        rule: (
            {name for name in marks if marks[name] in params},
            {name for name in files if files[name] in inputs},
            True,
        )
        for rule, (params, inputs) in found.items()
        if rule != "authors"
    } == expected
    assert ", false, 1," in found["learn"][0]  # compiled, it rounds differently


def test_rules_know_the_models_that_they_fetch(checkout, config_file, small, tmp_path):
    lock = read_lock()
    repositories = dict(zip(("wan", "vlm", "clip", "dino"), lock, strict=True))
    small["weights_store"] = str(tmp_path / "store")
    small["models"] |= {model: str(tmp_path / "store" / repository) for model, repository in repositories.items()}
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    targets = "table1.csv", "binding.csv", "published.csv"
    found = told(checkout, config_file, *(Path(small["results"]) / name for name in targets))
    needed = {
        rule: {model for model, repository in repositories.items() if f"/{repository}.json" in inputs}
        for rule, (_, inputs) in found.items()
    }
    assert {rule: models for rule, models in needed.items() if models} == {
        "concepts": {"vlm"}, "encode": {"wan"}, "appearance": {"clip"}, "learn": {"wan"}, "generate": {"wan"},
        "unbound": {"wan"}, "calibrate": {"clip", "dino"}, "score": {"clip", "dino"}, "published": {"clip", "dino"},
    }  # fmt: skip
    assert all(pin.revision in found["weights"][0] for pin in lock.values())
    assert authors.COMMIT in found["authors"][0]


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
    small["methods"]["dualreal"] |= {"steps": 2}
    small["sampling"]["steps"] = 2
    small["applications"] = {
        name: entry for name, entry in _toybox["applications"].items() if entry["source"] in small["sources"]
    }
    small["curves"] = {"knob": {"label": "of 0 and 1", "rows": {"base": 0, "bico": 1}}}
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    results = Path(small["results"])
    more = "parts.csv", "applications.csv", "figures/absorption.pdf", "figures/curves/knob.png"
    done = snakemake("--configfile", config_file, "--", "all", *(results / name for name in more))
    assert done.returncode == 0, done.stdout[-4000:]
    assert all((results / name).exists() for name in more)
    table = (results / "table1.csv").read_text().splitlines()
    assert len(table) == 1 + len(small["tables"]["table1"]) and (results / "table1.md").exists()
    assert (results / "figures" / "cases" / "cat_bouncing_in_the_city.png").exists()
    assert (results / "gallery" / "index.html").exists() and (results / "figures" / "table1.pdf").exists()
    assert not list(results.rglob("*.ckpt")) and not list(results.rglob("*.unfinished"))
    again = snakemake("--configfile", config_file)
    assert again.returncode == 0 and "Nothing to be done" in again.stdout
    used = (results / "config.yaml").read_text()
    small["methods"]["bico"]["probe_every"] = 7  # changes nothing that is learned
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
    more = snakemake("--configfile", config_file, "--", str(results / "table1.csv"))
    assert more.returncode == 0, more.stdout[-4000:]
    assert {path: path.stat().st_mtime_ns for path in learned} == learned  # a new source leaves the others alone
    assert (results / "learned" / "bico" / "robot_city" / "0.safetensors").exists()

    learned = {path: path.stat().st_mtime_ns for path in (results / "learned").rglob("*.safetensors")}
    small |= {"seeds": [0, 1], "learning_seeds": [0, 1]}
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    twice = snakemake("--configfile", config_file, "--", str(results / "table1.csv"))
    assert twice.returncode == 0, twice.stdout[-4000:]
    assert {path: path.stat().st_mtime_ns for path in learned} == learned  # another training leaves the others alone
    of_the_table = [path for path in learned if path.parts[-3] in small["tables"]["table1"]]
    assert all(path.with_name("1.safetensors").read_bytes() != path.read_bytes() for path in of_the_table)
    assert set(pd.read_csv(results / "table1.csv")["trainings"]) == {0, 2}

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
    (checkout / "bico" / "methods" / "shift.py").write_text(code)
    small["models"] = _toybox["models"]
    small["concepts"] |= {"captions": 4, "frame_captions": 2}
    small["sampling"]["steps"] = 2
    small["methods"] = {"base": {}, "shift": {"steps": 3, "learning_rate": 1e-2, "batch_size": 4}}
    small |= {"tables": {"table1": {"base": None, "shift": None}}, "curves": {}, "applications": {}}
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    table = Path(small["results"]) / "table1.csv"
    done = snakemake("--configfile", config_file, "--", table, folder=checkout)
    assert done.returncode == 0, done.stdout[-4000:]
    rows = pd.read_csv(table, index_col="method")
    assert rows.loc["shift", "missing"] == 0 and rows.loc["shift", "truth_overall"] != rows.loc["base", "truth_overall"]

    small["methods"]["shift"]["step"] = 3
    config_file.write_text(yaml.safe_dump(small, sort_keys=False))
    refused = snakemake("-n", "--configfile", config_file, "--", table, folder=checkout).stdout
    assert "methods.shift: unknown key 'step': did you mean 'steps'?" in refused


def test_the_packages_above_a_module_count(tmp_path):
    package = tmp_path / "some"
    (package / "inner").mkdir(parents=True)
    for name in ("__init__.py", "inner/__init__.py", "inner/one.py"):
        (package / name).write_text("VALUE = 1\n")
    assert closure("some.inner.one", package=package) == {"some", "some.inner", "some.inner.one"}
