"""BiCo from Python: learn binders of images and clips, bind words of a prompt to them, make the clip.

    from bico import api

    backbone = api.open_backbone("Wan2.1-T2V-1.3B-Diffusers")
    vlm = api.open_vlm("Qwen2.5-VL-7B-Instruct")
    frames = api.read_media("cat.jpg")
    cat = api.learn_binder(backbone, frames, api.ask_captions(vlm, frames), source="cat")
    ball = api.load_binder("results/learned/bico/ball/0.safetensors")
    clip = api.compose(backbone, "a cat bouncing at the beach", {cat: "cat", ball: "bouncing"})
    api.write_clip("out.mp4", clip)

The functions run the same code as the benchmark, so the same inputs give the same bytes. Only trainings on a GPU differ
by rounding, as those of the benchmark do. Defaults are the paper's values. docs/python.md is the tutorial.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from bico.config.benchmark import Case, KeyWords
from bico.config.section import checked
from bico.config.settings import ConceptSettings, Media, Sampling
from bico.core.device import free_device
from bico.core.errors import InputError
from bico.core.fingerprints import code_digest, folder_digest
from bico.core.records import checkpoints
from bico.media import reading, writing
from bico.media.frames import spread
from bico.media.inspecting import check_mask
from bico.methods.bico.artifact import LearnedBinder
from bico.methods.bico.compose import bind as bind_words
from bico.methods.bico.learn import learn
from bico.methods.bico.settings import Settings, Stages
from bico.methods.shared.prompts import project
from bico.models.vlm import Vlm
from bico.models.wan.backbone import Backbone, GradientCheckpointing
from bico.models.wan.sampling import generate
from bico.pipeline.model_folders import check_model
from bico.pipeline.opening import open_folder
from bico.pipeline.own_files import source_names, swapped_words
from bico.pipeline.preflight import check_size
from bico.prompts.slots import token_offsets
from bico.prompts.text import has_word
from bico.sources.concepts import extract, holds
from bico.sources.encoding import encode_source
from bico.training.artifacts import provenance

if TYPE_CHECKING:
    from bico.config.benchmark import Kind

__all__ = [
    "Backbone",
    "ConceptSettings",
    "InputError",
    "KeyWords",
    "LearnedBinder",
    "Media",
    "Sampling",
    "Settings",
    "Stages",
    "Vlm",
    "ask_captions",
    "compose",
    "learn_binder",
    "load_binder",
    "open_backbone",
    "open_vlm",
    "own_captions",
    "read_mask",
    "read_media",
    "swap_words",
    "write_clip",
]

Captions = Mapping[str, Any]
"""Key words and captions of one source, as `bico.sources.concepts.extract` returns them; `own_captions` returns no
"counts"."""
Frames: TypeAlias = np.ndarray | Sequence[np.ndarray]
"""An image or a clip, or several photographs of one subject."""

MEDIA, SAMPLING, SETTINGS, CONCEPTS = Media(), Sampling(), Settings(), ConceptSettings()
"""The paper's values."""
DEVICES = "auto", "cpu", "cuda"

# --- models ---------------------------------------------------------------------------------------------------------


def open_backbone(
    folder: Path | str,
    *,
    text_slots: int = 512,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    compiles: bool = True,
    gradient_checkpointing: GradientCheckpointing = "auto",
) -> Backbone:
    """Opens a Wan2.1 folder; its components are read when they are first used.

    Args:
        folder: a WanPipeline, as diffusers' `save_pretrained` writes it.
        text_slots: length to which prompts are padded, in tokens; 64 for the Toybox's model.
        device: "auto" = the GPU if there is one. It is then reserved: other jobs of this project do not use it.
        dtype: dtype of transformer and text encoder; "auto" = bfloat16 where it is faster than float32.
        compiles: whether training compiles the transformer's blocks (needs a C++ compiler; half a minute, once).
        gradient_checkpointing: see `Backbone.open`.

    Raises:
        InputError: no such folder, not of a WanPipeline, or device "cuda" without a GPU.
    """
    check_model("wan", Path(folder))
    _check_choice("device", device, DEVICES)
    _check_choice("dtype", dtype, ("auto", "float32", "bfloat16"))
    return open_folder(
        Path(folder),
        text_slots=text_slots,
        device=device,
        dtype=dtype,
        compiles=compiles,
        gradient_checkpointing=gradient_checkpointing,
    )


