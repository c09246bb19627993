"""Opens the backbone on its device: that of a config, or one in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from bico.config.schema import Config
from bico.core.device import free_device
from bico.models.wan.backbone import Backbone, GradientCheckpointing
from bico.models.wan.components import chosen_dtype


def open_backbone(config: Config) -> Backbone:
    """The backbone of a config."""
    return open_folder(
        config.models.wan,
        text_slots=config.text_slots,
        device=config.device,
        dtype=config.dtype,
        compiles=config.compile,
        gradient_checkpointing=config.gradient_checkpointing,
    )


def open_folder(
    folder: Path,
    *,
    text_slots: int,
    device: Literal["auto", "cpu", "cuda"],
    dtype: Literal["auto", "float32", "bfloat16"],
    compiles: bool,
    gradient_checkpointing: GradientCheckpointing,
) -> Backbone:
    """The backbone in a folder, on a device that this process has reserved; see `Backbone.open`.

    Args:
        device: "auto" = the GPU if there is one.
        dtype: of transformer and text encoder; "auto" = bfloat16 where it is faster on this device, else float32.

    Raises:
        InputError: device is "cuda" and there is no GPU.
    """
    found = free_device(device)
    return Backbone.open(
        folder,
        text_slots=text_slots,
        device=found,
        dtype=chosen_dtype(dtype, found),
        compiles=compiles,
        gradient_checkpointing=gradient_checkpointing,
    )
