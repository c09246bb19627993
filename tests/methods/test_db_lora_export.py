"""A LoRA for other software: diffusers opens it and acts as our own row does, and the names are those of Wan's code."""

from pathlib import Path

import pytest
import tiny
import torch
from learned import learned
from safetensors.torch import load_file, save_file

from bico.cli.main import main
from bico.methods.db_lora.compose import merged
from bico.training.artifacts import load_artifact, save_artifact


def run(*arguments: object) -> int:
    return main(["export-lora", *map(str, arguments)])


def velocity(transformer: torch.nn.Module) -> torch.Tensor:
    """The velocity [1, 4, 2, 4, 4] of inputs that never change."""
    noise = torch.Generator().manual_seed(0)
    latents, text = torch.randn(1, 4, 2, 4, 4, generator=noise), torch.randn(1, 7, 32, generator=noise)
    with torch.no_grad():
        return transformer(latents, torch.tensor([500.0]), text, return_dict=False)[0]


@pytest.mark.parametrize("source", ["still", "clip"])  # of ranks 4 and 6
def test_diffusers_opens_it_and_its_transformer_does_what_ours_does_with_the_lora(source: str, tmp_path: Path) -> None:
    artifact, out = learned("db_lora").artifacts[source], tmp_path / "lora.safetensors"
    assert run(artifact, out) == 0
    pipeline = tiny.saved_pipeline()
    plain = velocity(pipeline.transformer)
    with merged(pipeline.transformer, [load_artifact(artifact)[0]], weight=1.0):
        ours = velocity(pipeline.transformer)
    pipeline.load_lora_weights(out)
    theirs = velocity(pipeline.transformer)
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)
    assert (ours - plain).abs().max() > 100 * (theirs - ours).abs().max()
    pipeline.unload_lora_weights()
    assert torch.equal(velocity(pipeline.transformer), plain)


WANS = {f"attn{n}": f"{kind}_attn" for n, kind in ((1, "self"), (2, "cross"))}
WANS |= {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "o", "net.0.proj": "0", "net.2": "2"}
"""Parts of the names of a block's layers in diffusers, and in Wan's own code and ComfyUI (comfy/ldm/wan/model.py)."""


def in_comfyui(weights: dict[str, torch.Tensor], lora: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What ComfyUI (comfy/lora.py, comfy/weight_adapter/lora.py, 2026-11) makes of a model's weights at strength 1: it
    looks for the name of each without ".weight", adds lora_B @ lora_A, and scales that only where there is an alpha.
    What is left over of the file it does not load, with a line for each in its log."""
    left, changed = dict(lora), dict(weights)
    for name, weight in weights.items():
        key = name.removesuffix(".weight")
        assert f"{key}.alpha" not in lora
        if f"{key}.lora_B.weight" in lora:
            changed[name] = weight + left.pop(f"{key}.lora_B.weight") @ left.pop(f"{key}.lora_A.weight")
    assert left == {}
    return changed


def test_comfyui_makes_of_it_the_weights_of_our_row(tmp_path: Path) -> None:
    artifact, transformer = learned("db_lora").artifacts["still"], tiny.saved_pipeline().transformer
    assert run(artifact, tmp_path / "lora.safetensors") == 0

    def weights() -> dict[str, torch.Tensor]:
        """Those of a block's linear layers, as ComfyUI calls them."""
        named = {}
        for name, module in transformer.blocks.named_modules():
            if isinstance(module, torch.nn.Linear):
                for ours, wans in WANS.items():
                    name = name.replace(f".{ours}", f".{wans}")
                named[f"diffusion_model.blocks.{name}.weight"] = module.weight.detach().clone()
        return named

    plain = weights()
    theirs = in_comfyui(plain, load_file(tmp_path / "lora.safetensors"))
    with merged(transformer, [load_artifact(artifact)[0]], weight=1.0):
        ours = weights()
    assert len(ours) == 3 * 10
    for name, weight in ours.items():
        torch.testing.assert_close(theirs[name], weight)
        assert not torch.equal(weight, plain[name])


def test_what_is_no_whole_lora_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    whole, _ = load_artifact(learned("db_lora").artifacts["still"])
    layer = "blocks.1.attn2.to_v.lora_B"
    broken = {
        "missing": ({name: tensor for name, tensor in whole.items() if name != layer}, f"missing: {layer}"),
        "narrow": (whole | {layer: whole[layer][:3].clone()}, f"of another shape: {layer} [3, 4] instead of [24, 4]"),
        "nan": (whole | {layer: whole[layer] * torch.nan}, f"not finite: {layer}"),
        "binder": (load_artifact(learned("bico").artifacts["still"])[0], "there is no LoRA in it"),
    }
    for name, (tensors, reason) in broken.items():
        save_artifact(tmp_path / f"{name}.safetensors", tensors, {})
        capsys.readouterr()
        assert run(tmp_path / f"{name}.safetensors", tmp_path / "out.safetensors") == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {tmp_path / name}.safetensors: {reason}") and error.count("\n") == 1
    save_file(whole, tmp_path / "other.safetensors")
    for name, reason in (("other", "there is no LoRA in it"), ("gone", "cannot be read")):
        assert run(tmp_path / f"{name}.safetensors", tmp_path / "out.safetensors") == 2
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


def test_the_file_that_is_read_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    artifact = tmp_path / "lora.safetensors"
    artifact.write_bytes(learned("db_lora").artifacts["still"].read_bytes())
    (tmp_path / "link.safetensors").symlink_to(artifact)
    before = artifact.read_bytes()
    assert run(artifact, tmp_path / "link.safetensors") == 2
    assert "which is read: expected another name" in capsys.readouterr().err and artifact.read_bytes() == before
