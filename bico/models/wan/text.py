"""Converts a prompt to the context of cross-attention: token embeddings, the text encoder, the text projection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from bico.core.transfer import to_device
from bico.models.wan.components import Components, moved
from bico.prompts.text import clean


class PromptEncoding(Components):
    """The text side of the backbone.

    Attributes:
        text_slots: length to which prompts are padded; diffusers' `max_sequence_length`.
    """

    text_slots: int

    def embedding_scale(self) -> float:
        """Standard deviation of all numbers in the text encoder's embedding table."""
        return moved(self.text_encoder, self.device).get_input_embeddings().weight.float().std().item()

    def input_embeddings(self, prompt: str) -> Tensor:
        """Token embeddings of the cleaned prompt [tokens, text width], end-of-sequence included, cut to the slots."""
        tokens = self.tokenizer(clean(prompt), truncation=True, max_length=self.text_slots, return_tensors="pt")
        text_encoder = moved(self.text_encoder, self.device)  # it is already there unless it was offloaded
        return text_encoder.get_input_embeddings()(tokens.input_ids[0].to(self.device))

    def encode_embeddings(self, embeddings: Sequence[Tensor], length: int | None = None) -> Tensor:
        """Runs the text encoder on token embeddings [tokens, text width]. Differentiable.

        Returns prompt embeddings [prompts, length, text width], which are zero after the end of a prompt.

        Args:
            embeddings: token embeddings of each prompt.
            length: length to which prompts are padded in the encoder, with masked padding; by default all text slots,
                as in WanPipeline. A shorter one is faster and gives the same result up to rounding.
        """
        length = length or self.text_slots
        counts = torch.tensor([len(each) for each in embeddings])
        text_encoder = moved(self.text_encoder, self.device)
        pad = text_encoder.get_input_embeddings().weight[cast(int, self.tokenizer.pad_token_id)]
        inputs = torch.stack([torch.cat([each, pad.expand(length - len(each), -1)]) for each in embeddings])
        if all(len(each) == length for each in embeddings):
            # With a mask the encoder would have to wait for the GPU to find that nothing is masked.
            return text_encoder(inputs_embeds=inputs).last_hidden_state
        mask = to_device(torch.arange(length) < counts[:, None], self.device)
        encoded = text_encoder(inputs_embeds=inputs, attention_mask=mask.long()).last_hidden_state
        return encoded.where(mask[..., None], 0.0)

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prompt embeddings [prompts, slots, text width] with zeros after each prompt, and token counts [prompts].

        Counts include the end-of-sequence token. Each prompt is encoded separately, so other prompts have no effect.
        """
        embeddings = [self.input_embeddings(prompt) for prompt in prompts]
        token_counts = torch.tensor([len(each) for each in embeddings])
        return torch.cat([self.encode_embeddings([each]) for each in embeddings]), token_counts

    def context(self, prompt_embeds: Tensor) -> Tensor:
        """The transformer's text projection: [batch, tokens, text width] to [batch, slots, width].

        Before the projection, slots without tokens are zero.
        """
        prompt_embeds = to_device(prompt_embeds, self.device).to(self.dtype)
        return self.transformer.condition_embedder.text_embedder(padded(prompt_embeds, self.text_slots))


def padded(prompt_embeds: Tensor, slots: int) -> Tensor:
    """Prompt embeddings [prompts, tokens, text width] with zeros in all further slots."""
    return F.pad(prompt_embeds, (0, 0, 0, slots - prompt_embeds.shape[1]))
