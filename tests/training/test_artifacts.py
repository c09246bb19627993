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
