"""Plots of made-up tables and curves: every bar and line is there, and drawing again gives the same bytes."""

import json

import numpy as np
import pandas as pd
import pytest
import toy
from matplotlib.figure import Figure

from bico.config.scores import TRUTH_SCORES
from bico.core.errors import InputError
from bico.core.files import write_text
from bico.media.writing import write_image
from bico.report import plots

ROWS = pd.DataFrame(
    {"method": ["base", "bico_tds", "bico"], "configuration": ["", "+ TDS", "full model"]}
    | {"label": ["Plain prompt", "BiCo, TDS", "BiCo"], "cases": 28, "scored_cases": 28, "clips": 56, "missing": 0}
    | {f"{name}{end}": [10.0 + shift, 30.0 + shift, 50.0 + shift] for name in (*TRUTH_SCORES, *toy.SCORES)
       for end, shift in (("", 0), ("_low", -12), ("_high", 8))}
    | {f"paper_{name}": [np.nan, 3.0, 5.0] for name in ("concept", "prompt", "motion", "overall")}
)  # fmt: skip


def widths(container) -> list[float]:
    return [bar.get_width() for bar in container]


def chosen(*names):
    return {name: TRUTH_SCORES[name] for name in names}


def test_a_bar_for_each_row_with_its_interval_and_the_papers_rating_beside():
    figure = plots.scores_figure(ROWS, TRUTH_SCORES, "", {})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["concept", "prompt", "motion", "overall", "clean"]
    for axes in figure.axes[:4]:  # people were asked nothing of the last
        ours, paper = (axes.containers[number] for number in (1, 2))  # 0: the intervals
        assert widths(ours) == [10, 30, 50]
        assert widths(paper)[1:] == [50, 100] and np.isnan(widths(paper)[0])
        (ends,) = axes.containers[0].lines[2][0].get_segments()[:1]
        assert ends[:, 0].tolist() == [-2, 18]
        (upper,) = axes.child_axes
        assert upper._functions[0](np.array([0, 50, 100])).tolist() == [1, 3, 5]
    assert widths(figure.axes[4].containers[1]) == [10, 30, 50] and len(figure.axes[4].containers) == 2
    (legend,) = figure.legends
    assert ["paper" in text.get_text() for text in legend.get_texts()] == [False, True]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["Plain prompt", "BiCo, TDS", "BiCo"]


def test_without_a_truth_there_is_nothing_of_the_papers(tmp_path):
    figure = plots.scores_figure(ROWS, plots.drawn_columns(toy.config(tmp_path)), "", {})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["CLIP-T", "DINO-I", "motion fidelity"]
    assert [len(axes.containers) for axes in figure.axes] == [2, 2, 2]


def test_a_row_without_a_score_is_no_zero():
    rows = ROWS.copy()
    rows.loc[0, [f"truth_motion{end}" for end in ("", "_low", "_high")]] = np.nan
    concept, motion = plots.scores_figure(rows, chosen("truth_concept", "truth_motion"), "", {}).axes[:2]
    assert [text.get_text() for text in motion.texts] == ["no score"] and not concept.texts


def test_a_row_of_fewer_cases_is_hollow_with_the_reference_on_its_cases_beside():
    rows = ROWS.assign(scored_cases=[28, 28, 7])
    (axes,) = plots.scores_figure(
        rows, chosen("truth_clean"), "", {"bico": {"label": "BiCo", "truth_clean": 42.0}}
    ).axes
    whole, fewer = (container for container in axes.containers if hasattr(container, "patches"))
    assert widths(whole) == [10, 30] and widths(fewer) == [50]
    assert fewer[0].get_facecolor() == (1, 1, 1, 1) and fewer[0].get_linestyle() == "--"
    (diamond,) = (line for line in axes.lines if line.get_marker() == "D")
    assert diamond.get_xydata().tolist() == [[42, 2]]


def test_a_plot_says_what_it_covers_and_puts_rows_of_fewer_cases_last(drawn, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "save_pair", lambda figure, path: figures.append(figure))
    write_text(
        drawn.paths.table("table2"),
        ROWS.drop(columns="label").assign(cases=3, scored_cases=[3, 1, 3]).to_csv(index=False),
    )
    plots.plot(drawn, "table2")
    labels = [label.get_text() for label in figures[0].axes[0].get_yticklabels()]
    assert labels == ["Plain prompt", "BiCo\nfull model", "BiCo, tds\n+ TDS\n1 of 3 cases"]
    assert figures[0].get_suptitle() == "toy: 3 cases, 2 seeds, 1 training of each row that learns"


