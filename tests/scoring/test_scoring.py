"""The scores, against computations by hand on tiny models, and the truth scores on rendered clips."""

import json
from dataclasses import replace

import numpy as np
import open_clip
import pandas as pd
import pytest
import timm
import torch
import torch.nn.functional as F
import toy
from conftest import ROOT
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

from bico.analysis.concept_parts import measure_parts
from bico.config.scores import TRUTH_SCORES
from bico.core.files import write_json
from bico.core.fingerprints import file_digest
from bico.media.reading import read_media, read_source
from bico.media.writing import write_clip, write_image
from bico.models.clip import Clip
from bico.models.vlm import Vlm
from bico.scoring import scoring, truth, unasked
from bico.scoring.clip_judge import ClipJudge, notice_unread_prompts
from bico.scoring.dino_judge import DinoJudge, open_dino_judge
from bico.scoring.motion import dynamic_degree, motion_fidelity, tracks
from bico.scoring.pooling import harmonic_mean
from bico.scoring.protocol import Measured, ScoredClip, ScoredSource
from bico.toybox.probe import Probe, Reading
from bico.toybox.render import render, trajectory
from bico.toybox.scenes import composition
from bico.toybox.world import Look
from bico.zoo import clip as zoo_clip
from bico.zoo import dino as zoo_dino

