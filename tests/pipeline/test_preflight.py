"""Whatever would make a run fail later is said before it starts: in one line, and quickly."""

import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from bico.config.reading import load
from bico.core.errors import InputError
from bico.core.fingerprints import file_digest
from bico.pipeline.preflight import listed, preflight


def problem(config: dict) -> str:
    with pytest.raises(InputError) as caught:
        preflight(load(config))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def own_media(config: dict, folder) -> dict:
    """The small benchmark with a picture of one's own in place of the rendered one."""
    Image.new("RGB", (64, 48), "orange").save(folder / "cat.jpg")
    config["sources"]["cat_beach"] = {"kind": "image", "file": str(folder / "cat.jpg")}
    config["cases"]["cat_bouncing_in_the_city"].pop("truth")
    return config


def test_a_good_benchmark_passes_in_less_than_a_second(small, tmp_path):
    config = load(own_media(small, tmp_path))
    preflight(config)
    started = time.process_time()
    preflight(config)
    assert time.process_time() - started < 1


def test_checks_import_no_heavy_library():
    heavy = {"torch", "transformers", "diffusers", "scipy", "numpy", "pandas"}
    code = f"import sys, bico.cli.main, bico.pipeline.preflight; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_a_broken_source_is_named(small, tmp_path):
    config = own_media(small, tmp_path)
    (tmp_path / "cat.jpg").write_bytes(b"")
    assert "cat.jpg: the file is empty" in problem(config)


def test_a_folder_that_is_not_there(small, tmp_path):
    small["models"]["wan"] = str(tmp_path / "nowhere")
    message = problem(small)
    assert message.startswith(f"{tmp_path}/nowhere: models.wan does not exist") and "correct the path" in message
    small["models"]["wan"] = "data/toybox/zoo/nowhere"
    assert "'git checkout' restores the shipped one" in problem(small)


def test_a_folder_of_something_else(small, tmp_path):
    small["models"]["clip"] = str(tmp_path)
    assert "models.clip has no open_clip_config.json" in problem(small)
    small["models"] |= {"clip": small["models"]["dino"], "vlm": small["models"]["dino"]}
    assert "dino: models.vlm is another model: expected 'vision_config' in its config.json" in problem(small)


def test_frames_of_no_whole_number_of_patches(small):
    small["media"]["width"] = 56
    assert problem(small).startswith("media.width: 56 pixels") and "a multiple of 16, such as 64" in problem(small)


def test_binders_that_do_not_fit(small, tmp_path):
    path = small["sources"]["cat_beach"]["binder"] = str(tmp_path / "binder.safetensors")
    assert problem(small).startswith(f"{path}: sources.cat_beach.binder cannot be read (No such file")
    save_file({"something": np.zeros(3)}, path)
    assert "is no binder" in problem(small)
    save_file({"shared.spatial.0.weight": np.zeros(12)}, path)
    assert "is for tokens of width 12: expected 8" in problem(small)
    save_file({"shared.spatial.0.weight": np.zeros(8)}, path)
    preflight(load(small))


def test_results_that_cannot_be_written(small, tmp_path):
    (tmp_path / "a_file").touch()
    small["results"] = str(tmp_path / "a_file" / "results")
    assert problem(small).startswith(f"results: {tmp_path}/a_file cannot be written: expected a folder")


def test_missing_and_corrupt_files_of_a_listed_zoo(small, tmp_path):
    dino = tmp_path / "zoo" / "dino"
    dino.mkdir(parents=True)
    (dino / "config.json").write_text('{"architecture": "vit"}')
    (dino / "model.safetensors").write_bytes(b"weights")
    lines = [f"{file_digest(path)}  dino/{path.name}\n" for path in sorted(dino.iterdir())]
    (tmp_path / "zoo" / "SHA256SUMS").write_text("".join(lines))
    small["models"]["dino"] = str(dino)
    preflight(load(small))
    (dino / "model.safetensors").write_bytes(b"weight")
    assert "model.safetensors: a file of models.dino is corrupt" in problem(small)
    (dino / "model.safetensors").unlink()
    assert "model.safetensors: a file of models.dino is missing" in problem(small)


def test_a_prompt_longer_than_the_text_slots(small):
    small["text_slots"] = 5
    assert "cases.cat_bouncing_in_the_city.prompt: 6 tokens, expected at most 5" in problem(small)
    small["text_slots"] = 64
    small["sampling"]["negative_prompt"] = "blurred " * 70
    assert "sampling.negative_prompt: 70 tokens, expected at most 64" in problem(small)


def test_groups_of_blocks_of_different_size(small):
    small["methods"]["dualreal"]["groups"] = 4
    expected = "methods.dualreal.groups: 4 does not divide the 6 blocks of models.wan: expected one of 1, 2, 3, 6"
    assert problem(small) == expected


def test_words_that_the_toybox_does_not_have(small):
    small["sources"]["cat_beach"]["scene"]["subject"] = "dog"
    assert "sources.cat_beach.scene.subject: the Toybox has no 'dog': expected one of cat, fish" in problem(small)


def test_a_prompt_that_just_fits_the_text_slots(small):
    small["text_slots"] = 6
    preflight(load(small))


def test_a_token_that_is_bound_twice(small):
    case = {"prompt": "a cat bouncing?!", "bind": {"cat_beach": ["?"], "fish_bouncing": ["!"]}}
    small["cases"] = {"shouted": case}
    assert problem(small) == "prompt 'a cat bouncing?!': '?!' is one token and bound twice; put a space between"


def test_the_list_of_another_folder_that_begins_alike_is_not_this_one_s(tmp_path):
    (tmp_path / "SHA256SUMS").write_text("12  wan/config.json\n34  wan_large/config.json\n")
    assert listed(tmp_path / "wan") == {tmp_path / "wan" / "config.json": "12"}
