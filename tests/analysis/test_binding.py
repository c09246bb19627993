from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import toy
from conftest import ROOT, ZOO, needs_zoo

from bico.analysis import binding
from bico.analysis.binding import Measured, collect, compared, exact, measurements, moved, psnr, trials
from bico.config.benchmark import Case
from bico.config.reading import load
from bico.config.settings import Media
from bico.core.files import write_json
from bico.methods.bico import compose as bico_compose
from bico.methods.bico import learn as bico_learn
from bico.methods.shared.prompts import project
from bico.models.binder import HierarchicalBinder
from bico.models.wan.backbone import Backbone
from bico.models.wan.sampling import generate
from bico.report.statistics import interval
from bico.sources.encoding import encode_source
from bico.toybox.captions import caption, key_words, sentence
from bico.toybox.probe import Probe
from bico.toybox.render import render
from bico.toybox.scenes import scene_of
from bico.toybox.world import compose


def test_every_source_of_the_toybox_is_tried_in_all_its_roles():
    config = load(ROOT / "config" / "toybox.yaml")
    for source in config.sources:
        own, planned = scene_of(config.sources[source]).words(), list(trials(config, source))
        assert list(dict.fromkeys(trial.role for trial in planned)) == list(own)
        for trial in planned:
            assert trial.case.bind == {source: [own[trial.role]]}  # a `Case` has its words verbatim
            others = {role: word for role, word in trial.words.items() if role != trial.role}
            assert all(word != own.get(role) for role, word in others.items())


def test_a_sentence_says_every_word_once():
    words = {"style": "sepia", "subject": "cat", "motion": "rising", "scene": "desert", "light": "fog"}
    assert sentence(words) == "a sepia picture of a cat rising in the desert in fog"


def test_psnr_of_known_errors():
    black = np.zeros((1, 2, 2, 3), np.uint8)
    assert psnr(black, black + 255) == pytest.approx(0)
    assert psnr(black, black + np.uint8(51)) == pytest.approx(20 * np.log10(5))


@needs_zoo
def test_a_leak_shows_as_a_fall_of_the_other_role(tmp_path):
    """Clips as a perfect method, as the plain prompt and as a method that brings the whole source would make them."""
    config, probe = toy.config(tmp_path), Probe.open(ZOO / "probe")
    source = scene_of(config.sources["red_cat"])
    trial = next(trial for trial in trials(config, "red_cat") if trial.role == "subject")
    stranger = replace(trial.target.actors[0], hue_a=(source.actors[0].hue_a + 0.5) % 1, pattern="spotted")
    unbound = replace(trial.target, actors=(stranger,))
    leaking = compose(subject=trial.target, scene=source, motion=trial.target)
    perfect, base, leak = (
        trial.values(reading) for reading in probe.read(np.stack(list(map(render, (trial.target, unbound, leaking)))))
    )
    assert perfect["subject"] > base["subject"] + 0.1 and leak["subject"] > base["subject"] + 0.1
    assert perfect["scene"] > 0.9 and leak["scene"] < 0.1
    assert perfect["motion"] > 0.8


def test_a_scene_that_is_moved_keeps_all_its_looks():
    config = load(ROOT / "config" / "toybox.yaml")
    scene = scene_of(config.sources["fish_bouncing"])
    elsewhere = moved(scene, np.random.default_rng(0))
    assert elsewhere.actors[0].x != scene.actors[0].x and elsewhere.backdrop.layout != scene.backdrop.layout
    back = replace(elsewhere.actors[0], x=scene.actors[0].x, y=scene.actors[0].y)
    assert replace(elsewhere, actors=(back,), backdrop=scene.backdrop) == scene


@needs_zoo
def test_exact_renderings_show_every_role_and_reconstruct_but_for_places(tmp_path):
    config, probe = toy.config(tmp_path), Probe.open(ZOO / "probe")
    shown = exact(config, probe, "red_cat")
    planned = [trial for trial in trials(config, "red_cat") for _ in config.seeds]
    own = [values[trial.role] for trial, values in zip(planned, shown.values, strict=True)]
    assert np.mean(own) > 0.9
    assert all(10 < value < 25 for value in shown.psnr) and len(shown.psnr) == len(config.seeds)


