"""DualReal (Wang et al., ICCV 2025): identity and motion adapters of one image and one video, trained together.

Kept: four adapters a block, beside attention and feed-forward, whose outputs are added before the AdaLN gate, the
identity's with weight alpha and the motion's with 0.2 - alpha; a controller ("StageBlender") that reads the noisy
tokens and the noise level and gives one alpha to each group of blocks, 0.1 at the start; joint training, in which a
step learns identity or motion while the other half takes part as it is. Motion adapters are told the CLIP embedding of
a random frame of the clip, in identity steps zeros, and at inference that of the subject's image, in both passes.

Changed for this backbone: CogVideoX has one attention over text and video tokens. Here the adapters stand beside the
self-attention; text stays in the cross-attention, neither adapted nor read by the controller. Changed so that the
untrained method is the backbone: an adapter adds its change alone, while the original's also adds its input. The
prompts are the sources' captions, and at inference the plain prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bico.config.schema import DualRealSettings, Media, Sampling
from bico.core.transfer import to_device
from bico.methods.base import Job, compositions, guided, load_artifact, project
from bico.methods.training import Group, Loss, NoiseLevels, Stage, fit, flow_matching_loss, seeded, warm_up_cosine
from bico.models.adapter import Adapter, beside, tell
from bico.models.wan.backbone import Backbone
from bico.sources.encoding import EncodedSource

LAYERS = ("attn1", "ffn")
TOTAL_WEIGHT = 0.2
"""Of the identity and the motion adapter of a layer together."""
MOTION_SHARE = 0.5
"""Of the training steps."""


class Controller(nn.Module):
    """From the noisy tokens and the time embedding to one alpha in (0, 0.2) for each group of blocks.

    Args:
        width: of a token and of the time embedding.
        hidden: width inside.
        groups: of blocks.
    """

    def __init__(self, width: int, hidden: int, groups: int) -> None:
        super().__init__()
        self.summary, self.modulation = nn.Linear(width, hidden), nn.Linear(width, 3 * hidden)
        self.norm = nn.LayerNorm(hidden)
        self.mixing = nn.Sequential(nn.Linear(hidden, 4 * hidden), nn.GELU("tanh"), nn.Linear(4 * hidden, hidden))
        self.decision = nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.out = nn.Linear(hidden, groups)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, pooled: Tensor, time: Tensor) -> Tensor:
        """Alphas [batch, groups] from pooled tokens [batch, width] and time embedding [batch, width]."""
        summary = self.summary(pooled.float())
        shift, scale, gate = self.modulation(F.silu(time.float())).chunk(3, dim=1)
        mixed = self.mixing(self.norm(summary) * (1 + scale) + shift) + gate * summary
        return TOTAL_WEIGHT * self.out(self.decision(mixed)).sigmoid()


class Mixture(nn.Module):
    """The two adapters beside one layer.

    Attributes:
        alpha: weight of the identity adapter in the running pass, [batch, 1, 1].
    """

    def __init__(self, identity: Adapter, motion: Adapter) -> None:
        super().__init__()
        self.identity, self.motion = identity, motion
        self.alpha = torch.empty(0)

    def forward(self, tokens: Tensor) -> Tensor:
        """What to add to the layer's output [batch, tokens, width], from its input of the same shape."""
        return self.alpha * self.identity(tokens) + (TOTAL_WEIGHT - self.alpha) * self.motion(tokens)


class JointAdapters(nn.Module):
    """All that a case learns.

    Attributes:
        alphas: weights of the identity adapters in the running pass, [batch, groups].
    """

    def __init__(self, width: int, num_blocks: int, appearance_width: int, settings: DualRealSettings) -> None:
        super().__init__()

        def adapters(condition_width: int) -> nn.ModuleList:
            return nn.ModuleList(
                nn.ModuleDict({layer: Adapter(width, settings.bottleneck, condition_width) for layer in LAYERS})
                for _ in range(num_blocks)
            )

        self.identity, self.motion = adapters(0), adapters(appearance_width)
        self.controller = Controller(width, settings.controller_width, settings.groups)
        self.blocks_per_group = num_blocks // settings.groups
        self.alphas = torch.empty(0)

    @contextmanager
    def beside(self, transformer: nn.Module) -> Iterator[None]:
        """Active for as long as the context lasts."""
        # Each pass embeds the patches first, then the time, then runs the blocks.
        pooled = torch.empty(0)
        mixtures = [  # group of the block, layer, what stands beside it
            (
                number // self.blocks_per_group,
                block.get_submodule(layer),
                Mixture(self.identity[number][layer], self.motion[number][layer]),
            )
            for number, block in enumerate(transformer.blocks)
            for layer in LAYERS
        ]

        def pool(layer: nn.Module, inputs: tuple[Tensor], patches: Tensor) -> None:
            nonlocal pooled
            pooled = patches.flatten(2).amax(dim=2)

        def weigh(layer: nn.Module, inputs: tuple[Tensor], time: Tensor) -> None:
            self.alphas = self.controller(pooled, time)
            for group, _, mixture in mixtures:
                mixture.alpha = self.alphas[:, group, None, None]

        handles = [
            transformer.patch_embedding.register_forward_hook(pool),
            transformer.condition_embedder.time_embedder.register_forward_hook(weigh),
        ]
        try:
            with beside((layer, mixture) for _, layer, mixture in mixtures):
                yield
        finally:
            for handle in handles:
                handle.remove()


