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


def test_its_layers_have_the_names_under_which_comfyui_knows_wans(tmp_path: Path) -> None:
    """There a key is "diffusion_model." with a weight's name in Wan's code, and the parts are lora_A and lora_B."""
    assert run(learned("db_lora").artifacts["still"], tmp_path / "lora.safetensors") == 0
    attention = [f"{kind}.{layer}" for kind in ("self_attn", "cross_attn") for layer in "qkvo"]
    assert set(load_file(tmp_path / "lora.safetensors")) == {
        f"diffusion_model.blocks.{block}.{layer}.lora_{part}.weight"
        for block in range(3)
        for layer in (*attention, "ffn.0", "ffn.2")
        for part in "AB"
    }


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