@pytest.fixture(scope="module")
def photograph(request, tmp_path_factory):
    """A photograph of the tuning set, learned by a row with the shipped backbone and the Toybox's settings: how well it
    is reconstructed unbound and bound, and what the trials of a role show unbound and bound."""
    workdir = tmp_path_factory.mktemp("photograph")
    config = load(ROOT / "config" / "toybox.yaml").model_copy(update={"split": "tuning"}).chosen()
    source, settings, still = "mushroom_space", config.methods[request.param], {"num_frames": 1}
    scene, rng = scene_of(config.sources[source]), np.random.default_rng(0)
    own = render(scene, 1)
    backbone = Backbone.open(ROOT / config.models.wan, text_slots=config.text_slots)
    captions = [caption(scene, rng, motion=False) for _ in range(40)]
    encoded = encode_source(backbone, own, key_words(scene) | {"kind": "image", "captions": captions})
    learned = bico_learn.learn(backbone, encoded, settings, shift=config.sampling.shift, seed=0, workdir=workdir)
    binders = {source: HierarchicalBinder.from_tensors(learned, backbone.num_blocks)}
    negative, probe = project(backbone, ""), Probe.open(ZOO / "probe")

    def unbound_and_bound(case: Case, media: Media, seeds: list[int]) -> list[np.ndarray]:
        contexts = project(backbone, case.prompt), bico_compose.bind(backbone, case, binders, settings.strength)
        return [generate(backbone, each, negative, seeds, config.sampling, media) for each in contexts]

    def reconstruction() -> list[float]:
        words = scene.words()
        whole = Case(prompt=sentence(words), bind={source: list(words.values())})
        takes = unbound_and_bound(whole, config.media.model_copy(update=still), [0, 1, 2, 3])
        return [float(np.mean([psnr(clip, own) for clip in clips])) for clips in takes]

    def gains(role: str) -> pd.DataFrame:
        planned = [trial for trial in trials(config, source) if trial.role == role]
        readings = [[probe.read(clips) for clips in unbound_and_bound(t.case, config.media, [0, 1])] for t in planned]
        before, after = (
            pd.DataFrame([t.values(each) for t, both in zip(planned, readings, strict=True) for each in both[side]])
            for side in (0, 1)
        )
        return after - before

    return reconstruction, gains


@needs_zoo
@pytest.mark.parametrize("photograph", ["bico", "bico_isolated"], indirect=True)
def test_a_held_out_photograph_is_reconstructed(photograph):
    unbound, bound = photograph[0]()
    assert bound > unbound + 2


@needs_zoo
@pytest.mark.parametrize(
    ("photograph", "role"),
    [
        ("bico", "scene"),
        ("bico", "subject"),
        ("bico_isolated", "scene"),
        ("bico_isolated", "subject"),
    ],
    indirect=["photograph"],
)
def test_a_role_of_a_photograph_binds_alone_and_does_not_leak(photograph, role):
    gains = photograph[1](role)
    mean, low, _ = interval(gains[role].to_numpy(), resamples=2000, seed=0)
    assert low > 0
    assert gains.mean().drop(role).min() > -mean / 5


def test_a_source_is_compared_take_by_take(tmp_path):
    config = toy.config(tmp_path)
    planned = list(trials(config, "red_cat"))
    takes = [trial for trial in planned for _ in config.seeds]
    before = [dict.fromkeys(trial.words, 0.5) for trial in takes]
    after = [
        values | {trial.role: 0.5 + 0.1 * (place % 2)}
        for place, (trial, values) in enumerate(zip(takes, before, strict=True))
    ]
    rows = list(compared(config, "bico", "red_cat", Measured([20.0, 21.0], before), Measured([24.0, 26.0], after)))
    assert (rows[0]["measured"], rows[0]["gain"]) == ("psnr", 4.5)
    assert np.isnan([rows[0]["gain_low"], rows[0]["gain_high"]]).all()  # of two clips
    assert {(row["bound"], row["measured"]) for row in rows} == {*measurements(config, "red_cat")}
    alone = {(row["bound"], row["measured"]): row for row in rows[1:]}
    assert alone.keys() == {(role, other) for role in ("subject", "scene") for other in ("subject", "scene", "motion")}
    assert alone["subject", "subject"]["gain"] == pytest.approx(0.05) and alone["subject", "scene"]["gain"] == 0
    assert alone["scene", "motion"]["clips"] == 4 * len(config.seeds)


