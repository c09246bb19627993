"""Whatever would make a run fail later is said before it starts: in one line, and quickly."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ZOO, needs_zoo
from files import write_weights
from PIL import Image
from safetensors.numpy import save_file

from bico.config.reading import load
from bico.core.errors import InputError
from bico.core.fingerprints import file_digest
from bico.media.writing import write_clip
from bico.models.binder import HierarchicalBinder
from bico.pipeline.model_folders import listed
from bico.pipeline.preflight import check, check_own_config, preflight
from bico.training.artifacts import save_artifact


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


def test_a_good_benchmark_passes(small, tmp_path):
    preflight(load(own_media(small, tmp_path)))


def test_checks_import_no_heavy_library():
    heavy = {"torch", "transformers", "diffusers", "scipy", "numpy", "pandas"}
    code = f"import sys, bico.cli.main, bico.pipeline.preflight; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_an_exact_rendering_that_shows_another_word_than_the_prompt_is_named(small):
    case = small["cases"]["cat_bouncing_in_the_city"]
    case["truth"] = case["truth"] | {"scene": "cat_beach"}
    assert problem(small) == (
        "cases.cat_bouncing_in_the_city.truth.scene: 'cat_beach' shows 'beach', and the prompt says 'city': expected a "
        "source that shows what the prompt says; change the prompt, or leave the role out"
    )


def test_scenes_of_the_toybox_want_square_media(small):
    small["media"]["width"] *= 2
    assert problem(small).startswith("media: 96 x 48 pixels: expected width and height to be equal")


def test_a_broken_source_is_named(small, tmp_path):
    config = own_media(small, tmp_path)
    (tmp_path / "cat.jpg").write_bytes(b"")
    assert "cat.jpg: the file is empty" in problem(config)


def test_what_is_wrong_with_one_of_several_photographs_is_said_before_anything_runs(small, tmp_path):
    config, photos = own_media(small, tmp_path), tmp_path / "photos"
    photos.mkdir()
    for name in ("1.jpg", "2.png"):
        Image.new("RGB", (64, 48), "orange").save(photos / name)
    config["sources"]["cat_beach"] = {"kind": "image", "files": str(photos)}
    preflight(load(config))
    (photos / "3.jpg").write_bytes(b"")
    assert problem(config).startswith(f"{photos}/3.jpg: the file is empty")
    (photos / "3.jpg").unlink()
    write_clip(photos / "3.mp4", np.zeros((9, 48, 48, 3), np.uint8), fps=8)
    assert problem(config).startswith(f"{photos}/3.mp4: this is a video, expected an image")
    (photos / "3.mp4").unlink()
    (photos / "3.png").symlink_to("2.png")
    with pytest.raises(InputError, match=r"cat_beach: 'files' names a file twice: expected each photograph once"):
        load(config)


def test_the_mask_of_a_source_fits_its_photograph(small, tmp_path):
    config, mask = own_media(small, tmp_path), tmp_path / "mask.png"
    Image.new("L", (64, 48), "white").save(mask)
    config["sources"]["cat_beach"]["mask"] = str(mask)
    preflight(load(config))
    Image.new("L", (64, 48)).save(mask)
    assert problem(config).startswith(f"{mask}: this mask is all black")
    photo = config["sources"]["cat_beach"].pop("file")
    Image.new("RGB", (48, 64), "orange").save(tmp_path / "tall.jpg")
    config["sources"]["cat_beach"] = {"kind": "image", "files": [photo, str(tmp_path / "tall.jpg")]}
    config["sources"]["cat_beach"]["masks"] = [str(mask), str(mask)]
    Image.new("L", (64, 48), "white").save(mask)
    assert problem(config) == f"{mask}: this mask has 64 x 48 pixels: expected 48 x 64, as {tmp_path}/tall.jpg has"


def test_a_video_that_ends_before_its_start(small, tmp_path):
    config = own_media(small, tmp_path)
    write_clip(tmp_path / "fish.mp4", np.zeros((16, 48, 48, 3), np.uint8), fps=8)
    config["sources"]["fish_bouncing"] = {"kind": "video", "file": str(tmp_path / "fish.mp4"), "start": 1.5}
    preflight(load(config))
    config["sources"]["fish_bouncing"]["start"] = 2.5
    assert problem(config) == (
        f"{tmp_path}/fish.mp4: start: 2.5 s, but this video ends after 2 s: expected an earlier start"
    )


def test_a_picture_that_is_too_long_for_the_vlm(small, tmp_path):
    config = own_media(small, tmp_path)
    Image.new("RGB", (2010, 10)).save(tmp_path / "cat.jpg")
    preflight(load(config))  # the VLM sees it cropped
    config["concepts"]["look"] = "original"
    assert problem(config) == (
        f"{tmp_path}/cat.jpg: 2010 x 10 pixels: expected a side of at most 200 times the other, as concepts.look: "
        "original needs; crop it"
    )
    Image.new("RGB", (10, 2000)).save(tmp_path / "cat.jpg")
    preflight(load(config))


@pytest.mark.parametrize(
    ("key", "value", "short"), [("instructions", "paper", "short"), ("look", "original", "encoded")]
)
def test_a_small_vlm_is_not_asked_what_only_a_large_one_can_read(small, tmp_path, key, value, short):
    """A config of one's own that names the Toybox's VLM and leaves out what it is asked would fail an hour later."""
    small["concepts"][key] = value
    preflight(load(small))  # of this model the length of prompts is not known
    vlm = tmp_path / "vlm"
    write_weights("vlm", vlm)
    small["models"]["vlm"] = str(vlm)
    (vlm / "config.json").write_text('{"vision_config": {}, "text_config": {"max_position_embeddings": 1024}}')
    assert problem(small) == (
        f"concepts.{key}: '{value}' is for a large VLM, and models.vlm reads 1024 tokens: expected '{short}', as in "
        "config/toybox.yaml"
    )
    (vlm / "config.json").write_text('{"vision_config": {}, "max_position_embeddings": 128000}')
    preflight(load(small))


@needs_zoo
def test_a_vlm_that_cannot_answer_yes_or_no_is_refused_if_a_score_asks_it(small):
    small["models"]["vqa"] = str(ZOO / "vlm")  # it extracts concepts, and was not taught to answer questions
    assert "models.vqa: the tokenizer has no token for 'yes'" in problem(small)
    small["scoring"]["tested"] = {}
    preflight(load(small))


@needs_zoo
@pytest.mark.parametrize("section", ["scores", "tested"])
def test_the_small_judge_is_not_shown_what_only_a_large_one_can_read(small, section):
    """With `vqa: {}` it would say no to everything."""
    small["models"]["vqa"] = str(ZOO / "vqa")
    small["scoring"] |= {"tested": {}, section: {"vqa": {}}}
    assert problem(small).startswith(f"scoring.{section}.vqa.look: 'original' is for a large VLM, and models.vqa reads")


def test_a_folder_that_is_not_there(small, tmp_path):
    small["models"]["wan"] = str(tmp_path / "nowhere")
    message = problem(small)
    assert message.startswith(f"{tmp_path}/nowhere: models.wan does not exist") and "correct the path" in message
    small["models"]["wan"] = "data/toybox/zoo/nowhere"
    assert "'git checkout' restores the shipped one" in problem(small)


def test_a_folder_of_something_else(small, tmp_path):
    small["models"]["clip"] = str(tmp_path)
    assert "models.clip has no open_clip_config.json" in problem(small)
    small["models"]["clip"] = str(tmp_path / "notes.md")
    (tmp_path / "notes.md").touch()
    assert problem(small) == f"{tmp_path}/notes.md: models.clip is no folder: expected a model folder; correct the path"
    small["models"]["clip"] = "data/toybox/zoo/dino"
    assert "models.clip has no open_clip_config.json: expected a model folder; correct the path" in problem(small)
    small["models"] |= {"clip": small["models"]["dino"], "vlm": small["models"]["dino"]}
    assert "dino: models.vlm is another model: expected 'vision_config' in its config.json" in problem(small)


def test_openai_s_clip_without_its_activation(small, tmp_path):
    folder = tmp_path / "vit_base_patch32_clip_224.openai"
    write_weights("clip", folder)
    (folder / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 512}}')
    stub = small["models"]["clip"]
    for models in ({"clip": str(folder)}, {"clip": stub, "appearance": str(folder)}):
        small["models"] |= models
        assert problem(small).startswith(f"{folder}/open_clip_config.json: OpenAI's weights need QuickGELU, with")
    (folder / "open_clip_config.json").write_text('{"model_cfg": {"quick_gelu": true}}')
    preflight(load(small))
    (folder / "open_clip_config.json").write_text('{"model_cfg": []}')
    assert problem(small).startswith(f"{folder}/open_clip_config.json: 'model_cfg' has no keys")


@pytest.fixture
def own_wan(small, tmp_path) -> Path:
    """A backbone's folder to be changed at will, which the small benchmark uses."""
    folder = tmp_path / "wan"
    shutil.copytree(small["models"]["wan"], folder)
    small["models"]["wan"] = str(folder)
    return folder


