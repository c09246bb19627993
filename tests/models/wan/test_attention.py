import pytest
import tiny
import torch
from torch.nn.attention import SDPBackend

from bico.models.wan.attention import attention_kernels, rotated
from bico.models.wan.backbone import Backbone


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sampling_and_training_rotate_to_the_same_bits(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(2, 30, 4, 48, generator=draw).to(dtype)
    cos, sin = torch.randn(2, 1, 30, 1, 24, generator=draw).repeat_interleave(2, dim=-1)
    training = rotated(states, cos, sin, in_place=False)
    assert torch.equal(rotated(states, cos, sin, in_place=True), training) and training.dtype == dtype


def test_written_out_attention_of_training_agrees_with_the_fused_one(backbone: Backbone) -> None:
    context, _ = tiny.contexts(backbone)
    latents, timesteps = torch.randn(1, 4, 2, 4, 4), torch.tensor([500.0])
    fused, written_out = (backbone.velocity(latents, timesteps, context, training=each) for each in (False, True))
    torch.testing.assert_close(written_out, fused)


def test_attention_takes_the_fastest_kernel_that_there_is(capsys: pytest.CaptureFixture) -> None:
    assert attention_kernels(None, torch.float32) == []
    assert attention_kernels((9, 0), torch.bfloat16)[:2] == [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]
    assert attention_kernels((8, 0), torch.bfloat16)[0] == SDPBackend.FLASH_ATTENTION
    assert capsys.readouterr().err == ""
    assert SDPBackend.FLASH_ATTENTION not in attention_kernels((7, 5), torch.bfloat16)
    notice = "no flash attention in bfloat16 on a GPU of compute capability 7.5: attention uses a slower kernel\n"
    assert capsys.readouterr().err == notice
    assert SDPBackend.FLASH_ATTENTION not in attention_kernels((9, 0), torch.float32)
