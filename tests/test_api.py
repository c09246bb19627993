"""The API for Python: the bytes of the pipeline, and one line for what does not fit."""

import copy
import json

import numpy as np
import pytest
import tiny
from conftest import ROOT, needs_zoo
from PIL import Image
from safetensors.torch import save_file

from bico import api
from bico.config.methods import module_of
from bico.config.reading import load
from bico.config.schema import Config
from bico.core.fingerprints import closure
from bico.methods.shared.protocol import compose_of
from bico.pipeline.concepts import concepts
from bico.pipeline.encode import encode
from bico.pipeline.generate import generate
from bico.pipeline.learn import learn
from bico.plan.clips import jobs
from bico.toybox.scenes import write_source

PROMPT = "a cat bouncing at the beach"
STAGES = api.Stages(global_steps=1, all_steps=3)
FEW = api.Settings(learning_rate=1e-2, stages=STAGES, clip_stages=STAGES)
CAPTIONS = ["a cat at the beach", "the cat at a beach"]


def quick(toybox: dict) -> dict:
    """The default config with hardly any captions, training and denoising."""
    toybox = copy.deepcopy(toybox)
    toybox["concepts"] |= {"captions": 4, "frame_captions": 2}
    few = {"global_steps": 2, "all_steps": 3}
    toybox["methods"]["bico"] |= {"stages": few, "clip_stages": few}
    toybox["sampling"]["steps"] = 2
    toybox["compile"] = False  # takes longer than all else
    return toybox


# --- the bytes of the pipeline --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def benchmark(_toybox, tmp_path_factory) -> Config:
    """A case of an image and a video, and what the pipeline's steps made of it."""
    values = quick(_toybox)
    values["results"] = str(tmp_path_factory.mktemp("results"))
    values["models"] = {name: str(ROOT / folder) for name, folder in values["models"].items() if folder}
    values["sources"] = {name: values["sources"][name] for name in ("cat_beach", "fish_bouncing")}
    values["cases"] = {
        "own": {"prompt": PROMPT, "bind": {"cat_beach": ["cat", "beach"], "fish_bouncing": ["bouncing"]}}
    }
    values["methods"] = {name: values["methods"][name] for name in ("base", "bico")}
    values |= {"tables": {"table1": {"base": None, "bico": None}}, "curves": {}, "applications": {}}
    values |= {"controls": {}, "tuning": None}
    config = load(values)
    for source in config.sources:
        write_source(config, source)
    concepts(config)
    encode(config)
    learn(config, "bico", part=0)
    for row in config.methods:
        generate(config, row)
    return config


@pytest.fixture(scope="module")
def zoo(benchmark) -> api.Backbone:
    return api.open_backbone(benchmark.models.wan, text_slots=benchmark.text_slots, compiles=False)


@needs_zoo
def test_captions_are_those_of_the_pipeline(benchmark):
    vlm = api.open_vlm(benchmark.models.vlm)
    for source in benchmark.sources:
        frames = api.read_media(benchmark.media_path(source), benchmark.media)
        found = api.ask_captions(vlm, frames, settings=benchmark.concepts, fps=benchmark.media.fps)
        assert found == json.loads(benchmark.paths.concepts(source).read_text())


@needs_zoo
@pytest.mark.parametrize("source", ["cat_beach", "fish_bouncing"])
def test_a_learned_binder_has_the_bytes_of_the_pipeline_s_artifact(benchmark, zoo, source, tmp_path):
    frames = api.read_media(benchmark.media_path(source), benchmark.media)
    captions = json.loads(benchmark.paths.concepts(source).read_text())
    settings, shift = benchmark.methods["bico"], benchmark.sampling.shift
    learned = api.learn_binder(zoo, frames, captions, settings=settings, shift=shift, source=source)
    learned.save(tmp_path / "learned.safetensors")
    artifact = benchmark.paths.artifact("bico", source, 0)
    assert (tmp_path / "learned.safetensors").read_bytes() == artifact.read_bytes()
    assert learned.kind == api.load_binder(artifact).kind == benchmark.sources[source].kind