def test_weights_that_are_missing_or_broke_off(small, own_wan):
    """Found in a run, this costs all that was trained before the model was opened."""
    preflight(load(small))
    for path in sorted(own_wan.rglob("*.safetensors")):
        content = path.read_bytes()
        path.write_bytes(content[:-1])
        assert problem(small) == (
            f"{path}: weights of models.wan have {len(content) - 1} bytes: expected {len(content)}; copy it again"
        )
        for broken in (b"", content[:20], b"not a header, but text of some length"):
            path.write_bytes(broken)
            assert problem(small).startswith(f"{path}: weights of models.wan are broken: expected a safetensors file")
        path.unlink()
        assert problem(small).startswith(f"{path}: weights of models.wan are missing")
        path.write_bytes(content)


def test_a_shard_that_the_index_names_and_the_folder_lacks(small, own_wan):
    whole = own_wan / "text_encoder" / "model.safetensors"
    shards = [whole.with_name(f"model-0000{number}-of-00002.safetensors") for number in (1, 2)]
    for shard in shards:
        shutil.copy(whole, shard)
    whole.unlink()
    index = whole.with_name("model.safetensors.index.json")
    index.write_text(json.dumps({"weight_map": {str(shard): shard.name for shard in shards}}))
    preflight(load(small))
    shards[1].unlink()
    assert problem(small).startswith(f"{shards[1]}: weights of models.wan are missing")
    index.write_text("{}")
    assert problem(small).startswith(f"{index}: a file of models.wan names no weights: expected 'weight_map'")


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("model_index.json", '{"transformer": ', "is no JSON"),
        ("model_index.json", "[1]", "has no keys: expected a JSON object"),
        ("vae/config.json", "", "is no JSON"),
        ("vae/config.json", None, "cannot be read (No such file or directory)"),
        ("transformer/config.json", '{"num_layers": 6}', "has no '"),
        ("tokenizer/tokenizer.json", "{", "cannot be opened"),
    ],
)
def test_broken_texts_of_a_model(small, own_wan, file, content, expected):
    path = own_wan / file
    path.unlink() if content is None else path.write_text(content)
    assert problem(small).startswith(f"{path}: a file of models.wan {expected}")


