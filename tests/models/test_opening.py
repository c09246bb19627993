"""Model folders with the right names and the wrong content: each is one line, and none is opened."""

import json
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import UMT5EncoderModel

from bico.core.errors import InputError
from bico.models.clip import Clip
from bico.models.vlm import Vlm
from bico.models.wan.backbone import Backbone
from bico.models.weights import one_line
from bico.scoring.dino_judge import DinoJudge
from bico.zoo import clip as zoo_clip
from bico.zoo import dino as zoo_dino
from bico.zoo.vlm.answers import sample_texts
from bico.zoo.vlm.model import build as build_vlm


@pytest.fixture
def wan(tmp_path) -> Path:
    return Path(shutil.copytree(tiny.folder(), tmp_path / "wan"))


@pytest.fixture
def clip(tmp_path) -> Path:
    folder = tmp_path / "vit_base_patch32_clip_224.openai"
    zoo_clip.write_folder(folder, *zoo_clip.build(["a cat"]))
    return folder


def set_in(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def damage(folder: Path, how: str) -> None:
    """Takes one tensor out of the folder's weights, gives it another shape, or takes the file away."""
    (file,) = folder.glob("*.safetensors")
    tensors = load_file(file)
    name = next(name for name in sorted(tensors) if name.endswith("weight") and "norm" not in name)
    if how == "gone":
        file.unlink()
        return
    tensor = tensors.pop(name)
    save_file(tensors | ({name: tensor[:-1].clone()} if how == "shape" else {}), file, metadata={"format": "pt"})


def refused(opens, where: Path) -> str:
    with pytest.raises(InputError) as caught:
        opens()
    message = str(caught.value)
    assert str(where) in message and "expected" in message and "\n" not in message
    return message


@pytest.mark.parametrize("how", ["missing", "shape", "gone"])
@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_a_backbone_that_lacks_a_weight_is_not_opened(wan: Path, part: str, how: str) -> None:
    damage(wan / part, how)
    refused(lambda: getattr(Backbone.open(wan), part), wan / part)


def test_a_weight_that_an_index_names_and_no_file_holds_is_missed(wan: Path) -> None:
    folder = wan / "transformer"
    opened = WanTransformer3DModel.from_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    opened.save_pretrained(folder, max_shard_size="60KB")
    shard = min(folder.glob("*.safetensors"))
    tensors = load_file(shard)
    name = min(tensors)
    del tensors[name]
    save_file(tensors, shard, metadata={"format": "pt"})
    assert name in refused(lambda: Backbone.open(wan).transformer, folder)


@pytest.mark.parametrize("how", ["missing", "shape", "gone"])
def test_a_vlm_that_lacks_a_weight_is_not_opened(tmp_path: Path, how: str) -> None:
    build_vlm(tmp_path / "vlm", sample_texts(50), seed=0)
    damage(tmp_path / "vlm", how)
    refused(lambda: Vlm(tmp_path / "vlm", device="cpu"), tmp_path / "vlm")


@pytest.mark.parametrize("how", ["missing", "shape", "gone"])
def test_a_judge_that_lacks_a_weight_is_not_opened(tmp_path: Path, how: str) -> None:
    zoo_clip.write_folder(tmp_path / "clip", *zoo_clip.build(["a cat"]))
    zoo_dino.write_folder(tmp_path / "dino", zoo_dino.build())
    for name, judge in {"clip": Clip, "dino": DinoJudge}.items():
        damage(tmp_path / name, how)
        refused(lambda judge=judge, name=name: judge(tmp_path / name), tmp_path / name)


def test_a_dino_of_a_classifier_that_lacks_a_weight_is_not_opened(tmp_path: Path) -> None:
    """timm reads files less strictly where it has to take a classifier off."""
    zoo_dino.write_folder(tmp_path / "dino", zoo_dino.build())
    set_in(tmp_path / "dino" / "config.json", num_classes=10)
    DinoJudge(tmp_path / "dino")
    damage(tmp_path / "dino", "missing")
    refused(lambda: DinoJudge(tmp_path / "dino"), tmp_path / "dino")


def test_text_embeddings_that_the_library_leaves_loose_are_not_opened(wan: Path, monkeypatch) -> None:
    monkeypatch.setattr(UMT5EncoderModel, "_tied_weights_keys", {})
    assert "embed_tokens" in refused(lambda: Backbone.open(wan).text_encoder, wan / "text_encoder")


def test_text_embeddings_that_differ_in_the_files_are_not_opened(wan: Path) -> None:
    file = wan / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    apart = {"encoder.embed_tokens.weight": torch.randn_like(tensors["shared.weight"])}
    save_file(tensors | apart, file, metadata={"format": "pt"})
    assert "embed_tokens" in refused(lambda: Backbone.open(wan).text_encoder, wan / "text_encoder")


def test_openai_weights_are_not_opened_without_their_activation(clip: Path) -> None:
    config = clip / "open_clip_config.json"
    assert "quick_gelu" in refused(lambda: Clip(clip), config)
    set_in(config, model_cfg=json.loads(config.read_text())["model_cfg"] | {"quick_gelu": True})
    assert Clip(clip).model.visual.transformer.resblocks[0].mlp.gelu.__class__.__name__ == "QuickGELU"


def test_a_gpu_that_is_full_is_not_taken_for_a_broken_folder(tmp_path: Path) -> None:
    def opens() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError), one_line(tmp_path):
        opens()


def write_wan_tokenizer(wan: Path, *, unknown: int, end: str = " </s>") -> None:
    """Wan's special ids, and the class that its folder names; `unknown` is the id of unknown characters."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<s>", 0.0), ("<unk>", 0.0), ("▁", -3.0), ("▁cat", -2.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=unknown))
    puts_in = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(puts_in)
    tokenizer.post_processor = processors.TemplateProcessing("$A" + end, special_tokens=[("</s>", 1)])
    folder = wan / "tokenizer"
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "bos_token": "<s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", **special}))


def test_an_unknown_character_is_unknown_in_wan_s_tokenizer(wan: Path) -> None:
    """T5's class, rebuilt from the vocabulary, would make token 2 of it: `<s>`."""
    write_wan_tokenizer(wan, unknown=3)
    assert Backbone.open(wan).tokenizer("cat 猫").input_ids == [5, 4, 3, 1]


def test_a_tokenizer_with_other_special_tokens_is_not_opened(wan: Path) -> None:
    write_wan_tokenizer(wan, unknown=2)
    assert "<s>" in refused(lambda: Backbone.open(wan).tokenizer, wan / "tokenizer")
    write_wan_tokenizer(wan, unknown=3, end="")
    assert "do not end with </s>" in refused(lambda: Backbone.open(wan).tokenizer, wan / "tokenizer")
    write_wan_tokenizer(wan, unknown=3)
    for kind in ("pad", "eos"):
        config = wan / "text_encoder" / "config.json"
        before = config.read_text()
        set_in(config, **{f"{kind}_token_id": 7})
        assert kind in refused(lambda: Backbone.open(wan).tokenizer, wan / "tokenizer")
        config.write_text(before)