def open_vlm(folder: Path | str, *, device: Literal["auto", "cpu", "cuda"] = "auto") -> Vlm:
    """Opens a Qwen2.5-VL folder of transformers, in bfloat16 on a GPU, else in float32.

    Raises:
        InputError: no such folder, not of a Qwen2.5-VL, or device "cuda" without a GPU.
    """
    check_model("vlm", Path(folder))
    _check_choice("device", device, DEVICES)
    return Vlm(Path(folder), device=free_device(device))


def _check_choice(name: str, given: str, known: Sequence[str]) -> None:
    if given not in known:
        raise InputError(f"{name}: '{given}': expected one of {', '.join(known)}")


# --- sources and their captions -------------------------------------------------------------------------------------


def read_media(path: Path | str, media: Media = MEDIA, start: float = 0) -> np.ndarray:
    """An image as uint8 [1, H, W, 3] or a video as uint8 [T, H, W, 3], RGB, in the size and length of `media`.

    It is resized to cover the frame and cropped at its centre; a video is resampled to `media.fps` from
    `start` seconds on.

    Raises:
        InputError: the file cannot be read.
    """
    return reading.read_media(Path(path), **dict(media), start=start)


def read_mask(path: Path | str, photograph: Path | str, media: Media = MEDIA) -> np.ndarray:
    """The mask of a photograph in the size of `media`, float32 [H, W], 0 (do not learn) to 1 (learn).

    It is resized and cropped as `read_media` does with the photograph.

    Raises:
        InputError: a file cannot be read, or the mask has another size than its photograph or is black.
    """
    check_mask(Path(path), Path(photograph), (media.width, media.height))
    return reading.read_mask(Path(path), media)


def ask_captions(
    vlm: Vlm,
    frames: Frames,
    *,
    key_words: KeyWords | None = None,
    settings: ConceptSettings = CONCEPTS,
    fps: float = MEDIA.fps,
) -> Captions:
    """Asks a VLM for the key words of a source, and for diversified captions that contain them.

    Args:
        frames: uint8 [T, H, W, 3]; T = 1 for an image. Or several photographs of one subject, [1, H, W, 3] each: the
            captions are divided among them.
        key_words: key words given by hand. If they have spatial ones, the VLM only writes captions.
        settings: the instructions, the number of captions, and how they are sampled. With `look` "original" the VLM
            sees `frames` in their own size, four for each second. The Toybox's VLM needs those of config/toybox.yaml.
        fps: frames per second of `frames`.

    Raises:
        InputError: the VLM names no key words in valid JSON.
    """
    look, *others = _looks(frames)
    return extract(look, _kind(look), settings, vlm, fps=fps, key_words=key_words, others=others)