def test_frames_of_no_whole_number_of_patches(small):
    small["media"]["width"] = 56
    assert problem(small).startswith("media.width: 56 pixels") and "a multiple of 16, such as 64" in problem(small)


def test_binders_that_do_not_fit(small, tmp_path):
    path = small["sources"]["cat_beach"]["binder"] = tmp_path / "binder.safetensors"
    small["sources"]["cat_beach"]["binder"] = str(path)
    where = f"sources.cat_beach.binder: {path}"
    assert problem(small).startswith(f"{where}: cannot be read (No such file")
    save_file({"something": np.zeros(3)}, path)
    assert problem(small).startswith(f"{where}: there is no binder in it")
    for width, blocks in ((12, 6), (8, 3)):
        save_artifact(path, HierarchicalBinder(width, blocks).state_dict(), {"source": "cat"})
        expected = f"{where} has width {width} and {blocks} blocks: expected width 8 and 6 blocks"
        assert problem(small).startswith(expected)
    binder = HierarchicalBinder(8, 6).state_dict()
    narrow = binder | {"blocks.0.spatial.1.weight": torch.zeros(8, 7)}
    nan = binder | {"blocks.0.spatial.4.bias": torch.full((8,), torch.nan)}
    lacking = {name: tensor for name, tensor in binder.items() if name != "blocks.0.gamma"}
    for tensors, expected in (
        (narrow, "of another shape: blocks.0.spatial.1.weight [8, 7] instead of [8, 8]"),
        (lacking, "missing: blocks.0.gamma"),
        (binder | {"else": torch.zeros(1)}, "unknown: else"),
    ):
        save_artifact(path, tensors, {"source": "cat"})
        assert problem(small).startswith(f"{where}: {expected}")
    save_artifact(path, nan, {"source": "cat"})
    preflight(load(small))  # which does not read the numbers
    with pytest.raises(InputError, match=r"not finite: blocks.0.spatial.4.bias"):
        check(load(small))
    save_artifact(path, binder, {"source": "cat"})
    check(load(small))


def test_results_that_cannot_be_written(small, tmp_path):
    (tmp_path / "a_file").touch()
    small["results"] = str(tmp_path / "a_file" / "results")
    assert problem(small).startswith(f"results: {tmp_path}/a_file cannot be written: expected a folder")


def test_missing_and_corrupt_files_of_a_listed_zoo(small, tmp_path):
    dino = tmp_path / "zoo" / "dino"
    dino.mkdir(parents=True)
    (dino / "config.json").write_text('{"architecture": "vit"}')
    write_weights("dino", dino)
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
    case = {"prompt": "a cat?!bouncing", "bind": {"cat_beach": ["cat?"], "fish_bouncing": ["!bouncing"]}}
    small["cases"] = {"shouted": case}
    assert problem(small) == "prompt 'a cat?!bouncing': '?!' is one token and bound twice; put a space between"


def test_the_list_of_another_folder_that_begins_alike_is_not_this_one_s(tmp_path):
    (tmp_path / "SHA256SUMS").write_text("12  wan/config.json\n34  wan_large/config.json\n")
    assert listed(tmp_path / "wan") == {tmp_path / "wan" / "config.json": "12"}


def test_a_config_in_the_folder_of_results_is_not_overwritten(small, tmp_path):
    path = tmp_path / "results" / "config.yaml"
    config = load(small)
    check_own_config(config, path)  # not there yet
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(config.to_yaml().replace("seeds:\n- 0", "seeds:\n- 1"))
    with pytest.raises(InputError, match="this one would be overwritten: move it"):
        check_own_config(config, path)
    path.write_text(config.to_yaml())
    check_own_config(config, path)  # the config that an earlier run kept
