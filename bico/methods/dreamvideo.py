"""DreamVideo (Wei et al., CVPR 2024): an identity adapter of an image and a motion adapter of a video, active together.

Kept: a subject's word becomes vectors first (textual inversion), then an adapter parallel to the text cross-attention
learns its details, with no condition. A motion adapter is told what a random frame of its clip looks like, by that
frame's CLIP embedding c, so that it need not learn the appearance itself ("appearance guidance"), and goes without text
half of the time. At inference c is that of the subject's image, and zero in the unconditional pass.

Changed for this backbone: the U-Net has spatial layers, where identity adapters stand, and temporal ones, where motion
adapters stand. A DiT has no such split: every layer sees space and time. What tells the two apart is the layers beside
which they stand (cross-attention; self-attention and feed-forward), and only the appearance keeps a motion adapter from
learning how its clip looks. Changed for compositions of many sources: every key word of an image gets vectors, the
adapters of all sources add up, and the appearance is the mean over the images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bico.config.schema import DreamVideoSettings, Media, Sampling
from bico.core.transfer import to_device
from bico.methods.base import Job, compositions, guided, load_artifact, project
from bico.methods.textual_inversion import Inversion, inverted
from bico.methods.training import Group, NoiseLevels, Stage, fit, flow_matching_loss, seeded
from bico.models.adapter import Adapter, beside, tell
from bico.models.wan.backbone import Backbone
from bico.sources.encoding import EncodedSource

LAYERS = {"image": ("attn2",), "video": ("attn1", "ffn")}
"""Layers of a block beside which the adapters of a source stand. Those of a video see the appearance."""


class Adapters(nn.Module):
    """The adapters of one source, in every block. Those of a video are told the appearance, c."""

    def __init__(self, kind: str, width: int, num_blocks: int, appearance_width: int) -> None:
        super().__init__()
        condition_width = appearance_width if kind == "video" else 0
        self.blocks = nn.ModuleList(
            nn.ModuleDict({layer: Adapter(width, width // 2, condition_width) for layer in LAYERS[kind]})
            for _ in range(num_blocks)
        )

    def places(self, transformer: nn.Module) -> Iterator[tuple[nn.Module, Adapter]]:
        """Each layer of the transformer and the adapter beside it."""
        for block, adapters in zip(transformer.blocks, self.blocks, strict=True):
            for layer, adapter in adapters.items():
                yield block.get_submodule(layer), adapter


def learn(
    backbone: Backbone,
    encoded: EncodedSource,
    settings: DreamVideoSettings,
    *,
    shift: float,
    seed: int,
    workdir: Path,
    progress: str = "",
) -> dict[str, Tensor]:
    """Learns "adapters.<name>" of `Adapters`, and of an image "vectors.<number> <word>"; float32.

    An image's CLIP embedding goes with them as "appearance", [appearance width].
    """
    adapters = initial(backbone, encoded, seed)
    groups = [Group(dict(adapters.named_parameters()), settings.learning_rate)]
    noise = NoiseLevels(shift)
    if encoded.kind == "image":
        inversion = Inversion(backbone, encoded, settings.vectors)
        groups.append(Group(inversion.vectors, settings.inversion_rate))
        stages = identity_stages(backbone, encoded, settings, adapters, inversion, noise)
    else:
        stages = [motion_stage(backbone, encoded, settings, adapters, noise)]
    with beside(adapters.places(backbone.transformer)), backbone.compiled():
        fit(
            groups,
            stages,
            settings,
            seed=seed,
            workdir=workdir,
            progress=progress,
        )
    learned = {f"adapters.{name}": tensor.cpu() for name, tensor in adapters.state_dict().items()}
    if encoded.kind == "image":
        learned |= {f"vectors.{name}": vectors for name, vectors in inversion.learned().items()}
        learned["appearance"] = encoded.appearance[0]
    return learned


def initial(backbone: Backbone, encoded: EncodedSource, seed: int) -> Adapters:
    """Untrained adapters for a source of this kind."""
    width, num_blocks = backbone.width, backbone.num_blocks  # opens the transformer, which draws random numbers
    with seeded(seed):
        adapters = Adapters(encoded.kind, width, num_blocks, encoded.appearance.shape[1])
    return adapters.to(backbone.device)


def identity_stages(
    backbone: Backbone,
    encoded: EncodedSource,
    settings: DreamVideoSettings,
    adapters: Adapters,
    inversion: Inversion,
    noise: NoiseLevels,
) -> list[Stage]:
    """Of an image: its vectors, then its adapters under prompts that hold the finished vectors."""

    def vectors_loss(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        adapters.requires_grad_(False)
        return inversion.loss(noise, settings.batch_size, generator)

    @cache
    def prompts() -> Tensor:
        with torch.no_grad():
            contexts = inversion.context(range(inversion.prompts))
        del backbone.text_encoder  # the adapters need it no more, and it is larger than the transformer
        return contexts

    def identity_loss(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        adapters.requires_grad_(True)
        sigmas = noise.draw(settings.batch_size, generator)
        picked = torch.randint(inversion.prompts, (settings.batch_size,), generator=generator)
        context = prompts()[to_device(picked, backbone.device)]
        latents = encoded.latents.expand(settings.batch_size, *encoded.latents.shape)
        yield flow_matching_loss(backbone, latents, context, sigmas, generator), sigmas

    return [
        Stage("vectors", settings.inversion_steps, vectors_loss),
        Stage("identity", settings.identity_steps, identity_loss),
    ]


def motion_stage(
    backbone: Backbone, encoded: EncodedSource, settings: DreamVideoSettings, adapters: Adapters, noise: NoiseLevels
) -> Stage:
    """Of a video: its adapters, under its captions or none, with the appearance of a random frame."""

    # Long clips go one by one: the activations of four would take 50 GiB.
    at_once = 1 if backbone.recomputing(encoded.latents.shape) else settings.batch_size

    def loss(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        batch = encoded.draw(settings.batch_size, generator, frames=False)
        sigmas = noise.draw(settings.batch_size, generator)
        without_text = torch.rand(settings.batch_size, generator=generator) < settings.text_dropout
        prompt_embeds = encoded.empty_prompt_embeds.where(without_text[:, None, None], batch.prompt_embeds)
        frames = torch.randint(len(encoded.appearance), (settings.batch_size,), generator=generator)
        with torch.no_grad():
            context = backbone.context(prompt_embeds)
        for clips in torch.arange(settings.batch_size).split(at_once):
            tell(adapters, to_device(encoded.appearance[frames[clips]], backbone.device))
            mean = flow_matching_loss(backbone, batch.latents[clips], context[clips], sigmas[clips], generator)
            yield mean * len(clips) / settings.batch_size, sigmas[clips]

    return Stage("motion", settings.motion_steps, loss)


def compose(
    backbone: Backbone, jobs: Iterable[Job], settings: DreamVideoSettings, sampling: Sampling, media: Media
) -> Iterator[tuple[Job, np.ndarray]]:
    """Clips uint8 [T, H, W, 3] with the adapters of all sources, and the vectors of the images, of a case."""
    for first, *rest in compositions(jobs):
        artifacts = {source: load_artifact(first.artifacts[source])[0] for source in first.case.bind}
        learned = {source: within(tensors, "vectors.") for source, tensors in artifacts.items()}
        context = inverted(backbone, first.case, {source: vectors for source, vectors in learned.items() if vectors})
        negative = project(backbone, sampling.negative_prompt)
        own = guided(sampling, settings.guidance_scale)
        with active(backbone, list(artifacts.values())) as before_pass:
            for job in (first, *rest):
                latents = backbone.sample(context, negative, job.seed, own, media, before_pass=before_pass)
                yield job, backbone.decode_clip(latents)[0]


@contextmanager
def active(backbone: Backbone, artifacts: list[Mapping[str, Tensor]]) -> Iterator[Callable[[bool], None]]:
    """The adapters of all sources beside their layers; yields what shows them the appearance in conditional passes."""
    images = [tensors["appearance"] for tensors in artifacts if "appearance" in tensors]
    appearance = torch.stack(images).mean(dim=0, keepdim=True).to(backbone.device) if images else None
    everyone = [restored(backbone, within(tensors, "adapters.")) for tensors in artifacts]

    def before_pass(conditional: bool) -> None:
        for adapters in everyone:
            tell(adapters, appearance if conditional else None)

    with beside(pair for adapters in everyone for pair in adapters.places(backbone.transformer)):
        yield before_pass


def restored(backbone: Backbone, tensors: Mapping[str, Tensor]) -> Adapters:
    """Adapters from their tensors, which tell of what kind of source they are."""
    condition = tensors.get("blocks.0.attn1.condition.weight")
    kind, appearance_width = ("image", 0) if condition is None else ("video", condition.shape[1])
    with torch.device("meta"):  # no random weights first
        adapters = Adapters(kind, backbone.width, backbone.num_blocks, appearance_width)
    adapters.load_state_dict(dict(tensors), assign=True)
    return adapters.to(backbone.device).requires_grad_(False)


def within(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