def own_captions(
    frames: Frames,
    captions: Sequence[str],
    *,
    spatial: Sequence[str] = (),
    temporal: Sequence[str] = (),
    frame_captions: Sequence[str] = (),
    caption_photos: Sequence[int] = (),
) -> Captions:
    """Captions of a source that are written by hand.

    Args:
        frames: uint8 [T, H, W, 3]; T = 1 for an image. Or several photographs of one subject, [1, H, W, 3] each.
        captions: captions of the image or the clip, at least one. They should vary in everything except the words to
            be bound.
        spatial: key words for looks; every caption must contain them verbatim. Only settings with `binds="key_words"`
            or an isolation loss need key words.
        temporal: key words for the motion of a clip; every one of `captions` must contain them verbatim.
        frame_captions: captions of single frames of a clip, evenly spaced from its first to its last; at least one for
            a clip.
        caption_photos: with several photographs, the number from 0 of the one that each caption describes.

    Raises:
        InputError: a caption lacks a key word, or required captions are missing.
    """
    texts_of = {"captions": captions, "spatial": spatial, "temporal": temporal, "frame_captions": frame_captions}
    for name, given in texts_of.items():
        if isinstance(given, str):
            raise InputError(f"{name}: '{given}': expected a list, as in ['{given}']")
        if empty := [text for text in given if not has_word(text)]:
            raise InputError(f"{name}: '{empty[0]}': expected words")
    looks, photos = _looks(frames), [int(number) for number in caption_photos]
    kind, num_frames = _kind(looks[0]), len(looks[0])
    if not captions:
        raise InputError("captions: there is none: expected one sentence at least that says what the source shows")
    if kind == "image" and (temporal or frame_captions):
        raise InputError("temporal, frame_captions: they belong to clips, and this is an image: leave them out")
    if kind == "video" and not 0 < len(frame_captions) <= num_frames:
        raise InputError(
            f"frame_captions: there are {len(frame_captions)}: expected 1 to {num_frames} for this clip, one a frame"
        )
    if len(looks) == 1 and photos:
        raise InputError("caption_photos: it belongs to several photographs, and here is one file: leave it out")
    if len(looks) > 1 and (len(photos) != len(captions) or set(photos) != set(range(len(looks)))):
        raise InputError(
            f"caption_photos: {photos}: expected for each of the {len(captions)} captions which photograph it "
            f"describes, each of 0 to {len(looks) - 1} at least once"
        )
    for name, texts, words in (
        ("captions", captions, [*spatial, *temporal]),
        ("frame_captions", frame_captions, spatial),
    ):
        for text in texts:
            if lost := [word for word in words if not holds(text, [word])]:
                raise InputError(f"{name}: '{lost[0]}' is not in '{text}': expected every key word in it, verbatim")
    return {
        "kind": kind,
        "spatial": list(spatial),
        "temporal": list(temporal),
        "captions": list(captions),
        "frame_captions": list(frame_captions),
        "frame_indices": spread(num_frames, len(frame_captions)),
        **({"caption_photos": photos} if photos else {}),
    }


def _kind(look: np.ndarray) -> Kind:
    return "image" if len(look) == 1 else "video"


def _looks(frames: Frames) -> list[np.ndarray]:
    """The image or clip alone, or every photograph."""
    if not isinstance(frames, Sequence):
        return [frames]
    if not frames or any(len(photograph) != 1 for photograph in frames):
        shapes = [list(photograph.shape) for photograph in frames]
        raise InputError(f"frames: a list of shapes {shapes}: expected photographs alone, uint8 [1, H, W, 3] each")
    return list(frames)


# --- binders --------------------------------------------------------------------------------------------------------