def learn(
    backbone: Backbone,
    encoded: Mapping[str, EncodedSource],
    settings: DualRealSettings,
    *,
    shift: float,
    seed: int,
    workdir: Path,
    progress: str = "",
) -> dict[str, Tensor]:
    """Learns `JointAdapters.state_dict` of an image and a video; float32.

    The image's CLIP embedding goes with it as "appearance", [appearance width].
    """
    by_kind = {source.kind: source for source in encoded.values()}
    image = by_kind["image"]
    adapters = initial(backbone, image.appearance.shape[1], settings, seed)
    parts = adapters.named_children()  # identity, motion, controller
    with adapters.beside(backbone.transformer), backbone.compiled():
        fit(
            [Group(dict(part.named_parameters(prefix=name)), settings.learning_rate) for name, part in parts],
            [Stage("joint", settings.steps, joint_loss(backbone, by_kind, settings, adapters, NoiseLevels(shift)))],
            settings,
            seed=seed,
            workdir=workdir,
            rate=partial(warm_up_cosine, warm_up=settings.warm_up, steps=settings.steps),
            clip_norm=settings.clip_norm,
            progress=progress,
            report=lambda: {"alpha": adapters.alphas.mean()},
        )
    return {name: tensor.cpu() for name, tensor in adapters.state_dict().items()} | {"appearance": image.appearance[0]}


def initial(backbone: Backbone, appearance_width: int, settings: DualRealSettings, seed: int) -> JointAdapters:
    """Untrained adapters and their controller."""
    width, num_blocks = backbone.width, backbone.num_blocks  # opens the transformer, which draws random numbers
    with seeded(seed):
        adapters = JointAdapters(width, num_blocks, appearance_width, settings)
    return adapters.to(backbone.device)


def joint_loss(
    backbone: Backbone,
    by_kind: Mapping[str, EncodedSource],
    settings: DualRealSettings,
    adapters: JointAdapters,
    noise: NoiseLevels,
) -> Loss:
    """The loss of a step, which is of the image or of the video. Only that half and the controller get a gradient."""

    def loss(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        motion = torch.rand((), generator=generator).item() < MOTION_SHARE
        adapters.identity.requires_grad_(not motion)
        adapters.motion.requires_grad_(motion)
        encoded = by_kind["video" if motion else "image"]
        batch = encoded.draw(settings.batch_size, generator, frames=False)
        sigmas = noise.draw(settings.batch_size, generator)
        appearance = None
        if motion:
            frames = torch.randint(len(encoded.appearance), (settings.batch_size,), generator=generator)
            appearance = to_device(encoded.appearance[frames], backbone.device)
        tell(adapters.motion, appearance)
        with torch.no_grad():
            context = backbone.context(batch.prompt_embeds)
        yield flow_matching_loss(backbone, batch.latents, context, sigmas, generator), sigmas

    return loss


def compose(
    backbone: Backbone, jobs: Iterable[Job], settings: DualRealSettings, sampling: Sampling, media: Media
) -> Iterator[tuple[Job, np.ndarray]]:
    """Clips uint8 [T, H, W, 3] of the plain prompts, with the adapters of each case."""
    negative, own = project(backbone, sampling.negative_prompt), guided(sampling, settings.guidance_scale)
    for first, *rest in compositions(jobs):
        adapters = restored(backbone, load_artifact(first.artifacts["case"])[0], settings)
        context = project(backbone, first.case.prompt)
        with adapters.beside(backbone.transformer):
            for job in (first, *rest):
                yield job, backbone.generate(context, negative, [job.seed], own, media)[0]


def restored(backbone: Backbone, tensors: Mapping[str, Tensor], settings: DualRealSettings) -> JointAdapters:
    """What `learn` returned, told the appearance of the image."""
    appearance = tensors["appearance"][None]
    with torch.device("meta"):  # no random weights first
        adapters = JointAdapters(backbone.width, backbone.num_blocks, appearance.shape[1], settings)
    learned = {name: tensor for name, tensor in tensors.items() if name != "appearance"}
    adapters.load_state_dict(learned, assign=True)
    tell(adapters.motion, appearance.to(backbone.device))
    return adapters.to(backbone.device).requires_grad_(False)
