"""Learning the LoRA of a source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bico.core.transfer import to_device
from bico.methods.db_lora.settings import Settings
from bico.methods.shared.prompts import project
from bico.models.wan.acceleration import accelerated, clips_at_once
from bico.models.wan.backbone import Backbone
from bico.sources.encoding import EncodedSource
from bico.training.loop import Group, Preview, Stage, fit
from bico.training.loss import flow_matching_loss
from bico.training.noise import NoiseLevels
from bico.training.randomness import seeded

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

ADAPTER = "db_lora"
LAYERS = r"blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ffn\.net\.(0\.proj|2))"


def learn(
    backbone: Backbone,
    encoded: EncodedSource,
    settings: Settings,
    *,
    shift: float,
    seed: int,
    workdir: Path,
    progress: str = "",
    preview: Preview | None = None,
) -> dict[str, Tensor]:
    """Trains a source's LoRA: "<layer>.lora_A" [rank, in] and "<layer>.lora_B" [out, rank] of each layer, float32."""
    prompts = torch.cat([project(backbone, prompt) for prompt in instance_prompts(encoded, settings.rare_token)])
    backbone.offload_text_encoder()  # larger than the transformer, and not needed in training
    noise = NoiseLevels(shift)

    def loss(generator: torch.Generator, batch_size: int, training: bool) -> tuple[Tensor, Tensor]:
        sigmas = noise.draw(batch_size, generator)
        latents, mask = encoded.draw_looks(batch_size, generator)
        picked = torch.randint(len(prompts), (batch_size,), generator=generator)
        context = prompts[to_device(picked, backbone.device)]
        return flow_matching_loss(backbone, latents, context, sigmas, generator, mask=mask, training=training), sigmas

    rank = settings.video_rank if encoded.kind == "video" else settings.rank
    with adapter(backbone.transformer, rank, seed) as parameters, accelerated(backbone):

        def learned() -> dict[str, Tensor]:
            return {name: parameter.detach().cpu() for name, parameter in parameters.items()}

        fit(
            [Group(parameters, settings.learning_rate)],
            [Stage("lora", settings.steps, loss, clips_at_once(backbone, encoded.latents.shape))],
            settings,
            seed=seed,
            workdir=workdir,
            progress=progress,
            learned=learned,
            preview=preview,
        )
        return learned()


def instance_prompts(encoded: EncodedSource, rare_token: str) -> list[str]:
    """The training prompts of a source: "a sks cat" for an image.

    For a video they are "a cat sks bouncing" and "a sks cat bouncing", because a case may bind its motion or its
    subject, and the rare token stands before the bound word.
    """
    subject = encoded.spatial[0]
    if encoded.temporal:
        motion = encoded.temporal[0]
        return [f"a {subject} {rare_token} {motion}", f"a {rare_token} {subject} {motion}"]
    return [f"a {rare_token} {subject}"]


@contextmanager
def adapter(transformer: WanTransformer3DModel, rank: int, seed: int) -> Iterator[dict[str, nn.Parameter]]:
    """Within the context, the transformer has peft's LoRA layers. Yields their parameters by name."""
    from peft import LoraConfig

    with seeded(seed):
        transformer.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=LAYERS), ADAPTER)
    try:
        found = ((name, weight) for name, weight in transformer.named_parameters() if weight.requires_grad)
        parameters = {name.removesuffix(f".{ADAPTER}.weight"): weight for name, weight in found}
        for weight in parameters.values():
            weight.data = weight.data.float()
        yield parameters
    finally:
        transformer.unload_lora()