def test_photographs_and_masks_give_the_bytes_of_the_pipeline(small, backbone, tmp_path, monkeypatch):
    """The same captions, and the same binder, as of a source of a config with `files` and `masks`."""

    class Writer:
        def __init__(self, folder="", device=""):
            pass

        def answer(self, media, prompt, seeds, settings, fps, system=None):
            return [f"the cat on {media[0].mean():.0f}" for _ in seeds]

    photos = [tmp_path / f"{name}.png" for name in "ab"]
    masks = [tmp_path / f"mask_{name}.png" for name in "ab"]
    for number, (photo, mask) in enumerate(zip(photos, masks, strict=True)):
        Image.new("RGB", (40, 32 + number), (0, 90 * number, 90)).save(photo)
        half = Image.new("L", (40, 32 + number), "white")
        half.paste(0, (0, 0, 20, 20 * number))
        half.save(mask)
    words, few = api.KeyWords(spatial=["cat"]), {"learning_rate": 1e-2, "stages": STAGES.model_dump()}
    source = {"kind": "image", "files": list(map(str, photos)), "masks": list(map(str, masks))}
    config = load(
        small
        | {
            "sources": {"two": source | {"concepts": words.model_dump()}},
            "cases": {"own": {"prompt": "a cat", "bind": {"two": ["cat"]}}},
            "media": tiny.MEDIA.model_dump(),
            "text_slots": tiny.TEXT_SLOTS,
            "concepts": small["concepts"] | {"captions": 3},
            "methods": {"bico": few | {"batch_size": 2}},
            "tables": {},
            "curves": {},
        }
    )
    monkeypatch.setattr("bico.pipeline.concepts.Vlm", Writer)
    for step in ("encode", "learn"):
        monkeypatch.setattr(f"bico.pipeline.{step}.open_backbone", lambda config: tiny.backbone())
    concepts(config)
    encode(config)
    learn(config, "bico", part=0)

    looks = [api.read_media(photo, config.media) for photo in photos]
    weights = [api.read_mask(mask, photo, config.media) for mask, photo in zip(masks, photos, strict=True)]
    found = api.ask_captions(Writer(), looks, key_words=words, settings=config.concepts, fps=config.media.fps)
    assert found == json.loads(config.paths.concepts("two").read_text())
    shared = {"settings": config.methods["bico"], "shift": config.learning_shift, "source": "two"}
    api.learn_binder(backbone, looks, found, masks=weights, **shared).save(tmp_path / "two.safetensors")
    artifact = config.paths.artifact("bico", "two", 0).read_bytes()
    assert (tmp_path / "two.safetensors").read_bytes() == artifact
    api.learn_binder(backbone, looks, found, **shared).save(tmp_path / "two.safetensors")
    assert (tmp_path / "two.safetensors").read_bytes() != artifact
    with pytest.raises(api.InputError, match=r"mask_b.png: this mask has 40 x 33 pixels: expected 40 x 32"):
        api.read_mask(masks[1], photos[0], config.media)


@needs_zoo
@pytest.mark.parametrize("row", ["base", "bico"])
def test_clips_have_the_bytes_of_the_pipeline_s(benchmark, zoo, row, tmp_path):
    bind = {
        api.load_binder(benchmark.paths.artifact("bico", source, 0)): words
        for source, words in benchmark.cases["own"].bind.items()
    }
    planned = jobs(benchmark, row)
    made = compose_of(row)(zoo, planned, benchmark.methods[row], benchmark.sampling, benchmark.media)
    for job, expected in made:
        clip = api.compose(
            zoo,
            PROMPT,
            bind if row == "bico" else {},
            seed=job.seed,
            sampling=benchmark.sampling,
            media=benchmark.media,
        )
        assert np.array_equal(clip, expected)
        api.write_clip(tmp_path / "clip.mp4", clip, fps=benchmark.media.fps)
        assert (tmp_path / "clip.mp4").read_bytes() == benchmark.paths.clip(row, "own", job.seed).read_bytes()


