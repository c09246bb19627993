"""The command line: one command per step, errors of one line, and a composition without any config."""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, needs_zoo
from files import moving_square, write
from PIL import Image

from bico.cli.main import main
from bico.config.reading import load
from bico.core.errors import InputError
from bico.core.files import write_text
from bico.media.reading import read_media
from bico.media.writing import write_clip, write_image
from bico.pipeline.own_files import compose, composition, swapped_case
from bico.toybox.render import render
from bico.toybox.world import sample_scene


def test_check_says_what_there_is(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: False)  # as in a process of its own
    assert main(["check", "--config", write(small, tmp_path)]) == 0
    printed = capsys.readouterr()
    assert f"2 sources, 1 cases, {len(small['methods'])} rows, all fine" in printed.out and printed.err == ""
    case = small["cases"]["cat_bouncing_in_the_city"]
    del case["bind"]["fish_bouncing"], case["truth"]
    assert main(["check", "--config", write(small, tmp_path)]) == 0
    assert capsys.readouterr().err == "notice: sources.fish_bouncing: no case binds it\n"


def test_what_a_command_took_of_a_gpu_is_the_last_line_of_its_log(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.max_memory_reserved", lambda: 18 * 2**30)
    assert main(["check", "--config", write(small, tmp_path)]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "GPU memory: 18.0 GiB at most"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["render", "cat"], "error: no source 'cat' in the config: expected one of cat_beach, fish_bouncing"),
        (["generate", "bica"], "error: no row 'bica' in the config: expected one of base, copy"),
        (["table", "table4"], "error: no table 'table4' in the config: expected one of table1, table2, table3"),
    ],
)
def test_names_that_the_config_does_not_have(small, tmp_path, capsys, arguments, expected):
    command, *names = arguments
    assert main([command, "--config", write(small, tmp_path), *names]) == 2
    error = capsys.readouterr().err
    assert error.startswith(expected) and error.count("\n") == 1


def test_sources_and_truth_are_rendered_as_anybodys_media(small, tmp_path):
    config = write(small, tmp_path)
    for arguments in (["render", "cat_beach"], ["render", "fish_bouncing"], ["truth"]):
        assert main([arguments[0], "--config", config, *arguments[1:]]) == 0
    results, size = Path(small["results"]), small["media"]
    assert len(read_media(results / "media" / "cat_beach.png", **size)) == 1
    clip = read_media(results / "media" / "fish_bouncing.mp4", **size)
    truth = read_media(results / "truth" / "cat_bouncing_in_the_city.mp4", **size)
    assert len(clip) == len(truth) == 9
    assert (results / "truth" / "cat_bouncing_in_the_city.json").exists()
    first = (results / "media" / "fish_bouncing.mp4").read_bytes()
    main(["render", "--config", config, "fish_bouncing"])
    assert (results / "media" / "fish_bouncing.mp4").read_bytes() == first


def test_binding_files_makes_a_benchmark_of_one_case(small, tmp_path):
    Image.new("RGB", (64, 48), "orange").save(tmp_path / "cat.jpg")
    write_clip(tmp_path / "clip.mp4", moving_square(9), fps=8)
    bind = [(tmp_path / "cat.jpg", "cat"), (tmp_path / "clip.mp4", "sliding"), (tmp_path / "cat.jpg", "orange")]
    small["concepts"]["seed"] = 5
    small |= {"seeds": [0, 1], "learning_seeds": [2, 0], "training_shift": 2.0}
    like = load(small)
    config = composition(like, "an orange cat sliding", bind, {}, results=tmp_path / "work", steps=7, seed=3)
    assert (config.concepts, config.media, config.text_slots) == (like.concepts, like.media, like.text_slots)
    assert config.learning_shift == like.learning_shift == 2.0
    assert config.sampling == like.sampling.model_copy(update={"steps": 7}) and config.learning_seeds == [2]
    ((_, case),) = config.cases.items()
    assert list(case.bind.values()) == [["cat", "orange"], ["sliding"]]
    assert [source.kind for source in config.sources.values()] == ["image", "video"]
    assert config.sampling.steps == 7 and config.seeds == [3] and config.models.probe is None
    assert config.methods["bico"] == load(small).methods["bico"]