def test_a_plot_says_how_many_clips_a_row_lacks(drawn, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "save_pair", lambda figure, path: figures.append(figure))
    table = ROWS.drop(columns="label").assign(cases=3, scored_cases=3, clips=6, missing=[2, 0, 0])
    write_text(drawn.paths.table("table2"), table.to_csv(index=False))
    plots.plot(drawn, "table2")
    labels = [label.get_text() for label in figures[0].axes[0].get_yticklabels()]
    assert labels == ["Plain prompt\n2 of 6 clips missing", "BiCo, tds\n+ TDS", "BiCo\nfull model"]


def test_without_a_case_with_an_exact_rendering_other_scores_are_drawn(drawn):
    cases = {name: case.model_copy(update={"truth": None}) for name, case in drawn.cases.items()}
    own = drawn.model_copy(update={"cases": cases})
    assert list(plots.drawn_columns(drawn)) == list(TRUTH_SCORES)
    assert list(plots.drawn_columns(own)) == [name for name in toy.SCORES if name != "dynamic_degree"]


@pytest.fixture
def drawn(tmp_path):
    """A benchmark with a table and the curves of two images and a video."""
    models = dict.fromkeys(("wan", "vlm", "clip", "dino", "probe"), "none")
    methods = {"base": {}, "bico": {}, "bico_tds": {"method": "bico", "absorption": {"tokens": 0}}}
    config = toy.config(
        tmp_path, models=models, methods=methods, tables={"table2": {"base": None, "bico_tds": 5, "bico": 7}}
    )
    write_text(tmp_path / "table2.csv", ROWS.drop(columns="label").to_csv(index=False))
    for row in methods:
        clips = [{"case": case, "seed": seed, "status": "ok"} for case in config.cases for seed in config.seeds]
        scores = pd.DataFrame(clips).assign(**dict.fromkeys((*toy.SCORES, *TRUTH_SCORES), 50.0))
        write_text(config.paths.scores(row), scores.to_csv(index=False))
    for source, stages in {"red_cat": "ga", "old_robot": "ga", "spinning_cat": "gaga"}.items():
        names = [f"{name}{number // 2}" for number, name in enumerate(stages) for _ in range(20)]
        lines = [
            {"step": step, "stage": name, "loss": 1 + step % 2, "gamma_global": step / 100, "gamma_blocks": [0.0, 1.0]}
            | ({"eval_loss": 2 - step / 100} if step % 10 == 9 else {})
            | ({"gate_mean": step / 200, "gate_largest": step / 100} if name == "g1" else {})
            for step, name in enumerate(names)
        ]
        write_text(tmp_path / f"learned/bico/{source}/0.metrics.jsonl", "\n".join(map(json.dumps, lines)) + "\n")
    return config


def training_figure(config):
    """The figure that `training_plot` saves."""
    found = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plots, "save_pair", lambda figure, path: found.append(figure))
        plots.training_plot(config, "bico")
    return found[0]


def test_plots_are_files_of_the_same_bytes_again(drawn):
    paths = [*plots.plot(drawn, "table2"), *plots.training_plot(drawn, "bico")]
    names = [path.relative_to(drawn.results / "figures").as_posix() for path in paths]
    assert names == ["table2.png", "table2.pdf", "training/bico.png", "training/bico.pdf"]
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in (*plots.plot(drawn, "table2"), *plots.training_plot(drawn, "bico"))] == before


def test_trainings_that_were_evaluated_at_other_steps_are_drawn_together(drawn):
    path = drawn.results / "learned/bico/red_cat/0.metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [line | {"eval_loss": line.get("eval_loss") if line["step"] % 20 == 19 else None} for line in lines]
    write_text(path, "\n".join(map(json.dumps, kept)) + "\n")
    evaluated = {line.get_label(): line.get_xydata() for line in training_figure(drawn).axes[2].lines}
    of_all = np.array([[step, 2 - step / 100] for step in (9, 19, 29, 39)])
    assert len(evaluated) == 3
    for name, expected in {"red cat": of_all[1::2], "old robot": of_all, "mean": of_all}.items():
        np.testing.assert_allclose(evaluated[name], expected)