PROBE = ROOT / "data/toybox/zoo/probe"
needs_probe = pytest.mark.skipif(not PROBE.exists(), reason="needs data/toybox/zoo/probe")
TEXTS = ["a cat bouncing at the beach", "a robot spinning in the city"]


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    """Folders of an untrained CLIP and an untrained DINO, in the layout of those that ship."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("judges")
    zoo_clip.write_folder(folder / "clip", *zoo_clip.build(TEXTS))
    zoo_dino.write_folder(folder / "dino", zoo_dino.build())
    return folder


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)


@pytest.fixture
def config(judges, tmp_path):
    models = {"wan": "none", "vlm": "none", "clip": str(judges / "clip"), "dino": str(judges / "dino")}
    return toy.config(tmp_path, models=models, scoring={"dino_crop": None})


def shown(frames, prompt, inputs):
    """A clip whose sources have these frames."""
    sources = {
        name: ScoredSource(frames=media, kind="image" if len(media) == 1 else "video") for name, media in inputs.items()
    }
    return ScoredClip(frames=frames, prompt=prompt, bind=dict.fromkeys(inputs, ()), sources=sources, fps=8)


# --- CLIP-T and DINO-I ----------------------------------------------------------------------------------------------


@torch.no_grad()
def test_clip_t_is_the_mean_of_unit_frame_features_dotted_with_the_prompt(judges, config, frames):
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{judges / 'clip'}")
    model.eval()
    text = F.normalize(model.encode_text(open_clip.get_tokenizer(f"local-dir:{judges / 'clip'}")([TEXTS[0]])), dim=1)
    images = torch.stack([preprocess(Image.fromarray(frame)) for frame in frames])
    expected = 100 * (F.normalize(model.encode_image(images), dim=1) @ text[0])
    measured = toy.opened(config, "clip_t").measure(shown(frames, TEXTS[0], {}))
    assert measured.values["clip_t"] == pytest.approx(expected.mean().item(), rel=1e-4)
    assert measured.frames["clip_t"] == pytest.approx(expected.tolist(), rel=1e-4)


def test_renormalised_pooling_gives_cosines_of_clips(config, frames):
    found = {}
    for pooling in ("mean", "renormalised"):
        pooled = config.model_copy(update={"scoring": config.scoring.model_copy(update={"pooling": pooling})})
        found[pooling] = toy.opened(pooled, "dino_i").measure(shown(frames, "", {"itself": frames})).values["dino_i"]
    assert found["renormalised"] == pytest.approx(100, abs=1e-3) and found["mean"] < 100


@torch.no_grad()
def test_dino_i_is_the_harmonic_mean_over_pooled_inputs(judges, config, frames):
    model = timm.create_model(f"local-dir:{judges / 'dino'}", pretrained=True).eval()
    preprocess = create_transform(**resolve_model_data_config(model), is_training=False)

    def pooled(clip):
        features = F.normalize(model(torch.stack([preprocess(Image.fromarray(frame)) for frame in clip])), dim=1)
        return features.mean(dim=0)

    inputs = {"picture": frames[:1], "clip": frames[1:]}
    a, b = (float(pooled(frames) @ pooled(media)) for media in inputs.values())
    measured = toy.opened(config, "dino_i").measure(shown(frames, "", inputs))
    assert measured.values["dino_i"] == pytest.approx(100 * 2 * a * b / (a + b), rel=1e-4)
    assert np.mean(measured.frames["dino_i"]["picture"]) == pytest.approx(100 * a, rel=1e-4)


def test_dino_sees_as_much_of_a_frame_as_the_config_says(judges):
    size = DinoJudge(judges / "dino").model.pretrained_cfg["input_size"][-1]
    resize, crop, *_ = DinoJudge(judges / "dino", crop=0.875).preprocess.transforms
    assert (resize.size, tuple(crop.size)) == (int(size / 0.875), (size, size))


def test_an_input_that_is_not_there_at_all_leaves_no_dino_i():
    assert harmonic_mean([0.5, 1.0]) == pytest.approx(2 / 3)
    assert harmonic_mean([0.9, -0.1]) == 0.0
    assert harmonic_mean([0.9, 0.0]) == 0.0


@pytest.mark.parametrize("text", ["", "A cat", "~!@#$%^&*()_+ {}|:<>?", "zebra " * 40])
def test_the_small_vocabulary_reads_any_text(judges, text):
    tokens = open_clip.get_tokenizer(f"local-dir:{judges / 'clip'}")([text])
    assert tokens.shape == (1, zoo_clip.CONTEXT)
    assert (tokens == 2).sum() == 1  # one end of text, from which the feature is taken, however long the text


def test_a_prompt_that_clip_does_not_read_to_its_end_is_a_notice(judges, tmp_path, caplog):
    clip_t = ClipJudge(judges / "clip")
    longest = "zebra zebra zebra zebra zebra"
    while (clip_t.tokenizer([f"{longest} a"], 2 * zoo_clip.CONTEXT) != 0).sum() <= zoo_clip.CONTEXT:
        longest += " a"
    assert torch.equal(clip_t.text_feature(f"{longest} a b"), clip_t.text_feature(f"{longest} a c"))
    assert not torch.equal(clip_t.text_feature(longest), clip_t.text_feature(longest[:-1] + "b"))
    folders = {"wan": "none", "vlm": "none", "clip": str(judges / "clip"), "dino": str(judges / "dino"), "probe": None}
    config = toy.config(tmp_path, models=folders)
    toy.write_media(config)
    case = next(iter(config.cases))
    long = config.cases[case].model_copy(update={"prompt": f"{longest} a"})
    config = config.model_copy(update={"cases": {**config.cases, case: long}})
    toy.write_clips(config, "base", {name: name for name in config.cases})
    scoring.score(config, "base", "cpu")
    (notice,) = [record.getMessage() for record in caplog.records if "notice" in record.getMessage()]
    notice_unread_prompts(config)  # as `bico check` does
    assert caplog.records[-1].getMessage() == notice
    assert notice.startswith(f"notice: cases.{case}: the prompt is longer than the {zoo_clip.CONTEXT} tokens")


def test_a_chinese_prompt_is_a_notice_for_openais_clip(judges, tmp_path, caplog):
    (tmp_path / "openai").symlink_to(judges / "clip")
    folders = {"wan": "none", "vlm": "none", "clip": str(tmp_path / "openai"), "dino": "none", "probe": None}
    cases = {
        "cat": {"prompt": "一只猫", "bind": {"red_cat": ["猫"]}},
        "car": {"prompt": "a cat", "bind": {"red_cat": ["cat"]}},
    }
    notice_unread_prompts(toy.config(tmp_path, models=folders, cases=cases))
    (notice,) = [record.getMessage() for record in caplog.records]
    assert notice.startswith("notice: cases.cat: OpenAI's CLIP learned from English texts")


# --- rows -----------------------------------------------------------------------------------------------------------


def test_clips_without_a_score_stay_rows(judges, tmp_path):
    models = {"wan": "none", "vlm": "none", "clip": str(judges / "clip"), "dino": str(judges / "dino")}
    config = toy.config(tmp_path, models=models)
    toy.write_media(config)
    toy.write_clips(config, "base", {name: name for name in config.cases}, {("cat_bounces", 1): "failed"})
    config.paths.clip("base", "robot_spins", 0).unlink()
    scoring.score(config, "base", "cpu")
    rows = pd.read_csv(tmp_path / "scores/base.csv").set_index(["case", "seed"])
    assert list(rows.columns) == ["status", *toy.SCORES]
    assert len(rows) == 6
    assert rows.loc["cat_bounces", 1].status == "failed"
    assert rows.loc["robot_spins", 0].status == "missing"
    assert rows.clip_t.isna().tolist() == [False, True, True, False, False, False]
    by_frame = json.loads((tmp_path / "scores/base.frames.json").read_text())
    assert len(by_frame) == 4
    assert len(by_frame[0]["clip_t"]) == config.media.num_frames
    assert np.mean(by_frame[0]["clip_t"]) == pytest.approx(rows.iloc[0].clip_t, abs=1e-3)
    assert set(by_frame[0]["dino_i"]) == {"red_cat", "bouncing_car"}


def test_motion_is_that_of_the_bound_videos(judges, tmp_path):
    models = {"wan": "none", "vlm": "none", "clip": str(judges / "clip"), "dino": str(judges / "dino")}
    cases = toy.config(tmp_path).model_dump(mode="json")["cases"]
    cases["cat_rests"] = {
        "prompt": "a cat at the beach",
        "bind": {"red_cat": ["cat", "beach"]},
        "truth": {"subject": "red_cat", "scene": "red_cat"},
    }
    config = toy.config(tmp_path, models=models, cases=cases)
    toy.write_media(config)
    toy.write_clips(config, "bico", {name: name for name in config.cases})
    toy.write_clips(config, "base", dict.fromkeys(config.cases, "cat_rests"))
    rows = {}
    for method in ("bico", "base"):
        scoring.score(config, method, "cpu")
        rows[method] = pd.read_csv(tmp_path / f"scores/{method}.csv", index_col="case")
    moving, still = (rows[method].drop("cat_rests") for method in ("bico", "base"))
    assert (moving.motion_fidelity > 60).all() and (still.motion_fidelity == 0).all()
    assert (moving.dynamic_degree > 20).all() and (still.dynamic_degree < 1).all()
    assert rows["bico"].motion_fidelity["cat_rests"].isna().all()  # no video is bound
    paths = config.media_path("bouncing_car"), config.paths.clip("bico", "cat_bounces", 0)
    source, clip = (read_media(path, **dict(config.media)) for path in paths)
    fidelity, speed = motion_fidelity(tracks(clip), tracks(source)), dynamic_degree(clip, config.media.fps)
    expected = {"motion_fidelity": 100 * fidelity, "dynamic_degree": 100 * speed}
    assert moving.loc["cat_bounces", list(expected)].iloc[0].to_dict() == pytest.approx(expected, abs=1e-4)


def test_dino_i_of_several_photographs_is_the_mean_over_all(judges, tmp_path):
    models = {"wan": "none", "vlm": "none", "clip": str(judges / "clip"), "dino": str(judges / "dino")}
    photos = [tmp_path / f"{name}.png" for name in ("a", "b", "c")]
    for number, photo in enumerate(photos):
        draw = np.random.default_rng(number)
        write_image(photo, draw.integers(0, 256, (60, 48, 3), dtype=np.uint8))
    case = {"prompt": "a cat", "bind": {"cat": ["cat"]}}
    found = {}
    for name, files in (("all", photos), *((photo.stem, [photo]) for photo in photos)):
        source = {"kind": "image", "files": [str(file) for file in files]}
        config = toy.config(tmp_path / name, models=models, sources={"cat": source}, cases={"one": case})
        write_clip(config.paths.clip("base", "one", 0), render(toy.truth_scene(toy.config(tmp_path), "cat_bounces")), 8)
        config = config.model_copy(update={"seeds": [0]})
        digest = file_digest(config.paths.clip("base", "one", 0))
        entry = {"case": "one", "seed": 0, "clip": None, "status": "ok", "error": None, "sha256": digest}
        write_json(config.paths.all_clips("base"), [entry])
        scoring.score(config, "base", "cpu")
        found[name] = pd.read_csv(config.paths.scores("base")).dino_i[0]
    assert found["all"] == pytest.approx(np.mean([found[photo.stem] for photo in photos]), abs=1e-3)
    assert len({round(value, 3) for value in found.values()}) == 4


# --- truth ----------------------------------------------------------------------------------------------------------


def test_hues_lie_on_a_circle():
    assert truth.hue_match(0.95, 0.05) == pytest.approx(0.8)
    assert truth.hue_match(0.1, 0.6) == pytest.approx(0.0)


def test_movement_is_the_same_wherever_and_however_large_it_starts(tmp_path):
    config = toy.config(tmp_path)
    path = trajectory(toy.truth_scene(config, "cat_bounces"))[0]
    moved = path + np.float32([0.1, -0.05, 0, 0.4])
    assert truth.movement(moved) == pytest.approx(truth.movement(path), abs=1e-6)
    still = np.repeat(path[:1], 9, axis=0)
    assert truth.movement(still) == pytest.approx(np.zeros((9, 5)))
    turning = still + np.linspace(0, 2 * np.pi, 9)[:, None] * [0, 0, 0, 1]
    assert np.linalg.norm(truth.movement(turning)[4]) == pytest.approx(2 * path[0, 2])  # half a turn: across the rim


def test_only_words_of_the_prompt_or_of_sources_are_asked_for(tmp_path):
    scene = toy.truth_scene(toy.config(tmp_path), "cat_bounces")
    assert truth.asked_words("a cat", scene) == {"subject": "cat"}
    assert truth.asked_words("a cat jumps", scene, frozenset({"motion"})) == {"subject": "cat", "motion": "bouncing"}


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    config = toy.config(tmp_path_factory.mktemp("truth"))
    toy.write_media(config)
    probe = Probe.open(PROBE)
    truths, readings = truth.read_truths(config, probe)
    ends = truth.calibration(truths, readings, truth.read_spoiled(config, probe, truths))
    return config, probe, truths, readings, ends


def _mean_scores(pairs, ends):
    return pd.DataFrame([truth.truth_scores(reading, wanted, ends) for reading, wanted in pairs]).mean()


@needs_probe
def test_the_truth_itself_scores_100_and_other_truths_0(benchmark):
    _, _, truths, readings, ends = benchmark
    right = _mean_scores([(readings[case], truths[case]) for case in truths], ends)
    apart = [(a, b) for a in truths for b in truths if truths[a].sources.isdisjoint(truths[b].sources)]
    assert len(apart) == 4
    wrong = _mean_scores([(readings[b], truths[a]) for a, b in apart], ends)
    assert right.to_numpy() == pytest.approx(100)
    assert wrong[["truth_concept", "truth_prompt", "truth_motion"]].to_numpy() == pytest.approx(0, abs=1e-9)
    for question, end in ends.items():
        assert end["ceiling"] - end["floor"] > 0.15, question


@needs_probe
def test_zero_is_another_clip_also_where_all_cases_share_a_source(benchmark):
    """Without other scenes the floor was 0, and a plain prompt gained 45 points of concept."""
    config, probe, truths, readings, _ = benchmark
    alone = config.model_copy(update={"cases": {"cat_bounces": config.cases["cat_bounces"]}})
    assert config.has_unrelated_cases and not alone.has_unrelated_cases
    of_case, of_clip = ({"cat_bounces": each["cat_bounces"]} for each in (truths, readings))
    unrelated = truth.read_unrelated(alone, probe)
    found = truth.calibration(of_case, of_clip, truth.read_spoiled(alone, probe, of_case), unrelated)
    assert found["concept"]["floor"] == pytest.approx(0.443, abs=0.05)  # that of the shipped benchmark
    assert found["concept"]["ceiling"] > 0.9


def test_words_of_a_prompt_are_found_in_capitals_too(tmp_path):
    config = toy.config(tmp_path)
    prompt = "A Cat bouncing in the City"
    scene = composition(config, prompt, {"subject": "red_cat", "motion": "bouncing_car"})
    assert scene.words()["scene"] == "city"
    assert truth.asked_words(prompt, scene)["scene"] == "city"
    leaks = unasked.of_source(toy.source_scene(config, "old_robot"), scene, prompt)
    assert "scene" not in leaks and leaks["subject"] == {"robot"}


@needs_probe
def test_a_still_picture_of_the_truth_moves_nowhere(benchmark):
    config, probe, truths, _, ends = benchmark
    paths = {case: config.paths.truth(case) for case in truths}
    stills = {case: read_media(path, **dict(config.media))[:1] for case, path in paths.items()}
    scores = _mean_scores([(probe.read(stills[case][None])[0], truths[case]) for case in truths], ends)
    assert scores.truth_motion < 30
    assert scores.truth_concept > 70


@needs_probe
def test_an_ill_fitting_part_lowers_its_own_question(benchmark):
    config, probe, truths, _, ends = benchmark
    wanted = truths["cat_bounces"]
    elsewhere = toy.world.compose(
        subject=toy.source_scene(config, "red_cat"),
        scene=toy.source_scene(config, "big_fish"),
        motion=toy.source_scene(config, "bouncing_car"),
    )
    shown = {"truth": wanted.scene, "elsewhere": elsewhere}
    scores = {
        name: truth.truth_scores(probe.read(render(scene)[None])[0], wanted, ends) for name, scene in shown.items()
    }
    assert scores["elsewhere"]["truth_concept"] < scores["truth"]["truth_concept"] - 20
    assert scores["elsewhere"]["truth_prompt"] < scores["truth"]["truth_prompt"] - 20
    assert scores["elsewhere"]["truth_motion"] > 60


@needs_probe
def test_calibration_and_scores_through_files(benchmark, judges, tmp_path):
    folders = {"wan": "none", "vlm": "none", "clip": str(judges / "clip"), "dino": str(judges / "dino")}
    config = toy.config(tmp_path, models=folders | {"probe": str(PROBE)})
    toy.write_media(config)
    names = list(config.cases)
    toy.write_clips(config, "base", dict(zip(names, [*names[1:], names[0]], strict=True)))
    toy.write_clips(config, "bico", {name: name for name in names})
    ends = scoring.calibrate(config, "cpu")
    assert json.loads((tmp_path / "scores/calibration.json").read_text()) == ends
    tables = {}
    for method in ("base", "bico"):
        scoring.score(config, method, "cpu")
        tables[method] = pd.read_csv(tmp_path / f"scores/{method}.csv")
    truth = pd.read_csv(tmp_path / "scores/truth.csv")
    assert truth[list(TRUTH_SCORES)].mean().to_numpy() == pytest.approx(100, abs=0.1)
    pd.testing.assert_frame_equal(truth, tables["bico"], atol=5)  # whose clips are the truths, written once more
    assert list(tables["bico"].columns[-len(TRUTH_SCORES) :]) == list(TRUTH_SCORES)
    assert tables["bico"].truth_overall.mean() == pytest.approx(100, abs=0.1)
    assert tables["base"].truth_overall.mean() < 40
    before = (tmp_path / "scores/bico.csv").read_bytes()
    scoring.score(config, "bico", "cpu")
    assert (tmp_path / "scores/bico.csv").read_bytes() == before


def test_clips_of_another_length_or_size_can_be_read(tmp_path):
    probe = Probe().eval()
    clip = render(toy.truth_scene(toy.config(tmp_path), "cat_bounces"))
    write_clip(tmp_path / "long.mp4", np.repeat(clip, 2, axis=0), 8)
    long = read_media(tmp_path / "long.mp4", height=96, width=96, num_frames=17, fps=8)
    assert probe.read(long[None])[0].trajectory.shape == (9, 4)
    assert probe.read(clip[None, :1])[0].trajectory.shape == (9, 4)


@needs_probe
def test_parts_tell_which_look_is_lost(benchmark):
    config, _, truths, readings, _ = benchmark
    config = toy.config(
        config.results, models=dict.fromkeys(("wan", "vlm", "clip", "dino"), "none") | {"probe": str(PROBE)}
    )
    toy.write_clips(config, "base", {name: name for name in truths})
    toy.write_clips(config, "copy", dict.fromkeys(truths, "cat_bounces"), {("robot_spins", 0): "failed"})
    match = measure_parts(config, ["base", "copy"]).set_index(["role", "part", "method"]).match
    right, perfect, wrong = (match.xs(method, level="method") for method in ("truth", "base", "copy"))
    assert perfect.to_numpy() == pytest.approx(right.to_numpy(), abs=0.02)
    assert wrong["subject", "word"] < right["subject", "word"] - 0.2
    assert wrong["scene", "sky"] < right["scene", "sky"] - 0.2
    raw = [truth.concept(readings[case], truths[case]) for case in truths]
    assert right.groupby("role").mean().mean() == pytest.approx(np.mean(raw), abs=1e-6)  # the parts make up the whole
    assert pd.read_csv(config.results / "concept_parts.csv").cases.tolist() == [len(truths)] * len(match)


def test_dino_sees_what_scoring_dino_crop_says(judges, tmp_path):
    models = {"wan": "none", "vlm": "none", "clip": str(judges / "clip"), "dino": str(judges / "dino")}
    config = toy.config(tmp_path, models=models, scoring={"dino_crop": 0.5})
    resize, crop, *_ = open_dino_judge(config, "cpu").preprocess.transforms
    assert resize.size == 2 * crop.size[0]


def test_a_subject_of_another_size_that_moves_alike_has_no_path_error(tmp_path):
    scene = toy.truth_scene(toy.config(tmp_path), "robot_spins")
    wanted = truth.Truth(scene, frozenset({"motion"}), {}, frozenset())
    larger = trajectory(scene)[0] * np.float32([1, 1, 1.5, 1])
    assert truth.path_error(Reading({}, {}, larger, {}), wanted) == pytest.approx(np.zeros(9), abs=1e-6)


def test_looks_count_by_their_word_and_by_how_strong_they_are(tmp_path):
    scene = replace(
        toy.truth_scene(toy.config(tmp_path), "cat_bounces"), style=Look("sepia", 0.9), light=Look("fog", 0.4)
    )
    wanted = truth.Truth(scene, frozenset({"style", "light"}), {}, frozenset())
    words = {"style": {"sepia": 0.7}, "light": {"fog": 0.6}}
    reading = Reading(words, {"style_amount": 0.8, "light_amount": 0.9}, trajectory(scene)[0], {})
    parts = truth.concept_parts(reading, wanted)
    assert parts["style"] == pytest.approx({"word": 0.7, "amount": 0.9})
    assert parts["light"] == pytest.approx({"word": 0.6, "amount": 0.5})


@needs_probe
def test_a_question_whose_truth_cannot_be_told_from_others_has_no_scale(benchmark):
    _, _, truths, readings, _ = benchmark
    ends = {question: {"floor": 0.5, "ceiling": 0.51} for question in (*truth.QUESTIONS, truth.CLEAN)}
    scores = truth.truth_scores(readings["cat_bounces"], truths["cat_bounces"], ends)
    assert np.isnan(list(scores.values())).all()


def test_embeddings_of_images_are_those_of_the_image_tower(judges):
    clip, frames = Clip(judges / "clip"), np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)
    pixels = torch.stack([clip.preprocess(Image.fromarray(frame)) for frame in frames])
    with torch.no_grad():
        assert torch.equal(clip.image_embeddings(frames), clip.model.encode_image(pixels))  # not of unit length


def test_a_clip_is_scored_by_the_prompt_the_phrases_and_the_sources_of_its_own_case(tmp_path, monkeypatch):
    config = toy.config(tmp_path)
    toy.write_media(config)
    scorer, seen = scoring.Scorer(config, {}, "cpu"), []
    monkeypatch.setattr(scorer.judges, "score", lambda clip, where: seen.append(clip) or Measured({}))
    for case_id, case in config.cases.items():
        scorer.score_frames(case_id, np.zeros((9, 48, 48, 3), np.uint8), "")
        clip = seen.pop()
        assert (clip.prompt, clip.bind, clip.fps) == (case.prompt, case.bind, config.media.fps)
        assert list(clip.sources) == list(case.bind)
        for name, source in clip.sources.items():
            assert source.kind == config.sources[name].kind
            own = read_source(config.media_paths(name), config.media)
            assert np.array_equal(source.frames, own)


def test_judges_are_the_models_of_their_own_entries(judges, tmp_path, monkeypatch):
    models = {"wan": "none", "vlm": "writer", "clip": str(judges / "clip"), "dino": "none"}
    config, opened = toy.config(tmp_path, models=models | {"appearance": "none", "vqa": "judge"}), []
    monkeypatch.setattr(Vlm, "__init__", lambda self, folder, device: opened.append(folder))
    monkeypatch.setattr(ClipJudge, "__init__", lambda self, folder, device: opened.append(folder))
    for score in ("vqa", "clip_segments"):
        toy.opened(config, score)
    assert opened == [config.models.vqa, config.models.clip]
