"""Files of what a method learned."""

from pathlib import Path

import torch

from bico.training.artifacts import load_artifact, save_artifact


def test_tensors_lie_alike_in_memory_whatever_the_metadata_says(tmp_path: Path) -> None:
    """Else a clip would hang on the length of its source's name: kernels round by alignment."""
    offsets = set()
    for length in range(8, 72, 8):
        path = tmp_path / f"{length}.safetensors"
        save_artifact(path, {"a": torch.ones(64), "b": torch.ones(64)}, {"source": "x" * length})
        offsets |= {tensor.data_ptr() % 32 for tensor in load_artifact(path)[0].values()}
    assert offsets == {0}


def test_matrices_alone_are_rounded_and_both_kinds_are_read_as_float32(tmp_path: Path) -> None:
    tensors = {"matrix": torch.randn(300, 300), "vector": torch.randn(300), "number": torch.tensor(1 / 3)}
    stored = {"wide": torch.float32, "narrow": torch.bfloat16}
    for name, dtype in stored.items():
        save_artifact(tmp_path / name, tensors, {}, matrices=dtype)
        read, _ = load_artifact(tmp_path / name)
        assert {tensor.dtype for tensor in read.values()} == {torch.float32}
        expected = tensors | {"matrix": tensors["matrix"].to(dtype).float()}
        assert all(torch.equal(read[key], expected[key]) for key in tensors)
    sizes = [(tmp_path / name).stat().st_size for name in stored]
    assert sizes[1] < 0.51 * sizes[0]