def test_the_table_holds_every_method_and_the_means_over_sources(tmp_path):
    config = toy.config(tmp_path, methods={"base": {}, "bico": {}, "db_lora": {}})
    (tmp_path / "binding").mkdir()
    for method, mean in {"truth": 0.6, "bico": 0.3, "db_lora": 0.1}.items():
        rows = [
            {"method": method, "source": source, "kind": "image", "bound": bound, "measured": role,
             "clips": 8, "unbound": 0.3, "bound_value": 0.3 + gain, "gain": gain, "gain_low": 0.0, "gain_high": 1.0}
            for source, gain in zip(config.sources, mean + np.linspace(-0.1, 0.1, 5), strict=True)
            for bound, role in measurements(config, source)
        ]  # fmt: skip
        pd.DataFrame(rows).to_csv(tmp_path / "binding" / f"{method}.csv", index=False)
    collect(config)
    table = pd.read_csv(tmp_path / "binding.csv")
    assert set(table["method"]) == {"truth", "bico", "db_lora"} and table["method"].iloc[0] == "truth"
    mean = table[(table["method"] == "bico") & (table["source"] == "all")].iloc[0]
    assert mean["gain"] == pytest.approx(0.3) and mean["clips"] == 5 * 8
    assert 0.2 <= mean["gain_low"] <= mean["gain_high"] <= 0.4


def test_every_role_is_tried_in_different_contexts(tmp_path):
    for source in ("red_cat", "bouncing_car"):
        targets = [trial.target for trial in trials(toy.config(tmp_path), source)]
        assert all(targets.count(target) == 1 for target in targets)


def test_every_clip_is_read_by_the_trial_that_it_was_made_for(tmp_path, monkeypatch):
    config = toy.config(tmp_path)
    toy.write_media(config)
    planned = list(trials(config, "red_cat"))

    def compose(backbone, jobs, settings, sampling, media):
        for job in jobs:
            yield job, np.full((media.num_frames, 48, 48, 3), int(job.case_id), np.uint8)

    monkeypatch.setattr("bico.methods.base.compose.compose", compose)
    monkeypatch.setattr(binding.Trial, "values", lambda self, shown: {"own": float(planned[shown] == self)})
    probe = SimpleNamespace(read=lambda clips: clips[:, 0, 0, 0, 0].tolist())
    measured = binding._measured(config, None, None, probe, "red_cat")
    assert measured.values == [{"own": 1.0}] * len(planned) * len(config.seeds)


def test_a_row_is_measured_with_what_it_learned_and_gains_on_the_unbound(tmp_path, monkeypatch):
    config, asked = toy.config(tmp_path, models=dict.fromkeys(("wan", "vlm", "clip", "dino", "probe"), "none")), set()
    toy.write_media(config)

    def clips(config, row, backbone, source, cases, media):
        asked.add((row, config.sources[source].kind, media.num_frames, len(cases) > 1))
        return [np.full((media.num_frames, 48, 48, 3), 128, np.uint8)] * len(cases) * len(config.seeds)

    monkeypatch.setattr(binding, "_clips", clips)
    monkeypatch.setattr(binding.Trial, "values", lambda self, shown: {self.role: 0.75})
    monkeypatch.setattr(Probe, "open", lambda folder: SimpleNamespace(read=list))
    plain = {}
    for source in config.sources:
        values = [{trial.role: 0.5} for trial in trials(config, source) for _ in config.seeds]
        plain[source] = {"psnr": [-100.0] * len(config.seeds), "values": values}
    write_json(tmp_path / "binding" / "unbound.json", plain)
    table = binding.binding(config, "bico", backbone=None)
    of_trials = {("bico", kind, 9, True) for kind in ("image", "video")}
    assert asked == of_trials | {("bico", "image", 1, False), ("bico", "video", 9, False)}
    gains = table.set_index("measured")["gain"]
    assert (gains.drop("psnr") == 0.25).all() and (gains["psnr"] > 0).all()
