"""The control of diversification: does a binder work as well in new sentences as in the one that it was trained on?

The measure is how much the binder lowers the loss on the source's own image or clip: with the source's first caption,
and with new sentences that say the same in other words. All words pass through the binder, and all losses use the same
noise. A row that trains on one caption saw only the first one.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bico.config.schema import Config
from bico.core.records import load_json
from bico.core.saving import save_csv
from bico.methods.bico.absorption import with_absorption
from bico.methods.bico.artifact import LearnedBinder
from bico.methods.bico.settings import Absorption
from bico.models.binder import HierarchicalBinder
from bico.models.wan.backbone import Backbone
from bico.models.wan.forward_pass import Contexts
from bico.models.wan.schedule import shifted
from bico.plan.controls import measured_sources
from bico.plan.passes import NEW_SENTENCES, NOISES
from bico.plan.trainings import artifact_path
from bico.sources.encoding import EncodedSource
from bico.toybox.captions import caption
from bico.toybox.scenes import scene_of, toy_scene
from bico.training.loss import flow_matching_loss
from bico.training.randomness import step_generator

DRAWS = 200
"""Number of sentences that are drawn to find different ones."""


def gains(config: Config, backbone: Backbone) -> pd.DataFrame:
    """Writes `results/controls/diversification.csv` and returns it: a row per row of the config, source and training.

    Columns: method, source, learning_seed, own (gain for the first caption), new (mean gain for new sentences). A gain
    is the reduction of the loss relative to the frozen backbone with the same sentence, in %.
    """
    found, shift = [], config.learning_shift
    for source in measured_sources(config):
        encoded = EncodedSource.load(config.paths.encoded(source))
        own = encoded.prompt_embeds[:1], encoded.token_counts[:1]
        prompts = {"own": own, "new": backbone.encode_prompts(new_sentences(config, source))}
        unbound = {which: losses(backbone, encoded.latents, *each, shift) for which, each in prompts.items()}
        for row, seed in product(config.controls.rows()["diversification"], config.learning_seeds):
            binder = LearnedBinder.load(artifact_path(config, row, source, seed)).on(backbone)
            bound = {which: losses(backbone, encoded.latents, *each, shift, binder) for which, each in prompts.items()}
            gained = {which: gain(unbound[which], bound[which]) for which in prompts}
            found.append({"method": row, "source": source, "learning_seed": seed} | gained)
    table = pd.DataFrame(found)
    save_csv(config.paths.control("diversification"), table)
    return table


def gain(unbound: np.ndarray, bound: np.ndarray) -> float:
    """Reduction of the losses [N] by a binder, in %, mean over sentences."""
    return float(np.mean(100 * (1 - bound / unbound)))


def new_sentences(config: Config, source: str) -> list[str]:
    """New sentences that describe the source with its key words and are not among its captions."""
    entry, scene = config.sources[source], scene_of(config.sources[source])
    known = load_json(config.paths.concepts(source))["captions"]
    rng = np.random.default_rng([toy_scene(entry).seed, 2])
    drawn = dict.fromkeys(caption(scene, rng, motion=entry.kind == "video", detail=0) for _ in range(DRAWS))
    return [sentence for sentence in drawn if sentence not in known][:NEW_SENTENCES]


@torch.no_grad()
def losses(
    backbone: Backbone,
    latents: Tensor,
    prompt_embeds: Tensor,
    token_counts: Tensor,
    shift: float,
    binder: HierarchicalBinder | None = None,
) -> np.ndarray:
    """Flow-matching loss under each prompt, float [N], mean over `NOISES` noise levels.

    Args:
        latents: of the source, [C, t, h, w].
        prompt_embeds: [N, L, D].
        token_counts: with end-of-sequence, [N], in main memory.
        binder: through which all words pass; None = the frozen backbone alone.
    """
    return np.array(
        [
            _loss(
                backbone, latents, _contexts(backbone, prompt_embeds[n : n + 1], token_counts[n : n + 1], binder), shift
            )
            for n in range(len(token_counts))
        ]
    )


def _contexts(
    backbone: Backbone, prompt_embeds: Tensor, token_counts: Tensor, binder: HierarchicalBinder | None
) -> Contexts:
    context = backbone.context(prompt_embeds).float()
    if binder is None:
        return context
    none = torch.zeros(0, backbone.width, device=context.device)
    return binder.to(context.device)(*with_absorption(context, token_counts, none, Absorption()))


def _loss(backbone: Backbone, latents: Tensor, contexts: Contexts, shift: float) -> float:
    """The loss for one noise level at a time, because parts of a batch would draw other noise."""
    sigmas = [torch.tensor([shifted((place + 0.5) / NOISES, shift)]) for place in range(NOISES)]
    errors = [
        flow_matching_loss(backbone, latents[None], contexts, sigma, step_generator(0, place), training=False)
        for place, sigma in enumerate(sigmas)
    ]
    return float(torch.stack(errors).mean())