def test_a_folder_that_is_bound_is_one_source_of_several_photographs(small, tmp_path):
    (tmp_path / "my cat").mkdir()
    for name in ("10.jpg", "9.jpg"):
        Image.new("RGB", (64, 48), "orange").save(tmp_path / "my cat" / name)
    where = {"results": tmp_path / "work", "steps": None, "seed": 0}
    key_words = {"spatial": [(tmp_path / "my cat", "cat")]}
    config = composition(load(small), "a cat", [(tmp_path / "my cat", "cat")], key_words, **where)
    assert [path.name for path in config.media_paths("my_cat")] == ["9.jpg", "10.jpg"]
    assert config.sources["my_cat"].kind == "image" and config.sources["my_cat"].concepts.spatial == ["cat"]


def test_one_s_own_clips_keep_their_speed_whatever_the_benchmark_s_do(small, tmp_path):
    small["media"]["read"] = "first"  # as config/paper.yaml
    Image.new("RGB", (64, 48), "orange").save(tmp_path / "cat.jpg")
    bind = [(tmp_path / "cat.jpg", "cat")]
    config = composition(load(small), "a cat", bind, {}, results=tmp_path / "work", steps=None, seed=0)
    assert config.media.read == "time"


def test_a_long_name_of_a_file_is_cut(small, tmp_path):
    path = tmp_path / f"{'x' * 120}.jpg"
    Image.new("RGB", (64, 48), "orange").save(path)
    config = composition(load(small), "a cat", [(path, "cat")], {}, results=tmp_path / "work", steps=None, seed=0)
    assert [source.file for source in config.sources.values()] == [path]


def test_a_full_stop_of_an_edit_is_bound_to_nothing():
    assert swapped_case("A photo of a cat.", [("cat", "robot")]) == ("A photo of a robot.", ["A photo of a"])


def test_key_words_of_files_are_taken_instead_of_the_vlm_s(small, tmp_path):
    (tmp_path / "other").mkdir()
    for name in ("cat.jpg", "other/cat.png"):
        Image.new("RGB", (64, 48), "orange").save(tmp_path / name)
    first, second = tmp_path / "cat.jpg", tmp_path / "other/cat.png"
    bind = [(first, "cat"), (second, "beach")]
    where = {"results": tmp_path / "work", "steps": None, "seed": 0}
    key_words = {"spatial": [(second, "beach"), (second, "sand")], "temporal": []}
    config = composition(load(small), "a cat at the beach", bind, key_words, **where)
    assert {name: source.file for name, source in config.sources.items()} == {"cat": first, "cat_2": second}
    assert config.sources["cat"].concepts is None and config.sources["cat_2"].concepts.spatial == ["beach", "sand"]
    write_clip(tmp_path / "ball.mp4", moving_square(9), fps=8)
    bind_clip, moves = (
        [(tmp_path / "ball.mp4", "cat")],
        {"spatial": [], "temporal": [(tmp_path / "ball.mp4", "bouncing")]},
    )
    concepts = composition(load(small), "a cat", bind_clip, moves, **where).sources["ball"].concepts
    assert (concepts.spatial, concepts.temporal) == (None, ["bouncing"])
    with pytest.raises(InputError, match=r"--temporal: .*cat\.jpg is an image: expected a video; --spatial names"):
        composition(load(small), "a cat", bind[:1], {"temporal": [(first, "cat")]}, **where)
    with pytest.raises(InputError, match=r"--temporal: dog.jpg is bound to no word: expected one of"):
        composition(load(small), "a cat", bind[:1], {"temporal": [(Path("dog.jpg"), "running")]}, **where)