@needs_zoo
def test_the_example_of_the_page(_toybox, tmp_path, monkeypatch):
    """docs/python.md as it stands, with a config of few steps."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "toybox.yaml").write_text(json.dumps(quick(_toybox)))
    monkeypatch.chdir(tmp_path)
    made: dict[str, object] = {}
    exec((ROOT / "docs" / "python.md").read_text().split("```python\n")[1].split("```")[0], made)
    assert made["clip"].shape == (9, 48, 48, 3) and (tmp_path / "out.mp4").exists()
    assert [binder.kind for binder in made["binders"].values()] == ["image", "video"]


# --- what fits, and what does not -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backbone() -> api.Backbone:
    return api.open_backbone(tiny.folder(), text_slots=tiny.TEXT_SLOTS, device="cpu", dtype="float32", compiles=False)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(1, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def film() -> np.ndarray:
    return np.random.default_rng(1).integers(256, size=(5, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def cat(backbone, image) -> api.LearnedBinder:
    return api.learn_binder(backbone, image, api.own_captions(image, CAPTIONS), settings=FEW, shift=3.0, source="a cat")


def composed(backbone, prompt: str, bind: dict, **options) -> np.ndarray:
    return api.compose(backbone, prompt, bind, sampling=tiny.SAMPLING, media=tiny.MEDIA, **options)


def test_strength_zero_and_no_binding_are_the_plain_prompt(backbone, cat):
    plain = composed(backbone, PROMPT, {})
    assert np.array_equal(composed(backbone, PROMPT, {cat: "cat"}, strength=0.0), plain)
    assert not np.array_equal(composed(backbone, PROMPT, {cat: "cat"}), plain)
    assert not np.array_equal(composed(backbone, PROMPT, {}, seed=1), plain)


def test_two_sources_can_give_the_same_word_where_it_stands_twice(backbone, cat):
    other = api.LearnedBinder({name: 2 * tensor for name, tensor in cat.tensors.items()}, cat.metadata)
    one = composed(backbone, "a cat at a cat", {cat: "cat", other: "cat"})
    assert not np.array_equal(one, composed(backbone, "a cat at a cat", {other: "cat", cat: "cat"}))
    with pytest.raises(
        api.InputError, match=r"bind: 'cat' \(bound to a_cat_2\) is bound already wherever it stands in"
    ):
        composed(backbone, "a cat", {cat: "cat", other: "cat"})


def test_an_edit_binds_all_but_the_swapped_words(backbone, cat):
    prompt, kept = api.swap_words("a cat at the beach", {"cat": "car"})
    assert (prompt, kept) == ("a car at the beach", ["a", "at the beach"])
    assert not np.array_equal(composed(backbone, prompt, {cat: kept}), composed(backbone, prompt, {}))
    with pytest.raises(api.InputError, match=r"swap: 'dog' is not in the prompt 'a cat'"):
        api.swap_words("a cat", {"dog": "car"})


@pytest.mark.parametrize(
    ("prompt", "words", "size", "expected"),
    [
        ("a dog", "cat", 32, "bind: 'cat' (bound to a_cat) is not in the prompt 'a dog': expected it there verbatim"),
        (40 * "cat ", "cat", 32, "at most 32 fit the text slots; shorten it"),
        ("a cat", "cat", 33, "media.height: 33 pixels are no whole number of models.wan's patches"),
    ],
)  # fmt: skip
def test_a_composition_that_does_not_fit(backbone, cat, prompt, words, size, expected):
    with pytest.raises(api.InputError) as caught:
        api.compose(backbone, prompt, {cat: words}, sampling=tiny.SAMPLING, media=api.Media(height=size, width=size))
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_a_binder_of_another_backbone(backbone, cat):
    lacking = {name: tensor for name, tensor in cat.tensors.items() if not name.startswith("blocks.2.")}
    with pytest.raises(
        api.InputError, match=r"binder of a cat \(image, width 24, 2 blocks\): does not fit .* 3 blocks"
    ):
        composed(backbone, PROMPT, {api.LearnedBinder(lacking, cat.metadata): "cat"})
    shared = {name: tensor for name, tensor in cat.tensors.items() if not name.startswith("blocks.")}
    glob = api.LearnedBinder(shared, cat.metadata)  # what `hierarchical: false` learns
    assert repr(glob) == "binder of a cat (image, width 24, any number of blocks)"
    assert composed(backbone, PROMPT, {glob: "cat"}).shape == (5, 32, 32, 3)


def test_a_file_without_a_binder(tmp_path, cat):
    save_file(dict(cat.tensors), tmp_path / "foreign.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    for name, expected in {
        "missing.safetensors": "cannot be read",
        "foreign.safetensors": "there is no binder in it",
        "text.safetensors": "there is no binder in it",
    }.items():
        with pytest.raises(api.InputError, match=expected):
            api.load_binder(tmp_path / name)


def test_the_kind_of_a_source_without_temporal_decoupling_is_not_known(backbone, film):
    captions = api.own_captions(film, CAPTIONS, frame_captions=["a cat"])
    settings = FEW.model_copy(update={"temporal_decoupling": False})
    assert api.learn_binder(backbone, film, captions, settings=settings).kind is None
    assert api.learn_binder(backbone, film, captions, settings=FEW).kind == "video"


def test_captions_by_hand(image, film):
    captions = api.own_captions(
        film, ["a cat bouncing"], spatial=["cat"], temporal=["bouncing"], frame_captions=["a cat", "one cat"]
    )
    assert captions["frame_indices"] == [0, 4] and captions["kind"] == "video"
    assert api.own_captions(image, CAPTIONS)["frame_indices"] == []
    for frames, texts, given, expected in (
        (image, [], {}, "captions: there is none"),
        (image, ["a cat"], {"temporal": ["bouncing"]}, "they belong to clips, and this is an image"),
        (film, ["a cat"], {}, "frame_captions: there are 0: expected 1 to 5 for this clip"),
        (film, ["a cat"], {"frame_captions": 6 * ["a cat"]}, "frame_captions: there are 6"),
        (image, ["a cat", "a dog"], {"spatial": ["cat"]}, "captions: 'cat' is not in 'a dog'"),
        (film, ["cat"], {"spatial": ["cat"], "frame_captions": ["dog"]}, "frame_captions: 'cat' is not in 'dog'"),
        (image, "a cat", {}, r"captions: 'a cat': expected a list, as in \['a cat'\]"),
        (image, ["a cat"], {"spatial": "cat"}, "spatial: 'cat': expected a list"),
        (image, [" "], {}, "captions: ' ': expected words"),
    ):
        with pytest.raises(api.InputError, match=expected):
            api.own_captions(frames, texts, **given)


def test_a_source_that_cannot_be_learned(backbone, image, film):
    captions = api.own_captions(image, CAPTIONS)
    for frames, settings, expected in (
        (film, FEW, "captions: they are of a source of kind image: expected video"),
        (np.repeat(image, 4, axis=0), FEW, "frames: num_frames: expected 4k \\+ 1 frames"),
        (image[:, :31], FEW, "media.height: 31 pixels"),
        (image / 255, FEW, r"frames: float64 \[1, 32, 32, 3\]: expected uint8"),
        (image, FEW.model_copy(update={"binds": "key_words"}), "there are no spatial key words"),
    ):
        with pytest.raises(api.InputError, match=expected):
            api.learn_binder(backbone, frames, captions, settings=settings)


def test_captions_of_a_longer_clip(backbone, film):
    captions = api.own_captions(film, ["a cat"], frame_captions=["a cat", "a cat"])
    with pytest.raises(api.InputError, match="captions: they describe frame 4: expected those of these 1 frames"):
        api.learn_binder(backbone, film[:1], captions | {"kind": "image"}, settings=FEW)


def test_a_training_whose_checkpoints_nobody_could_find_writes_none(backbone, image, monkeypatch):
    saved = []
    monkeypatch.setattr("bico.training.loop.save", lambda *arguments: saved.append(arguments))
    settings = FEW.model_copy(update={"checkpoint_every": 1})
    api.learn_binder(backbone, image, api.own_captions(image, CAPTIONS), settings=settings)
    assert not saved


@pytest.mark.parametrize(("shape", "dtype"), [((9, 48, 48, 3), float), ((48, 48, 3), "uint8"), ((0, 8, 8, 3), "uint8")])
def test_an_array_that_is_no_clip_is_not_written(tmp_path, shape, dtype):
    clip = np.zeros(shape, dtype)
    with pytest.raises(api.InputError, match="expected uint8"):
        api.write_clip(tmp_path / "out.mp4", clip)
    assert not (tmp_path / "out.mp4").exists()


def test_photographs_and_masks_that_do_not_fit(backbone, image, film):
    two, captions = [image, image], api.own_captions(image, CAPTIONS)
    of_two = api.own_captions(two, CAPTIONS, caption_photos=[1, 0])
    white = np.ones((32, 32))
    for frames, given, masks, expected in (
        ([], captions, (), r"frames: a list of shapes \[\]: expected photographs alone"),
        ([image, film], of_two, (), r"frames: a list of shapes .*\[5, 32, 32, 3\]\]: expected photographs alone"),
        ([image, image[:, :16]], of_two, (), "frames: photographs of 32 x 32, 16 x 32 pixels: expected one size"),
        (two, captions, (), "captions: they describe photographs 0: expected those of 'frames', 0 to 1"),
        (image, of_two, (), "captions: they describe photographs 0, 1: expected those of 'frames', 0 to 0"),
        (two, of_two, [white], "masks: there are 1: expected one for each of the 2 photographs"),
        (image, captions, [white[:16]], r"masks: shape \[16, 32\]: expected \[32, 32\]"),
        (image, captions, [255 * white], "masks: values from 255 to 255: expected 0 to 1"),
        (image, captions, [0 * white], "masks: values from 0 to 0: expected 0 to 1, and more than 0 somewhere"),
        (image, captions, [np.nan * white], "masks: values from nan to nan: expected 0 to 1"),
        (film, captions, [white], "masks: they belong to images, and this is a clip"),
    ):
        with pytest.raises(api.InputError, match=expected):
            api.learn_binder(backbone, frames, given, masks=masks, settings=FEW)
    for frames, photos, expected in (
        (image, [0, 0], "caption_photos: it belongs to several photographs"),
        (two, [], r"caption_photos: \[\]: expected for each of the 2 captions which photograph it describes"),
        (two, [1, 1], "each of 0 to 1 at least once"),
        (two, [0, 1, 0], "for each of the 2 captions"),
    ):
        with pytest.raises(api.InputError, match=expected):
            api.own_captions(frames, CAPTIONS, caption_photos=photos)


def test_a_training_goes_on_from_its_own_checkpoint_alone(backbone, image, tmp_path):
    captions, curve = api.own_captions(image, CAPTIONS), tmp_path / "cat.ckpt" / "metrics.jsonl"

    def learned(seed: int) -> tuple[bytes, str]:
        settings = FEW.model_copy(update={"checkpoint_every": 2})
        binder = api.learn_binder(
            backbone, image, captions, settings=settings, seed=seed, source="cat", workdir=tmp_path
        )
        binder.save(tmp_path / "cat.safetensors")
        return (tmp_path / "cat.safetensors").read_bytes(), curve.read_text()

    first, lines = learned(0)
    assert learned(0) == (first, lines)  # its lines tell seconds: they are those of the first call
    assert learned(1)[0] != first
    assert learned(0)[0] == first


def test_folders_that_are_no_models(tmp_path):
    for opened in (api.open_backbone, api.open_vlm):
        with pytest.raises(api.InputError, match=f"{tmp_path / 'none'}: models.* does not exist"):
            opened(tmp_path / "none")


def test_no_result_is_stale_after_an_edit_of_the_api():
    steps = [f"bico.pipeline.{step}" for step in ("concepts", "encode", "learn", "generate")]
    assert "bico.api" not in closure(*steps, module_of("bico", "learn"), module_of("bico", "compose"))


def test_the_page_lists_every_function():
    page = (ROOT / "docs" / "python.md").read_text()
    assert [name for name in api.__all__ if f"`{name}" not in page] == []


@pytest.mark.parametrize("changed", ["shift", "settings", "captions", "frames", "masks"])
def test_a_training_with_another_argument_begins_anew(backbone, image, tmp_path, changed):
    often, left = FEW.model_copy(update={"checkpoint_every": 2}), np.zeros((32, 32), np.float32)
    left[:, :16] = 1
    given = {"frames": image, "captions": api.own_captions(image, CAPTIONS), "settings": often, "shift": 3.0}
    given |= {"masks": ()}
    others = {
        "frames": 255 - image,
        "captions": api.own_captions(image, ["a video of a cat"]),
        "shift": 9.0,
        "settings": often.model_copy(update={"learning_rate": 1e-3}),
        "masks": [left],
    }
    first = api.learn_binder(backbone, **given, workdir=tmp_path).tensors
    other = api.learn_binder(backbone, **given | {changed: others[changed]}, workdir=tmp_path).tensors
    assert any(not np.array_equal(first[name], other[name]) for name in first)
