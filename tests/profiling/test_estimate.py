"""What a run will take: the jobs are Snakemake's, the work is the config's, the costs are a machine's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from conftest import ROOT, ZOO, needs_zoo
from files import write

from bico.analysis.binding import trials
from bico.cli.main import main
from bico.config.reading import load
from bico.methods.base.settings import Settings as BaseSettings
from bico.methods.bico.settings import Settings as BicoSettings
from bico.methods.db_lora import learn as db_lora
from bico.methods.dreamvideo.settings import Settings as DreamVideoSettings
from bico.methods.dualreal.settings import Settings as DualRealSettings
from bico.methods.textual_inversion.settings import Settings as TextualInversionSettings
from bico.models.wan.attention_maps import MID_SIGMAS
from bico.plan.controls import measured_sources
from bico.plan.passes import MAP_CAPTIONS, NEW_SENTENCES, NOISES
from bico.plan.trainings import applying_rows, learned_items
from bico.profiling.costs import Costs, Speed, costs_of
from bico.profiling.estimate import estimate, jobs_in
from bico.profiling.expected import expected_seconds
from bico.profiling.measuring import handful, speeds
from bico.profiling.work import MAP_LEVELS, PUBLISHED, TESTED, ModelSizes, RuleJob, Work, captions
from bico.toybox.faults import dosed_clips

UNIT = Costs(
    origin="one of everything",
    gpu=False,
    start=0,
    training={"bico": Speed(still=1, clip=1)},
    sampling=1,
    caption=1,
    encode=1,
    score=1,
    other=1,
)


def work(config: dict, **changes: object) -> Work:
    return Work(load(config), UNIT.model_copy(update=changes))


def hours(of: Work, rule: str, **wildcards: str) -> float:
    return of.of(RuleJob(rule, wildcards))["cpu_hours"]


# --- the published sizes --------------------------------------------------------------------------------------------


def test_operations_are_those_of_the_models_at_their_size(small):
    """Of Wan2.1-T2V-1.3B at 480x832, where it is not fetched yet."""
    small["models"] |= {"wan": "not/fetched/yet", "clip": "not/fetched/yet"}
    small |= {"text_slots": 512, "media": {"height": 480, "width": 832, "num_frames": 81, "fps": 15}}
    config = load(small)
    assert ModelSizes(config).tflop(config.media, 81) == pytest.approx((283.0, 866), rel=5e-3)


def test_numbers_that_are_learned_at_full_size(small):
    small["models"] |= {"wan": "not/fetched/yet", "clip": "not/fetched/yet"}
    config = load(small)
    assert ModelSizes(config).appearance == 512
    own = config.models.model_copy(update={"appearance": Path("not/fetched/either")})
    assert ModelSizes(config.model_copy(update={"models": own})).appearance == 1024
    learned = config.methods["bico"].parameters("image", ModelSizes(config).backbone)
    assert learned == 31 * 4_727_809  # one global binder and 30 of blocks
    assert config.methods["bico"].parameters("video", ModelSizes(config).backbone) == 31 * 9_460_226


# --- work -----------------------------------------------------------------------------------------------------------


def test_steps_of_each_method():
    stages, clip_stages = {"global_steps": 2, "all_steps": 3}, {"global_steps": 4, "all_steps": 5}
    bico = BicoSettings(stages=stages, clip_stages=clip_stages)
    assert bico.steps_of("image") == (5, 0)
    assert bico.steps_of("video") == (5, 9)  # single frames, then the clip
    assert bico.model_copy(update={"temporal_decoupling": False}).steps_of("video") == (0, 9)
    of_frames = BicoSettings(stages=stages, clip_stages=clip_stages, frame_stages={"global_steps": 6, "all_steps": 7})
    assert of_frames.steps_of("image") == (5, 0) and of_frames.steps_of("video") == (13, 9)
    assert TextualInversionSettings(steps=7).steps_of("video") == (0, 7)
    dreamvideo = DreamVideoSettings(inversion_steps=2, identity_steps=3, motion_steps=4)
    assert dreamvideo.steps_of("image") == (5, 0) and dreamvideo.steps_of("video") == (0, 4)
    assert DualRealSettings(steps=8, warm_up=2).steps_of("image") == (4, 4)
    assert BaseSettings().steps_of("image") == (0, 0)


@needs_zoo
def test_work_grows_with_what_the_config_asks_for(toybox):
    def ratio(rule: str, change: dict, **wildcards: str) -> float:
        return hours(work(toybox | change), rule, **wildcards) / hours(work(toybox), rule, **wildcards)

    assert ratio("generate", {"seeds": [0, 1, 2, 3]}, method="bico") == pytest.approx(2)
    without_guidance = toybox["sampling"] | {"guidance_scale": 1.0}
    assert ratio("generate", {"sampling": without_guidance}, method="bico") == pytest.approx(0.5)
    assert ratio("generate", {"sampling": without_guidance}, method="dualreal") == pytest.approx(1)  # has its own
    assert ratio("score", {"seeds": [0]}, method="bico") == pytest.approx(0.5)
    assert ratio("learn", {"seeds": [0]}, method="bico", part="0") == pytest.approx(1)
    parts = [hours(work(toybox | {"parts": 3}), "learn", method="bico", part=str(part)) for part in range(3)]
    assert sum(parts) == pytest.approx(hours(work(toybox), "learn", method="bico", part="0"))
    methods = toybox["methods"]
    as_long = methods["bico_isolated"] | {"clip_stages": methods["bico"]["clip_stages"]}
    isolated = work(toybox | {"methods": methods | {"bico_isolated": as_long}})
    assert hours(isolated, "learn", method="bico_isolated", part="0") > sum(parts)
    assert hours(work(toybox), "table", table="table1") == pytest.approx(1 / 3600)


@needs_zoo
def test_steps_on_an_image_count_with_their_own_batch_size(toybox):
    rows = {size: toybox["methods"]["dualreal"] | {"identity_batch_size": size} for size in (4, 400)}
    few, many = (
        hours(work(toybox | {"methods": toybox["methods"] | {"dualreal": row}}), "learn", method="dualreal", part="0")
        for row in rows.values()
    )
    assert many > 2 * few


@needs_zoo
def test_work_of_models_is_that_of_a_gpu_if_there_is_one(toybox):
    on_gpu = work(toybox, gpu=True)
    assert on_gpu.of(RuleJob("score", {"method": "bico"}))["cpu_hours"] == 0
    assert on_gpu.of(RuleJob("score", {"method": "bico"}))["gpu_hours"] == hours(work(toybox), "score", method="bico")
    assert on_gpu.of(RuleJob("table", {"table": "table1"}))["gpu_hours"] == 0


BICO_THEN = {"stages": {"global_steps": 15, "all_steps": 45}, "clip_stages": {"global_steps": 15, "all_steps": 45}}
THEN = {"textual_inversion": {"steps": 150}, "db_lora": {"steps": 60}, "dualreal": {"steps": 150, "warm_up": 30}}
THEN |= {"bico": BICO_THEN, "bico_isolated": BICO_THEN}


# Job seconds of runs of the Toybox on two cores, jobs side by side: of 2026-11-27 and 28, on a machine of changing
# speed, and of 2026-11-25 without AMX, with the settings of then.
@needs_zoo
@pytest.mark.parametrize(
    ("machine", "settings", "steps", "learning", "generation", "scores", "within"),
    [
        ("cpu_amx", {}, 15, 790, 318, 67, 0.3),
        ("cpu_amx", {}, 15, 902, 353, 81, 0.1),
        ("cpu_amx", {}, 15, 924, 397, 73, 0.3),
        ("cpu_amx", {}, 10, 976, 314, 128, 0.3),
        ("cpu_amx", {}, 10, 803, 257, 76, 0.3),
        ("cpu_amx", {}, 10, 908, 289, 84, 0.1),
        ("cpu_amx", {}, 10, 1223, 426, 122, 0.3),
        ("cpu_avx2", THEN, 15, 2365, 1060, 162, 0.1),
    ],
)
def test_the_toyboxs_runs_were_estimated(toybox, machine, settings, steps, learning, generation, scores, within):
    """Within a tenth in the middle of those the costs are a mean of, and within 30 % however fast the machine was."""
    rows = list(toybox["tables"]["table1"])
    methods = toybox["methods"] | {row: toybox["methods"][row] | changes for row, changes in settings.items()}
    sampling = toybox["sampling"] | {"steps": steps}
    reckoned = Work(load(toybox | {"methods": methods, "sampling": sampling}), costs_of(machine))
    total = sum(hours(reckoned, "learn", method=row, part="0") for row in rows if row not in ("base", "copy"))
    total += sum(hours(reckoned, rule, method=row) for rule in ("generate", "score") for row in rows)
    assert 3600 * total == pytest.approx(learning + generation + scores, rel=within)


# --- jobs -----------------------------------------------------------------------------------------------------------


def test_jobs_are_those_of_a_dry_run():
    output = (
        "Job stats:\ntotal 3\n\n[Tue Nov 24 13:33:52 2026]\nrule learn:\n    input: a\n    output: b\n"
        "    jobid: 6\n    reason: Missing output files: b\n    wildcards: method=bico, part=0\n"
        "[Tue Nov 24 13:33:52 2026]\nlocalrule table:\n    output: c\n    jobid: 1\n"
        "[Tue Nov 24 13:33:52 2026]\nlocalrule all:\n    input: c\n    jobid: 0\n"
    )
    assert list(jobs_in(output)) == [RuleJob("learn", {"method": "bico", "part": "0"}), RuleJob("table", {})]


@pytest.mark.usefixtures("at_root")
def test_the_command_tells_jobs_and_runs_nothing(small, tmp_path, capsys):
    if not ZOO.exists():
        pytest.skip("needs the Toybox's models")
    small["models"] |= {"wan": str(ZOO / "wan"), "clip": str(ZOO / "clip")}
    assert main(["estimate", "--config", write(small, tmp_path)]) == 0
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert lines["learn"][0] == "6" and lines["generate"][0] == "8" and lines["table"][0] == "1"
    assert float(lines["total"][2]) > float(lines["learn"][2]) > 0
    assert not Path(small["results"]).exists()


@pytest.mark.usefixtures("at_root")
def test_targets_and_machines_that_do_not_exist(small, tmp_path, capsys):
    config = write(small, tmp_path)
    assert main(["estimate", "--config", config, "--machine", "abacus"]) == 2
    error = capsys.readouterr().err
    assert "--machine abacus: expected one of cpu_amx, cpu_avx2, h100" in error and error.count("\n") == 1


@pytest.fixture
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


# --- measuring ------------------------------------------------------------------------------------------------------


def test_a_handful_is_one_case_with_few_steps(toybox, tmp_path):
    config = handful(load(toybox), tmp_path, 2)
    assert len(config.cases) == 1 and len(config.sources) == 2 and config.seeds == [0, 1]
    kinds = sorted(source.kind for source in config.sources.values())
    assert kinds == ["image", "video"]  # all methods take it
    assert config.methods.keys() >= {"base", "bico", "dualreal"} and "bico_isolated" not in config.methods
    assert load(json.loads(json.dumps(config.model_dump(mode="json")))) == config


def test_a_handful_has_one_photograph_of_a_source(small, tmp_path):
    files = {key: [str(tmp_path / f"{key}{number}.png") for number in range(60)] for key in ("files", "masks")}
    small["sources"]["cat_beach"] = {"kind": "image", **files}
    del small["cases"]["cat_bouncing_in_the_city"]["truth"]
    few, more = (handful(load(small), tmp_path, size) for size in (1, 5))
    assert load(json.loads(json.dumps(few.model_dump(mode="json")))) == few
    assert captions(more) - captions(few) == 2 * 40


@needs_zoo
def test_speeds_come_from_the_metrics_of_steps(toybox, tmp_path):
    config = handful(load(toybox), tmp_path, 1)
    image, video = sorted(config.sources, key=lambda source: config.sources[source].kind)
    stages = {image: [("global", 2.0)], video: [("frames_all", 4.0), ("clip_all", 8.0)]}
    for source, timed in stages.items():
        lines = [
            {"stage": stage, "seconds": 30.0 if step == 0 else seconds} for stage, seconds in timed for step in range(5)
        ]
        path = tmp_path / "learned" / "bico" / source / "0.metrics.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found, alone = speeds(config, {"bico": 0.5})
    _, still = ModelSizes(config).tflop(config.media, 1)
    _, clip = ModelSizes(config).tflop(config.media, 9)
    batch = config.methods["bico"].batch_size
    assert found["bico"].still == pytest.approx(batch * still / (0.5 * 3))
    assert found["bico"].clip == pytest.approx(batch * clip / (0.5 * 8))
    assert alone == {"bico": pytest.approx(0.5 * 5 * (2 + 4 + 8))}


def test_disk_is_what_is_learned_and_generated(small):
    small["models"] |= {"wan": str(tiny.folder()), "clip": "not/fetched/yet"}
    of, config = work(small), load(small)
    sizes = [config.methods["bico"].parameters(source.kind, of.sizes.backbone) for source in config.sources.values()]
    learn = RuleJob("learn", {"method": "bico", "part": "0"})
    assert of.of(learn)["gb"] == pytest.approx(4e-9 * sum(sizes))
    assert work(small | {"learned_dtype": "bfloat16"}).of(learn)["gb"] == pytest.approx(2e-9 * sum(sizes))
    assert of.of(RuleJob("generate", {"method": "bico"}))["gb"] == pytest.approx(1e-9 * 0.3 * 9 * 48 * 48 * 3)


def test_numbers_of_a_lora_are_those_of_its_layers(small):
    small["models"] |= {"wan": str(tiny.folder()), "clip": "not/fetched/yet"}
    config = load(small)
    settings = config.methods["db_lora"]
    with db_lora.adapter(tiny.backbone().transformer, settings.video_rank, seed=0) as learned:
        numbers = sum(each.numel() for each in learned.values())
    assert settings.parameters("video", ModelSizes(config).backbone) == numbers


def test_decoding_counts_by_the_frame_and_trials_by_the_clip(small):
    small["models"] |= {"wan": str(tiny.folder()), "clip": "not/fetched/yet"}
    fast = {"sampling": 1e12, "decode": 2.0}
    frames = 3600 * hours(work(small, **fast), "generate", method="base") / 2
    assert frames == pytest.approx(small["media"]["num_frames"])  # of one case and seed
    clips = 3600 * hours(work(small, **fast), "unbound") / 2 / frames
    config = load(small)
    assert clips == pytest.approx(sum(1 + len(list(trials(config, source))) for source in config.sources))


def test_previews_count_as_clips_of_their_sources(small):
    small["models"] |= {"wan": str(tiny.folder()), "clip": "not/fetched/yet"}
    few, decoding = {"global_steps": 5, "all_steps": 5}, {"decode": 2.0, "sampling": 1e12}

    def seconds(**training: int) -> float:
        small["methods"] = {"bico": {"stages": few, "clip_stages": few, **training}}
        small["tables"] = small["curves"] = {}
        return 3600 * hours(work(small, **decoding), "learn", method="bico", part="0")

    frames = small["media"]["num_frames"]  # 10 steps on the image, 20 on the video
    assert seconds(preview_every=4) - seconds() == pytest.approx(2 * (2 * 1 + 5 * frames))
    decoding["start"] = 100.0  # each opens the models for itself
    assert seconds(preview_every=4) - seconds() == pytest.approx(2 * (2 * 1 + 5 * frames) + 7 * 100)


def test_previews_of_a_case_are_clips_whatever_its_first_source_is(small):
    small["models"] |= {"wan": str(tiny.folder()), "clip": "not/fetched/yet"}
    small["tables"] = small["curves"] = {}

    def seconds(**training: int) -> float:
        small["methods"] = {"dualreal": {"steps": 10, "warm_up": 1, **training}}
        return 3600 * hours(work(small, decode=2.0, sampling=1e12), "learn", method="dualreal", part="0")

    assert seconds(preview_every=5) - seconds() == pytest.approx(2 * 2 * small["media"]["num_frames"])


def test_every_photograph_is_looked_at_and_encoded_and_has_a_caption(small, tmp_path):
    small["models"] |= {"wan": str(tiny.folder()), "clip": "not/fetched/yet"}
    small["concepts"] |= {"captions": 4}

    def seconds(count: int) -> dict[str, float]:
        files = {"files": [str(tmp_path / f"{number}.jpg") for number in range(count)]}
        small["sources"]["cat_beach"] = {"kind": "image", **(files if count > 1 else {"file": str(tmp_path / "0.jpg")})}
        small["cases"]["cat_bouncing_in_the_city"].pop("truth", None)
        return {rule: 3600 * hours(work(small), rule) for rule in ("concepts", "encode", "appearance")}

    one, three, six = seconds(1), seconds(3), seconds(6)
    assert {rule: three[rule] - one[rule] for rule in one} == pytest.approx(dict.fromkeys(one, 2))
    more = {"concepts": 5 + 2, "encode": 5 + 2, "appearance": 5}  # of six photographs two captions are more than four
    assert {rule: six[rule] - one[rule] for rule in one} == pytest.approx(more)


@needs_zoo
def test_applications_controls_and_maps_count_by_their_clips_and_passes(toybox):
    config, of = load(toybox), work(toybox)

    def seconds(rule: str) -> float:
        return 3600 * hours(of, rule)

    rows = ["base", *applying_rows(config)]
    made = len(config.applications) * len(config.seeds) * sum(of.of_one(row)["a composition"] for row in rows)
    assert seconds("applications") == pytest.approx(made)
    assert of.of(RuleJob("applications", {}))["gb"] > 0
    forward = {
        name: of.sizes.tflop(config.media, 9 if entry.kind == "video" else 1)[0]
        for name, entry in config.sources.items()
    }
    looked_at = learned_items(config, next(row for row, number in config.table("table2").items() if number == 7))
    assert len(MID_SIGMAS) == MAP_LEVELS
    maps = 3 * MAP_CAPTIONS * MAP_LEVELS * sum(forward[name] for name in looked_at)
    assert seconds("absorption") == pytest.approx(maps)
    networks = 1 + 2 * len(config.learning_seeds)  # the frozen backbone, and each training of both rows
    losses = networks * (1 + NEW_SENTENCES) * NOISES * sum(forward[name] for name in measured_sources(config))
    assert seconds("control_diversification") == pytest.approx(losses)
    assert seconds("published") == pytest.approx(PUBLISHED * config.media.num_frames)
    assert seconds("doses") == pytest.approx(TESTED * len(dosed_clips(config)) * config.media.num_frames)


def test_less_than_an_hour_is_told_in_minutes(small, monkeypatch):
    small["models"] |= {"wan": "not/fetched/yet", "clip": "not/fetched/yet"}
    monkeypatch.setattr(
        "bico.profiling.estimate.planned", lambda config, targets: [RuleJob("table", {}), RuleJob("table", {})]
    )
    text = estimate(load(small), UNIT.model_copy(update={"other": 90.0}), [])
    assert "cpu_minutes" in text and text.split("total")[1].split()[:3] == ["2", "0.00", "3.00"]


def test_starts_count_and_encoded_captions_take_their_dtypes_room(small):
    small["models"] |= {"wan": str(tiny.folder()), "clip": "not/fetched/yet"}
    assert hours(work(small, start=3600), "score", method="base") == 1 + hours(work(small), "score", method="base")
    wide, narrow = (work(small | {"dtype": dtype}).of(RuleJob("encode", {}))["gb"] for dtype in ("float32", "bfloat16"))
    assert wide == 2 * narrow
    config, text_dim = load(small), work(small).sizes.transformer["text_dim"]
    assert narrow == pytest.approx(1e-9 * captions(config) * min(60, config.text_slots) * text_dim * 2)


# --- cards, and estimates for people --------------------------------------------------------------------------------


def test_cards_that_were_not_measured_are_reckoned_by_their_peak_and_say_so():
    measured, reckoned = costs_of("h100"), costs_of("a100")
    assert reckoned.training["bico"].clip == pytest.approx(measured.training["bico"].clip * 312 / 989)
    assert reckoned.sampling == pytest.approx(measured.sampling * 312 / 989)
    assert reckoned.decode == pytest.approx(measured.decode * 989 / 312) and reckoned.start == measured.start
    assert reckoned.origin.startswith("A100: not measured. Estimated from the figures of h100")
    assert all(costs_of(card).gpu for card in ("h200", "rtx4090"))


@needs_zoo
def test_a_photo_and_a_clip_of_ones_own_cost_what_their_trainings_cost(toybox):
    of, config = work(toybox), load(toybox)
    kinds = [config.sources[source].kind for source in learned_items(config, "bico")]
    one = of.of_one("bico")
    assert one.keys() == {"a composition", "a photo", "a clip"} and one["a clip"] > one["a photo"] > 0
    trained = kinds.count("image") * one["a photo"] + kinds.count("video") * one["a clip"]
    assert 3600 * hours(of, "learn", method="bico", part="0") == pytest.approx(trained)
    made = len(config.cases) * len(config.seeds) * one["a composition"]
    assert 3600 * hours(of, "generate", method="bico") == pytest.approx(made)
    assert of.of_one("dualreal").keys() == {"a composition", "a case"} and of.of_one("base").keys() == {"a composition"}


def test_the_estimate_has_rows_own_media_parts_and_time_limits(small, monkeypatch):
    small["models"] |= {"wan": "not/fetched/yet", "clip": "not/fetched/yet"}
    jobs = [
        RuleJob("learn", {"method": "bico", "part": "0"}),
        RuleJob("generate", {"method": "bico"}),
        RuleJob("plot", {}),
    ]
    monkeypatch.setattr("bico.profiling.estimate.planned", lambda config, targets: jobs)
    costs = {"gpu": True, "start": 3600.0, "training": {"bico": Speed(still=1e9, clip=1e9)}}
    text = estimate(load(small), UNIT.model_copy(update=costs | {"sampling": 1e9}), [])
    assert "By row, hours:" in text and "(shared by all rows)" in text and "a composition" in text
    assert "with parts=1 in the config, the longest job of learn takes 1 h 0 min" in text
    assert "\n  learn: attempt * 150\n" in text  # twice an hour and a little, in steps of half an hour
    assert "a training at work keeps one of up to" in text
    longer = UNIT.model_copy(update=costs | {"start": 10 * 3600.0, "sampling": 1e9})
    assert "\n  learn: min(attempt, 1) * 1230\n" in estimate(load(small), longer, [])  # no more than a day
    monkeypatch.setattr("bico.profiling.estimate.LONGEST", 0.1)
    assert "with parts=2" in estimate(load(small), UNIT.model_copy(update=costs), [])  # a training is never divided


def test_expected_seconds_are_those_of_a_gpu_at_full_size(small):
    small["models"] |= {"wan": str(tiny.folder()), "clip": "not/fetched/yet"}
    jobs = [RuleJob("generate", {"method": "base"}), RuleJob("all", {})]
    (toy, _), alone = expected_seconds(load(small), jobs), costs_of("cpu_amx")
    assert alone.start < toy < costs_of("h100").start
    small["models"] |= {"wan": "not/fetched/yet"}
    small |= {"text_slots": 512, "media": {"height": 480, "width": 832, "num_frames": 81, "fps": 15}}
    full, target = expected_seconds(load(small), jobs)
    assert full > costs_of("h100").start and target == costs_of("h100").other


def test_an_estimate_opens_no_library_of_models():
    code = "import sys, bico.profiling.estimate; print({'torch', 'diffusers', 'transformers'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