def test_a_name_that_an_ascii_terminal_cannot_show_ends_no_command(small, tmp_path, monkeypatch):
    """The clip was written, and then came a traceback."""
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr("bico.pipeline.own_files.compose", lambda *arguments, **options: None)
    arguments = ["compose", "--config", write(small, tmp_path), "--prompt", "a cat", "--bind", "cat.jpg=cat"]
    assert main([*arguments, "--out", "café.mp4"]) == 0
    terminal.flush()
    assert terminal.buffer.getvalue() == b"caf\\xe9.mp4\n"


def test_trainings_are_kept_when_the_clip_cannot_be_made(small, tmp_path, monkeypatch, caplog):
    """Without --workdir they were in a temporary folder that went with them."""
    Image.new("RGB", (64, 48), "orange").save(tmp_path / "cat.jpg")
    monkeypatch.setattr("bico.pipeline.own_files.notice_coverage", lambda *arguments: None)
    for step in ("concepts", "encode"):
        monkeypatch.setattr(f"bico.pipeline.{step}.{step}", lambda config: None)

    def learn(config, row, part):
        write_text(config.paths.artifact(row, "cat", 0), "hours of work")

    def generate(config, row):
        raise InputError("the device failed")

    monkeypatch.setattr("bico.pipeline.learn.learn", learn)
    monkeypatch.setattr("bico.pipeline.generate.generate", generate)
    with pytest.raises(InputError, match="the device failed"):
        compose(load(small), "a cat", [(tmp_path / "cat.jpg", "cat")], tmp_path / "out.mp4")
    kept = Path(caplog.messages[-1].rsplit(" ", 1)[1])
    assert "continue with --workdir" in caplog.messages[-1]
    assert next(kept.rglob("*.safetensors")).read_text() == "hours of work"
    shutil.rmtree(kept)