def learn_binder(
    backbone: Backbone,
    frames: Frames,
    captions: Captions,
    *,
    masks: Sequence[np.ndarray] = (),
    settings: Settings = SETTINGS,
    shift: float = SAMPLING.shift,
    seed: int = 0,
    source: str = "source",
    workdir: Path | str | None = None,
) -> LearnedBinder:
    """Learns the binder of one image or clip, or of several photographs of one subject.

    Args:
        frames: uint8 [T, H, W, 3], T = 4k + 1; T = 1 for an image. Or several photographs of one size, [1, H, W, 3]
            each.
        captions: of `ask_captions`, of `own_captions`, or read from `results/concepts/<source>.json`.
        masks: which part of an image to learn, [H, W] in its size, 0 (do not learn) to 1; none, or one a photograph.
            They weight the training loss.
        settings: of the training; those of a row are `load("config/toybox.yaml").methods["bico"]`.
        shift: timestep shift of the noise schedule in training; the authors sample with the same.
        seed: seed of all randomness.
        source: name of the binder in messages and in its file.
        workdir: keeps checkpoints and the training curve, in `<source>.ckpt`. A call with the same arguments continues
            from its checkpoint; with other arguments it empties that folder. None = nothing is kept.

    Raises:
        InputError: frames, captions and settings that do not fit, a loss that is not finite, or another process that
            is at work in `workdir`.
    """
    looks, weights = _looks(frames), [np.asarray(mask, np.float32) for mask in masks]
    _check_frames(backbone, looks)
    _check_masks(weights, looks)
    if captions["kind"] != _kind(looks[0]):
        raise InputError(f"captions: they are of a source of kind {captions['kind']}: expected {_kind(looks[0])}")
    if (described := set(captions.get("caption_photos", [0]))) != set(range(len(looks))):
        raise InputError(
            f"captions: they describe photographs {', '.join(map(str, sorted(described)))}: expected those of "
            f"'frames', 0 to {len(looks) - 1}"
        )
    if (settings.binds == "key_words" or settings.isolation.share > 0) and not captions["spatial"]:
        raise InputError(
            "captions: there are no spatial key words: expected one at least, these settings learn by them"
        )
    if (last := max(captions["frame_indices"], default=0)) >= len(looks[0]):
        raise InputError(f"captions: they describe frame {last}: expected those of these {len(looks[0])} frames")
    pixels = np.concatenate(looks)
    encoded = encode_source(backbone, pixels, captions, weights)
    backbone.offload_text_encoder()  # larger than the transformer, and not needed in training
    if workdir is None:  # checkpoints that no later call can find
        settings = settings.model_copy(update={"checkpoint_every": int(sum(settings.steps_of(_kind(looks[0])))) + 1})
    record = {
        "settings": settings.learning(),
        "shift": shift,
        "seed": seed,
        "captions": captions,
        "frames": hashlib.sha256(pixels.tobytes()).hexdigest(),
        "masks": [hashlib.sha256(mask.tobytes()).hexdigest() for mask in weights],
        "backbone": folder_digest(backbone.folder),
        "text_slots": backbone.text_slots,
        "dtype": str(backbone.dtype),
        "compiles": backbone.compiles,
        "code": code_digest("bico.api"),
    }
    with (
        tempfile.TemporaryDirectory() as unkept,
        checkpoints(Path(workdir or unkept) / f"{source}.safetensors", record) as folder,
    ):
        tensors = learn(
            backbone, encoded, settings, shift=shift, seed=seed, workdir=folder, progress=f"{source} {seed}"
        )
    return LearnedBinder(tensors, provenance(settings, source))


def _check_frames(backbone: Backbone, looks: Sequence[np.ndarray]) -> None:
    """Checks that frames consist of whole patches of latents, and that photographs have one size."""
    for look in looks:
        writing.check_frames("frames:", look)
    if sizes := {look.shape[1:3] for look in looks[1:]} - {looks[0].shape[1:3]}:
        found = ", ".join(f"{height} x {width}" for height, width in [looks[0].shape[1:3], *sorted(sizes)])
        raise InputError(f"frames: photographs of {found} pixels: expected one size, as read_media gives")
    num_frames, height, width, _ = looks[0].shape
    size = {"num_frames": num_frames, "height": height, "width": width}
    check_size(backbone.folder, checked(Media, size, name="frames"))


