"""The key words of a source as vectors to learn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from bico.models.wan.backbone import Backbone
from bico.prompts.words import bound_slots
from bico.sources.encoding import EncodedSource
from bico.training.loss import flow_matching_loss
from bico.training.noise import NoiseLevels

TEMPLATES = {
    "image": ("a {}", "the {}", "a picture of a {}", "a picture of the {}", "a close view of a {}", "one {}"),
    "video": ("a video of {}", "a clip of {}", "something {}", "{}", "this is {}", "a short video of {}"),
}


class Inversion:
    """Learned vectors for the key words of a source, and neutral prompts that contain them.

    Attributes:
        vectors: "<number> <word>" -> [vectors, text width], the class word first.
        prompts: number of prompts.
        scale: standard deviation of the text encoder's embedding table, the unit of learning rates.
    """

    def __init__(self, backbone: Backbone, encoded: EncodedSource, vectors: int) -> None:
        words = list(dict.fromkeys([encoded.class_word, *encoded.spatial, *encoded.temporal]))
        phrase, bindings = " ".join([*encoded.spatial, *encoded.temporal]), {word: [word] for word in words}
        prompts = [template.format(phrase) for template in TEMPLATES[encoded.kind]]
        self._backbone, self._encoded, self.prompts = backbone, encoded, len(prompts)
        self._templates = [
            (backbone.input_embeddings(prompt), bound_slots(backbone.tokenizer, prompt, bindings, backbone.text_slots))
            for prompt in prompts
        ]
        first = self._templates[0]
        self.vectors = {f"{number} {word}": initial(*first, word, vectors) for number, word in enumerate(words)}
        self._initial = {name: vector.detach().clone() for name, vector in self.vectors.items()}
        self.scale = backbone.embedding_scale()
        self._placed = dict(zip(words, self.vectors.values(), strict=True))

    def context(self, picked: Iterable[int]) -> Tensor:
        """The projected prompts of these numbers, [prompts, slots, width]. Differentiable."""
        embeddings = [replaced(*self._templates[index], self._placed) for index in picked]
        prompt_embeds = self._backbone.encode_embeddings(embeddings, length=max(map(len, embeddings)))
        return self._backbone.context(prompt_embeds)

    def loss(
        self,
        noise: NoiseLevels,
        generator: torch.Generator,
        batch_size: int,
        training: bool,
        *,
        encoder_leaves: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Loss of the source with prompts drawn with replacement, and its sigmas, as a `Stage` needs them.

        Args:
            encoder_leaves: whether the text encoder is moved off the GPU during the forward and backward pass of the
                transformer. The gradient is the same.
        """
        sigmas = noise.draw(batch_size, generator)
        picked = torch.randint(self.prompts, (batch_size,), generator=generator).tolist()
        context = self._context_of_a_leaving_encoder(picked) if encoder_leaves else self.context(picked)
        latents, mask = self._encoded.draw_looks(batch_size, generator)
        error = flow_matching_loss(self._backbone, latents, context, sigmas, generator, mask=mask, training=training)
        return error, sigmas

    def _context_of_a_leaving_encoder(self, picked: list[int]) -> Tensor:
        """Like `context`, but moves the text encoder off the GPU afterwards. It is moved back for its own backward
        pass, which computes its activations again."""

        def context_alone() -> Tensor:
            context = self.context(picked)
            self._backbone.offload_text_encoder()
            return context

        # This ends once all activations are computed again: the text encoder then stays for the backward pass.
        with set_checkpoint_early_stop(True):
            return cast(Tensor, checkpoint(context_alone, use_reentrant=False, preserve_rng_state=False))

    def report(self) -> dict[str, Tensor]:
        """Mean norm of the vectors, and their change: root mean square of a coordinate, relative to `scale`."""
        vectors, initial = (torch.cat([*each.values()]) for each in (self.vectors, self._initial))
        return {"norm": vectors.norm(dim=-1).mean(), "moved": (vectors - initial).square().mean().sqrt() / self.scale}

    def learned(self) -> dict[str, Tensor]:
        return {name: vector.detach().cpu() for name, vector in self.vectors.items()}


def initial(embeddings: Tensor, slots: Mapping[str, list[int]], word: str, count: int) -> nn.Parameter:
    """`count` vectors [count, text width], each the mean embedding of its share of the word's tokens.

    Tokens are distributed over the vectors in turn. If there are more vectors than tokens, each has one token.
    """
    own = embeddings[slots[word]].float()
    return nn.Parameter(torch.stack([own[index % len(own) :: count].mean(dim=0) for index in range(count)]))


def replaced(
    embeddings: Tensor,
    slots: Mapping[str, list[int]],
    vectors: Mapping[str, Tensor],
    before: Mapping[int, Tensor] = MappingProxyType({}),
) -> Tensor:
    """Token embeddings [tokens, text width] in which each owner's run of slots is replaced by the owner's vectors, and
    vectors `before` a slot are inserted in front of it.
    """
    owners = {slot: owner for owner, held in slots.items() for slot in held}
    pieces = []
    for slot, embedding in enumerate(embeddings):
        owner = owners.get(slot)
        if slot in before:
            pieces.append(before[slot].to(embeddings))
        if owner is None:
            pieces.append(embedding[None])
        elif owners.get(slot - 1) != owner:
            pieces.append(vectors[owner].to(embeddings))
    return torch.cat(pieces)