def test_a_benchmark_without_bico_cannot_compose(small, tmp_path, capsys):
    small |= {"methods": {"base": {}}, "tables": {"table1": {"base": None}}, "curves": {}}
    Image.new("RGB", (64, 48), "orange").save(tmp_path / "cat.jpg")
    arguments = ["compose", "--config", write(small, tmp_path), "--prompt", "a cat", "--out", str(tmp_path / "out.mp4")]
    assert main([*arguments, "--bind", f"{tmp_path}/cat.jpg=cat"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --config: none of its 'methods' is bico: expected") and error.count("\n") == 1


def test_composing_with_a_word_that_is_not_in_the_prompt(small, tmp_path, capsys):
    Image.new("RGB", (64, 48), "orange").save(tmp_path / "cat.jpg")
    arguments = ["compose", "--config", write(small, tmp_path), "--prompt", "a dog", "--out", str(tmp_path / "out.mp4")]
    assert main([*arguments, "--bind", f"{tmp_path}/cat.jpg=cat"]) == 2
    error = capsys.readouterr().err
    assert "'cat'" in error and "is not in the prompt 'a dog'" in error and error.count("\n") == 1


@pytest.fixture
def quick(toybox, tmp_path, monkeypatch) -> str:
    """The default config with hardly any training, and a picture of one's own, `cat.jpg`."""
    monkeypatch.chdir(ROOT)
    toybox["concepts"] |= {"captions": 4, "frame_captions": 2}
    toybox["compile"] = False  # takes longer than all else
    few = {"global_steps": 1, "all_steps": 2}
    toybox["methods"]["bico"] |= {"stages": few, "clip_stages": few}
    Image.new("RGB", (640, 480), "orange").save(tmp_path / "cat.jpg")
    return write(toybox, tmp_path)


@needs_zoo
@pytest.mark.parametrize(
    ("arguments", "prompt", "bound"),
    [
        (["decompose", "--keep", "cat", "--prompt", "a cat in space"], "a cat in space", ["cat"]),
        (
            ["edit", "--swap", "cat=robot", "--prompt", "a cat at the beach"],
            "a robot at the beach",
            ["a", "at the beach"],
        ),
    ],
)
def test_one_file_is_decomposed_or_edited(quick, tmp_path, arguments, prompt, bound):
    out, workdir = tmp_path / "out.mp4", tmp_path / "work"
    files = [str(tmp_path / "cat.jpg"), "--out", str(out), "--workdir", str(workdir)]
    assert main([*arguments, "--config", quick, "--steps", "2", *files]) == 0
    made_from = json.loads((workdir / "clips" / "bico" / "composition" / "0.mp4.made_from.json").read_text())
    assert made_from["prompt"] == prompt and made_from["bind"] == {"cat": bound}
    assert out.read_bytes() == (workdir / "clips" / "bico" / "composition" / "0.mp4").read_bytes()


def test_the_results_of_a_benchmark_are_no_workdir(quick, tmp_path, capsys):
    """The only case of a composition would have taken the place of all cases of row bico."""
    write_text(tmp_path / "results" / "config.yaml", "name: mine\n")
    files = [str(tmp_path / "cat.jpg"), "--out", str(tmp_path / "out.mp4"), "--workdir", str(tmp_path / "results")]
    assert main(["decompose", "--prompt", "a cat", "--keep", "cat", "--config", quick, *files]) == 2
    assert "a benchmark has its results there" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["config.yaml"]


@needs_zoo
def test_a_folder_of_photographs_is_decomposed_and_what_is_in_one_alone_is_no_key_word(quick, tmp_path):
    photos, workdir = tmp_path / "photos", tmp_path / "work"
    for number, place in enumerate(("beach", "space")):
        scene = sample_scene(np.random.default_rng(number), subject="cat", scene=place, moving=False)
        write_image(photos / f"{place}.png", render(scene, 1)[0])
    arguments = ["decompose", str(photos), "--prompt", "a cat in the city", "--keep", "cat", "--config", quick]
    out = ["--steps", "2", "--out", str(tmp_path / "out.mp4"), "--workdir", str(workdir)]
    assert main([*arguments, *out]) == 0 and (tmp_path / "out.mp4").exists()
    found = json.loads((workdir / "concepts" / "photos.json").read_text())
    assert found["caption_photos"] == [0, 0, 1, 1] and "cat" in found["spatial"]
    assert not {"beach", "space"} & set(found["spatial"])


def test_a_word_that_is_not_there_cannot_be_swapped(quick, tmp_path, capsys):
    files = [str(tmp_path / "cat.jpg"), "--out", str(tmp_path / "out.mp4")]
    assert main(["edit", *files, "--config", quick, "--prompt", "a cat", "--swap", "dog=robot"]) == 2
    error = capsys.readouterr().err
    assert error == "error: --swap: 'dog' is not in the prompt 'a cat': expected words of it\n"


def test_a_key_word_of_the_one_file_needs_no_file(tmp_path, capsys):
    files = [str(tmp_path / "cat.jpg"), "--out", str(tmp_path / "out.mp4"), "--spatial", "cat.jpg=cat"]
    assert main(["decompose", *files, "--prompt", "a cat", "--keep", "cat"]) == 2
    assert "'cat.jpg=cat': expected only a WORD, such as cat, because there is one file" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["cat.mp4", "link.mp4"])
def test_a_file_that_is_bound_is_never_overwritten(quick, tmp_path, capsys, out):
    write_clip(tmp_path / "cat.mp4", moving_square(9), fps=8)
    (tmp_path / "link.mp4").symlink_to("cat.mp4")
    before = (tmp_path / "cat.mp4").read_bytes()
    arguments = ["decompose", str(tmp_path / "cat.mp4"), "--config", quick, "--prompt", "a cat", "--keep", "cat"]
    assert main([*arguments, "--out", str(tmp_path / out)]) == 2
    assert "which is read: expected another name" in capsys.readouterr().err
    assert (tmp_path / "cat.mp4").read_bytes() == before and (tmp_path / "link.mp4").is_symlink()


@pytest.mark.parametrize("option", ["--out", "--workdir"])
def test_an_output_that_cannot_be_written_is_told_before_any_work(quick, tmp_path, capsys, monkeypatch, option):
    monkeypatch.setattr("bico.pipeline.concepts.concepts", lambda config: pytest.fail("too late"))
    arguments = ["decompose", str(tmp_path / "cat.jpg"), "--config", quick, "--prompt", "a cat", "--keep", "cat"]
    values = {"--out": str(tmp_path / "out.mp4")} | {option: "/proc/x.mp4" if option == "--out" else "/proc/x"}
    assert main([*arguments, *(text for pair in values.items() for text in pair)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: /proc/x") and "no file can be written there" in error and error.count("\n") == 1


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_is_stopped_says_so_in_one_line_and_leaves_no_temporary_folder(quick, tmp_path, stop, code):
    """Stopped as soon as it has begun to work in its temporary folder."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    arguments = ["decompose", str(tmp_path / "cat.jpg"), "--config", quick, "--prompt", "a cat", "--keep", "cat"]
    command = [sys.executable, "-m", "bico.cli", *arguments, "--out", str(tmp_path / "out.mp4")]
    environment = os.environ | {"TMPDIR": str(temporary)}
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  a shell's background jobs ignore it
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=heard) as running:
        while not [*temporary.glob("*/concepts")]:
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(stop)
        printed = running.communicate()[1]
    assert running.returncode == code and printed.splitlines()[-1] == "stopped: finished files are kept"
    assert "Traceback" not in printed and not [*temporary.glob("tmp*")]


def test_a_disk_that_is_full_when_blocks_are_compiled_is_one_line(quick, capsys, monkeypatch):
    """Compilation happens in the first steps of each stage, long after the training began."""

    def backend(graph, inputs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/full/kernel.cpp")

    def learn(config, row, part):
        torch.compile(torch.sin, backend=backend)(torch.ones(2))

    monkeypatch.setattr("bico.pipeline.learn.learn", learn)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/full")
    torch._dynamo.reset()
    assert main(["learn", "--config", quick, "bico", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: /full: training cannot be compiled there (OSError: [Errno 28] No space left")
    assert "TMPDIR" in line


def test_a_word_is_swapped_once(quick, tmp_path, capsys):
    files = [str(tmp_path / "cat.jpg"), "--out", str(tmp_path / "out.mp4")]
    twice = ["--swap", "cat=robot", "--swap", "cat=fish"]
    assert main(["edit", *files, "--config", quick, "--prompt", "a cat", *twice]) == 2
    assert capsys.readouterr().err == "error: --swap: a word stands there twice: expected each once\n"


@needs_zoo
def test_compose_without_a_config_writes_a_clip(quick, toybox, tmp_path, capsys):
    write_clip(tmp_path / "clip.mp4", moving_square(20), fps=25)
    out = tmp_path / "out" / "out.mp4"
    arguments = ["compose", "--config", quick, "--prompt", "a cat bouncing", "--steps", "2"]
    binding = ["--bind", f"{tmp_path}/cat.jpg=cat", "--bind", f"{tmp_path}/clip.mp4=bouncing"]
    assert main([*arguments, *binding, "--out", str(out)]) == 0
    assert read_media(out, **toybox["media"]).shape == (9, 48, 48, 3)
    progress = capsys.readouterr().err
    assert "concepts: clip, 2 of 2" in progress and "bico: composition 0, 1 of 1" in progress


def test_files_are_bound_on_the_machine_of_the_benchmark(small, tmp_path):
    Image.new("RGB", (64, 48), "orange").save(tmp_path / "cat.jpg")
    small |= {"device": "cuda", "dtype": "float32", "learned_dtype": "bfloat16", "compile": False}
    small |= {"gradient_checkpointing": "always", "weights_store": str(tmp_path / "store")}
    like = load(small)
    where = {"results": tmp_path / "work", "steps": None, "seed": 0}
    config = composition(like, "a cat", [(tmp_path / "cat.jpg", "cat")], {}, **where)
    keys = ("device", "dtype", "learned_dtype", "compile", "gradient_checkpointing", "weights_store")
    assert [getattr(config, key) for key in keys] == [getattr(like, key) for key in keys]