def test_a_curve_has_a_point_for_each_value_with_its_interval():
    points = pd.DataFrame({"method": ["bico"] * 3, "value": [1.0, 0.25, 0.5]})
    for end, shift in (("", 0), ("_low", -5), ("_high", 5)):
        points[f"truth_overall{end}"] = [60 + shift, 40 + shift, 50 + shift]
    figure = plots.curves_figure(points, "length", chosen("truth_overall"), "")
    (axes,) = figure.axes
    assert axes.lines[0].get_xydata().tolist() == [[0.25, 40], [0.5, 50], [1, 60]]
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == 35 and band[:, 1].max() == 65
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.25", "0.5", "1"]


def test_losses_are_averaged_within_a_stage_only():
    lines = pd.DataFrame({"stage": ["a"] * 40 + ["b"] * 40, "loss": [1.0] * 40 + [3.0] * 40})
    assert plots.smoothed(lines).tolist() == lines["loss"].tolist()
    noisy = lines.assign(loss=lines["loss"] + np.tile([-0.5, 0.5], 40))
    assert plots.smoothed(noisy).std() < noisy["loss"].std()


def test_the_mean_is_that_of_all_trainings():
    axes = Figure().subplots()
    plots._lines(axes, {"cat": [pd.Series([1.0, 3.0])], "fish": [pd.Series([3.0, 7.0])]})
    assert axes.lines[-1].get_ydata().tolist() == [2, 5]


def test_curves_of_images_and_videos_stand_apart(drawn):
    curves = {
        kind: {
            name: [pd.read_json(drawn.results / f"learned/bico/{name}/0.metrics.jsonl", lines=True)] for name in names
        }
        for kind, names in {"image": ["red_cat", "old_robot"], "video": ["spinning_cat"]}.items()
    }
    figure = plots.training_figure("BiCo", curves, {}, "")
    titles = [axes.get_title(loc="left") for axes in figure.axes[:2]]
    assert titles == ["BiCo: 2 trainings on images", "BiCo: 1 training on videos"]
    # Trainings and their mean: all losses, those on noise that never changes. Then two blocks and the global binder.
    assert [len(axes.lines) for axes in figure.axes[:6]] == [3, 2, 3, 2, 3, 3]
    unopened, opened = figure.axes[6:8]
    assert [text.get_text() for text in unopened.texts] == ["no temporal branch"] and not unopened.lines
    mean, largest = (line.get_ydata() for line in opened.lines)
    assert np.isnan(mean[:40]).all() and mean[40] == 0.2 and largest[59] == 0.59
    assert figure.axes[2].lines[-1].get_xdata().tolist() == [9, 19, 29, 39]
    assert [text.get_text() for text in figure.axes[1].texts] == ["g0", "a0", "g1", "a1"]
    legends = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes[6:8]]
    assert legends == [["red_cat", "old_robot", "mean"], ["spinning_cat", "mean"]]


def test_no_two_sources_of_a_training_figure_look_alike():
    axes = Figure().subplots()
    plots._lines(axes, {f"source {number}": [pd.Series([1.0, 2.0])] for number in range(20)})
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines[:-1]}) == 20


def test_a_source_that_was_learned_twice_is_one_line_of_the_legend():
    axes = Figure().subplots()
    plots._lines(axes, {"cat": [pd.Series([1.0, 3.0]), pd.Series([3.0, 5.0])]})
    assert axes.get_legend_handles_labels()[1] == ["cat", "mean"] and axes.lines[2].get_ydata().tolist() == [2, 4]


def test_previews_stand_below_with_their_steps(drawn):
    for item, size in {"red_cat": (48, 48, 3), "old_robot": (48, 48, 3), "spinning_cat": (48, 240, 3)}.items():
        for step in range(10, 70, 10):
            write_image(drawn.paths.previews("bico", item, 0) / f"{step:06}.png", np.zeros(size, np.uint8))
    figure = training_figure(drawn)
    image, video = (axes for axes in figure.axes if axes.get_title(loc="left").startswith("previews"))
    assert [each.get_title(loc="left") for each in (image, video)] == [
        "previews of old robot",
        "previews of spinning cat",
    ]
    for axes in (image, video):
        assert [text.get_text() for text in axes.texts] == ["step 10", "step 30", "step 40", "step 60"]
    assert len({tuple(picture.get_extent()[:2]) for picture in image.images}) == 4  # side by side
    assert len({tuple(picture.get_extent()[2:]) for picture in video.images}) == 4  # below each other


def test_a_row_without_curves_says_so(drawn):
    with pytest.raises(InputError, match="learned/base: no training curves"):
        plots.training_plot(drawn, "base")