def _check_masks(masks: Sequence[np.ndarray], looks: Sequence[np.ndarray]) -> None:
    """There are none, or one for each photograph that leaves something of it to learn."""
    if masks and _kind(looks[0]) == "video":
        raise InputError("masks: they belong to images, and this is a clip: leave them out")
    if masks and len(masks) != len(looks):
        raise InputError(f"masks: there are {len(masks)}: expected one for each of the {len(looks)} photographs")
    for mask, look in zip(masks, looks, strict=False):
        if mask.shape != look.shape[1:3]:
            raise InputError(f"masks: shape {list(mask.shape)}: expected {list(look.shape[1:3])}, as the frames have")
        if not (mask.min() >= 0 and 0 < mask.max() <= 1):
            raise InputError(
                f"masks: values from {mask.min():g} to {mask.max():g}: expected 0 to 1, and more than 0 somewhere"
            )


def load_binder(path: Path | str) -> LearnedBinder:
    """Opens a binder: an artifact of a benchmark (`results/learned/bico/<source>/<seed>.safetensors`), or a file of
    `LearnedBinder.save` or `bico import`.

    Raises:
        InputError: the file cannot be read, or there is no binder in it.
    """
    return LearnedBinder.load(Path(path))


# --- clips ----------------------------------------------------------------------------------------------------------


def compose(
    backbone: Backbone,
    prompt: str,
    bind: Mapping[LearnedBinder, str | Sequence[str]],
    *,
    strength: float = 1.0,
    seed: int = 0,
    sampling: Sampling = SAMPLING,
    media: Media = MEDIA,
) -> np.ndarray:
    """Generates the clip of a prompt whose words are bound to sources: uint8 [num_frames, height, width, 3], RGB.

    Binding some words of one source decomposes it; for an edit, see `swap_words`.

    Args:
        bind: binder -> the word or words (or phrases) that it changes, each exactly as in the prompt; {} = the plain
            prompt. If the prompt has a word twice, its first binding takes the first occurrence.
        strength: factor on the binders' change of a token; 0 = the plain prompt, 1 = as trained.
        seed: seed of the noise; it gives the same clip on every run of one machine.

    Raises:
        InputError: a word that is not in the prompt or bound twice, a binder of another backbone, a prompt that is too
            long, or a size that the backbone cannot make.
    """
    check_size(backbone.folder, media)
    for text in (prompt, sampling.negative_prompt):
        token_offsets(backbone.tokenizer, text, backbone.text_slots)
    if others := [given for given in bind if not isinstance(given, LearnedBinder)]:
        raise InputError(f"bind: {others[0]!r}: expected binders, of learn_binder or load_binder, and their words")
    if bind:
        names = source_names(binder.source for binder in bind)
        binders = {name: binder.on(backbone) for name, binder in zip(names, bind, strict=True)}
        words = [[given] if isinstance(given, str) else list(given) for given in bind.values()]
        case = checked(Case, {"prompt": prompt, "bind": dict(zip(names, words, strict=True))}, name="bind")
        contexts = bind_words(backbone, case, binders, strength)
    else:
        contexts = project(backbone, prompt)
    negative = project(backbone, sampling.negative_prompt)
    return generate(backbone, contexts, negative, [seed], sampling, media)[0]


def swap_words(prompt: str, swap: Mapping[str, str]) -> tuple[str, list[str]]:
    """An edit: the prompt with other words, and the phrases of it that stay bound to the source.

        prompt, kept = swap_words("a cat at the beach", {"cat": "robot"})
        clip = compose(backbone, prompt, {cat: kept})  # "a robot at the beach", bound: ["a", "at the beach"]

    Args:
        prompt: a description of the source.
        swap: word of the prompt -> its replacement.

    Raises:
        InputError: a word is not in the prompt, or nothing is left of it.
    """
    return swapped_words(prompt, swap, name="swap")


def write_clip(path: Path | str, clip: np.ndarray, fps: float = MEDIA.fps) -> None:
    """Writes uint8 [T, H, W, 3] as an MP4 that is almost lossless; the same frames give the same bytes.

    Raises:
        InputError: another array, or a path that cannot be written.
    """
    writing.check_frames(f"{path}: a clip of", clip)
    writing.write_clip(Path(path), clip, fps)
