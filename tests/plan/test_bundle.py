"""A bundle holds all that somebody else's code needs, and says when it is not whole."""

import json
import shutil
import zipfile

import pytest
from files import write
from jsonschema import Draft202012Validator
from PIL import Image
from theirs import digest

from bico.cli.main import main
from bico.config.reading import load
from bico.core.errors import InputError
from bico.plan.bundle import read_bundle, write_bundle


@pytest.fixture
def folder(small, tmp_path):
    """A bundle of the small benchmark, as a folder."""
    small |= {"seeds": [4, 5], "learning_seeds": [1, 2]}
    write_bundle(load(small), tmp_path / "bundle")
    return tmp_path / "bundle"


def problem(path) -> str:
    with pytest.raises(InputError) as caught:
        read_bundle(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_bundle_says_what_is_bound_where_and_which_clips_are_asked_for(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (case,) = manifest["cases"].values()
    bound = {source: [piece["words"] for piece in pieces] for source, pieces in case["bind"].items()}
    assert bound == {"cat_beach": ["cat"], "fish_bouncing": ["bouncing"]}
    for (piece,) in case["bind"].values():
        assert case["prompt"][slice(*piece["characters"])] == piece["words"]
    assert manifest["clip"] == {"width": 48, "height": 48, "num_frames": 9, "fps": 8}
    assert [(clip["seed"], clip["learning_seed"]) for clip in manifest["clips"]] == [(4, 1), (5, 2)]
    for source in manifest["sources"].values():
        assert [digest(folder / file["path"]) for file in source["files"]] == [
            file["sha256"] for file in source["files"]
        ]


def test_the_schema_beside_it_accepts_the_manifest_and_explains_every_key(folder):
    schema = json.loads((folder / "manifest.schema.json").read_text())
    Draft202012Validator(schema).validate(json.loads((folder / "manifest.json").read_text()))
    sections = [schema, *schema["$defs"].values()]
    keys = {name: key for section in sections for name, key in section.get("properties", {}).items()}
    assert [name for name, key in keys.items() if not key.get("description")] == []


def test_a_scene_is_the_picture_that_the_benchmark_renders_whatever_an_earlier_run_left(folder, small, tmp_path):
    config = load(small)
    config.media_path("cat_beach").parent.mkdir(parents=True)
    config.media_path("cat_beach").write_bytes(b"of an earlier scene")
    write_bundle(config, tmp_path / "again")
    assert digest(tmp_path / "again/media/cat_beach/1.png") == digest(folder / "media/cat_beach/1.png")
    main(["render", "--config", write(small, tmp_path), "cat_beach"])
    assert digest(config.media_path("cat_beach")) == digest(folder / "media/cat_beach/1.png")


def test_photographs_and_their_masks_are_in_it(small, tmp_path):
    for name in ("a.jpg", "b.jpg", "a_mask.png", "b_mask.png"):
        Image.new("RGB", (64, 48), "white").save(tmp_path / name)
    files, masks = ([str(tmp_path / f"{name}{end}") for name in "ab"] for end in (".jpg", "_mask.png"))
    small["sources"]["cat_beach"] = {"kind": "image", "files": files, "masks": masks}
    small["cases"]["cat_bouncing_in_the_city"].pop("truth")
    source = write_bundle(load(small), tmp_path / "bundle").sources["cat_beach"]
    assert [file.path for file in source.files] == ["media/cat_beach/1.jpg", "media/cat_beach/2.jpg"]
    assert [file.path for file in source.masks] == ["media/cat_beach/mask1.png", "media/cat_beach/mask2.png"]
    read_bundle(tmp_path / "bundle")


def test_a_zip_file_holds_the_same_and_has_the_same_bytes_each_time(folder, small, tmp_path, capsys):
    config = write(small, tmp_path)
    for name in ("one.zip", "two.zip"):
        assert main(["bundle", "--config", config, "--out", str(tmp_path / name)]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/one.zip: 2 sources, 1 cases, 2 clips to be made\n")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert read_bundle(tmp_path / "one.zip") == read_bundle(folder)
    assert main(["bundle", "--config", config, "--out", str(tmp_path / "one.zip")]) == 2
    assert "one.zip: this is there already: expected a new name" in capsys.readouterr().err


def test_a_source_that_is_not_whole_is_told_before_anything_is_written(small, tmp_path, capsys):
    (tmp_path / "cat.jpg").write_bytes(b"")
    small["sources"]["cat_beach"] = {"kind": "image", "file": str(tmp_path / "cat.jpg")}
    small["cases"]["cat_bouncing_in_the_city"].pop("truth")
    assert main(["bundle", "--config", write(small, tmp_path), "--out", str(tmp_path / "bundle")]) == 2
    assert "cat.jpg: the file is empty" in capsys.readouterr().err and not (tmp_path / "bundle").exists()


def test_a_bundle_that_is_cut_short_is_told(folder, small, tmp_path):
    write_bundle(load(small), tmp_path / "bundle.zip")
    (tmp_path / "short.zip").write_bytes((tmp_path / "bundle.zip").read_bytes()[:-100])
    assert "short.zip: no whole zip file" in problem(tmp_path / "short.zip")
    assert "nowhere: no such file or folder" in problem(tmp_path / "nowhere")
    with zipfile.ZipFile(tmp_path / "nested.zip", "w") as archive:
        archive.write(folder / "manifest.json", "bundle/manifest.json")
    assert "nested.zip: no manifest.json in it: expected one at its top" in problem(tmp_path / "nested.zip")
    picture = folder / "media/cat_beach/1.png"
    picture.write_bytes(picture.read_bytes()[:-1])
    assert "media/cat_beach/1.png is not what was written (SHA-256)" in problem(folder)
    picture.unlink()
    assert "no media/cat_beach/1.png in it" in problem(folder)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text()[:-9])
    assert "bundle/manifest.json: no whole JSON file" in problem(folder)
    shutil.rmtree(folder)
    folder.mkdir()
    assert "bundle: no manifest.json in it" in problem(folder)


def test_a_manifest_that_names_a_thing_twice_or_not_at_all_is_told(folder):
    whole, path = json.loads((folder / "manifest.json").read_text()), folder / "manifest.json"
    path.write_text(json.dumps(whole | {"clips": whole["clips"] * 2}))
    assert "clips.2 (case cat_bouncing_in_the_city, seed 4): it stands there twice, first in clips.0" in problem(folder)
    path.write_text(json.dumps(whole | {"clips": [whole["clips"][0] | {"case": "cat_bouncing"}]}))
    assert "clips.0: no case 'cat_bouncing': did you mean 'cat_bouncing_in_the_city'?" in problem(folder)
    path.write_text(json.dumps(whole | {"sources": {}}))
    assert "cases.cat_bouncing_in_the_city: no source 'cat_beach'" in problem(folder)
    path.write_text(json.dumps(whole).replace('"name"', '"clips": [], "name"'))
    assert "manifest.json: 'clips' stands there twice" in problem(folder)
    path.write_text(json.dumps({key: value for key, value in whole.items() if key != "cases"}))
    assert "manifest.json: cases: missing" in problem(folder)
    source = whole["sources"]["cat_beach"]
    outside = source | {"files": [source["files"][0] | {"path": "../../etc/passwd"}]}
    path.write_text(json.dumps(whole | {"sources": whole["sources"] | {"cat_beach": outside}}))
    assert "expected a path inside the folder with '/' between its parts, got '../../etc/passwd'" in problem(folder)
