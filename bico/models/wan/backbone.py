"""The frozen video model that every method shares: a diffusers WanPipeline folder.

The components are diffusers' and transformers' own. What is ours is the forward pass of the transformer, because BiCo
gives every block a context of its own and because keys and values of the cross-attention depend neither on the noise
level nor on the latents: they are computed once per prompt and serve all denoising steps. With one context for all
blocks, `sample` repeats WanPipeline bit for bit (same seed, dtype and steps).

Clips are generated one at a time: matrix products round differently in different batch sizes, so only then is a clip a
function of its prompt and seed alone. On a CPU little is lost.
"""

from __future__ import annotations

import gc
import math
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts
from tqdm import tqdm

from bico.config.schema import Media, Sampling
from bico.core.transfer import to_device
from bico.prompts.slots import clean

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

KeyValue = tuple[Tensor, Tensor]
"""Keys and values of one block's cross-attention, [batch, slots, heads, head width] each."""

Contexts = Tensor | Sequence[Tensor]
"""Projected prompts for cross-attention: one [batch, slots, width] for all blocks, or one for each block."""

TRAIN_TIMESTEPS = 1000
"""Wan's time embedding reads sigma * 1000."""

Recomputes = Literal["auto", "always", "never"]
"""Whether training recomputes the activations of each block instead of keeping them (gradient checkpointing)."""

CHECKPOINT_TOKENS = 4096
"""From this sequence length on it does, where the choice is "auto"."""

KEPT_OPERATORS = [
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
]
"""What is kept all the same: attention, 70 % of a forward pass of 81 frames, in as much memory as a block's input."""

ROOM_FOR_ALL = 32 * 2**30
"""Memory of a GPU, in bytes, from which the text encoder (11 GB of Wan2.1's) stays there while clips are made."""


def attention_kernels(capability: tuple[int, int] | None, dtype: torch.dtype) -> list[SDPBackend]:
    """Kernels that attention may take on a GPU of this compute capability, fastest first; none to choose from on a CPU.

    One line on stderr says so where no flash attention is among them (before Ampere, or in float32).
    """
    if capability is None:
        return []
    fallbacks = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    if capability < (8, 0) or dtype == torch.float32:
        reason = f"{str(dtype).removeprefix('torch.')} on a GPU of compute capability {capability[0]}.{capability[1]}"
        print(f"no flash attention in {reason}: attention takes a slower kernel", file=sys.stderr)
        return fallbacks
    hopper = [SDPBackend.CUDNN_ATTENTION] if capability >= (9, 0) else []
    return [*hopper, SDPBackend.FLASH_ATTENTION, *fallbacks]


def best_dtype(device: torch.device | str) -> torch.dtype:
    """bfloat16 where matrix products are faster in it than in float32: on GPUs, and on CPUs with tiles (AMX)."""
    fast = torch.device(device).type == "cuda" or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


@cache
def compiles_on(device: torch.device) -> bool:
    """Whether blocks can be compiled for this device, found out by compiling something small; if not, one line on
    stderr says why: there is no compiler, or one too old, or no headers."""
    from torch._inductor import config as inductor

    if not shutil.which("openssl"):  # which is asked for digests of headers that are to be precompiled
        inductor.cpp_cache_precompile_headers = False
    try:
        torch.compile(torch.square)(torch.ones(8, device=device))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        print(f"training runs without compiled blocks, at half the speed: cannot compile ({reason})", file=sys.stderr)
        return False
    return True


class Backbone:
    """A Wan pipeline folder. Components open when first used: training touches nothing but the transformer."""

    def __init__(
        self,
        folder: Path,
        text_slots: int,
        device: torch.device,
        dtype: torch.dtype,
        compiles: bool,
        recomputes: Recomputes,
    ) -> None:
        self.folder, self.text_slots, self.device, self.dtype = folder, text_slots, device, dtype
        self.compiles, self.recomputes = compiles, recomputes
        self._training_run = {False: _run_block, True: _run_block_recomputing}  # in training
        self._graphs: dict[object, Callable[..., Tensor]] | None = None  # captured; None where none are
        self._replaying = False  # between a replayed pass and its gradient

    @classmethod
    def open(
        cls,
        folder: Path | str,
        *,
        text_slots: int = 512,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        compiles: bool = False,
        recomputes: Recomputes = "auto",
    ) -> Backbone:
        """Opens a folder.

        Args:
            text_slots: length to which prompts are padded.
            dtype: of transformer and text encoder; the VAE stays in float32.
            compiles: whether `compiled` does.
            recomputes: activations, in training.
        """
        return cls(Path(folder), text_slots, torch.device(device), dtype, compiles, recomputes)

    @cached_property
    def transformer(self) -> WanTransformer3DModel:
        from diffusers import WanTransformer3DModel

        model = WanTransformer3DModel.from_pretrained(self.folder, subfolder="transformer", dtype=self.dtype)
        return self.prepared(model)

    def prepared(self, model: WanTransformer3DModel) -> WanTransformer3DModel:
        """The model as this backbone runs it: frozen, on its device, with our attention."""
        capability = torch.cuda.get_device_capability(self.device) if self.device.type == "cuda" else None
        processor = AttentionProcessor(attention_kernels(capability, self.dtype))
        for block in model.blocks:
            block.attn1.set_processor(processor)
            block.attn2.set_processor(processor)
            block.ffn.net[0].gelu = _gelu
        return self._frozen(model)

    @cached_property
    def vae(self) -> AutoencoderKLWan:
        from diffusers import AutoencoderKLWan

        return self._frozen(AutoencoderKLWan.from_pretrained(self.folder, subfolder="vae", dtype=torch.float32))

    @cached_property
    def text_encoder(self) -> UMT5EncoderModel:
        from transformers import UMT5EncoderModel

        return self._frozen(UMT5EncoderModel.from_pretrained(self.folder, subfolder="text_encoder", dtype=self.dtype))

    @cached_property
    def _parks_text_encoder(self) -> bool:
        """Whether the text encoder waits in main memory while clips are made."""
        if self.device.type != "cuda":
            return False
        return torch.cuda.get_device_properties(self.device).total_memory < ROOM_FOR_ALL

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder, subfolder="tokenizer")

    def _frozen(self, model: nn.Module) -> nn.Module:
        return model.to(self.device).eval().requires_grad_(False)

    @property
    def width(self) -> int:
        """Width of a projected text token."""
        return self.transformer.config.num_attention_heads * self.transformer.config.attention_head_dim

    @property
    def num_blocks(self) -> int:
        return self.transformer.config.num_layers

    # Text

    def input_embeddings(self, prompt: str) -> Tensor:
        """Token embeddings of the cleaned prompt [tokens, text width], end-of-sequence included, cut to the slots."""
        tokens = self.tokenizer(clean(prompt), truncation=True, max_length=self.text_slots, return_tensors="pt")
        text_encoder = self.text_encoder.to(self.device)  # where it is, unless `sample` parked it
        return text_encoder.get_input_embeddings()(tokens.input_ids[0].to(self.device))

    def encode_embeddings(self, embeddings: Sequence[Tensor], length: int | None = None) -> Tensor:
        """The text encoder on token embeddings [tokens, text width]: prompt embeddings [prompts, length, text width].

        After a prompt they are zero. Differentiable.

        Args:
            embeddings: one a prompt.
            length: to which prompts are padded in the encoder, where padding is masked; by default all text slots, as
                in WanPipeline. Shorter is faster and equal but for rounding.
        """
        length = length or self.text_slots
        counts = torch.tensor([len(each) for each in embeddings])
        text_encoder = self.text_encoder.to(self.device)
        pad = text_encoder.get_input_embeddings().weight[self.tokenizer.pad_token_id]
        inputs = torch.stack([torch.cat([each, pad.expand(length - len(each), -1)]) for each in embeddings])
        if (counts == length).all():  # the encoder would have to wait for a mask to find that it masks nothing
            return text_encoder(inputs_embeds=inputs).last_hidden_state
        mask = to_device(torch.arange(length) < counts[:, None], self.device)
        encoded = text_encoder(inputs_embeds=inputs, attention_mask=mask.long()).last_hidden_state
        return encoded.where(mask[..., None], 0.0)

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prompt embeddings [prompts, slots, text width] with zeros after each prompt, and token counts [prompts].

        Counts include the end-of-sequence token. Each prompt is encoded on its own, so neighbours do not matter.
        """
        embeddings = [self.input_embeddings(prompt) for prompt in prompts]
        token_counts = torch.tensor([len(each) for each in embeddings])
        return torch.cat([self.encode_embeddings([each]) for each in embeddings]), token_counts

    def context(self, prompt_embeds: Tensor) -> Tensor:
        """The transformer's text projection: [batch, tokens, text width] to [batch, slots, width].

        Slots that the tokens do not fill are zero before it.
        """
        prompt_embeds = to_device(prompt_embeds, self.device).to(self.dtype)
        return self.transformer.condition_embedder.text_embedder(padded(prompt_embeds, self.text_slots))

    # Clips

    @torch.no_grad()
    def encode_clip(self, frames: np.ndarray) -> Tensor:
        """Frames uint8 [T, H, W, 3] to normalised latents [channels, t, h, w] (the mode); in Wan2.1 T = 4t - 3."""
        pixels = torch.tensor(frames).to(self.device).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        latents = self.vae.encode(pixels).latent_dist.mode()
        mean, inverse_std = self._latent_statistics
        return ((latents - mean) * inverse_std)[0]

    @torch.no_grad()
    def decode_clip(self, latents: Tensor) -> np.ndarray:
        """Normalised latents [clips, channels, t, h, w] to uint8 [clips, T, H, W, 3]."""
        mean, inverse_std = self._latent_statistics
        latents = latents.to(self.device, torch.float32) / inverse_std + mean
        pixels = torch.cat([self.vae.decode(each, return_dict=False)[0] for each in latents.split(1)])
        pixels = (pixels * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 4, 1)
        return (pixels * 255).round().to(torch.uint8).cpu().numpy()

    @cached_property
    def _latent_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and inverse standard deviation of each latent channel, rounded where WanPipeline rounds them."""
        shape = (1, -1, 1, 1, 1)
        mean = torch.tensor(self.vae.config.latents_mean, device=self.device).view(shape)
        std = torch.tensor(self.vae.config.latents_std, device=self.device).view(shape)
        return mean, 1.0 / std

    # The transformer

    def keys_values(self, contexts: Contexts) -> list[KeyValue]:
        """Cross-attention keys and values of each block."""
        if isinstance(contexts, Tensor):
            contexts = [contexts] * self.num_blocks
        blocks = zip(self.transformer.blocks, contexts, strict=True)
        return [_keys_values(block.attn2, context.to(self.device, self.dtype)) for block, context in blocks]

    def velocity(self, latents: Tensor, timesteps: Tensor, contexts: Contexts) -> Tensor:
        """d latents / d sigma at the given noise levels.

        Args:
            latents: [batch, channels, t, h, w].
            timesteps: sigma * 1000, [batch].
            contexts: projected prompts.
        """
        latents = latents.to(self.dtype)
        if self._graphs is not None and torch.is_grad_enabled():
            if self.recomputing(latents.shape):
                self._forget_graphs()  # of a video's frames: its clip needs their memory
            elif not self._replaying:
                return self._replayed(latents, timesteps, contexts)
        return self._velocity(latents, timesteps, self.keys_values(contexts))

    def recomputing(self, shape: torch.Size) -> bool:
        """Whether training on latents of this shape [..., t, h, w] recomputes activations."""
        tokens = math.prod(shape[-3:]) // math.prod(self.transformer.config.patch_size)
        return self.recomputes == "always" or (self.recomputes == "auto" and tokens >= CHECKPOINT_TOKENS)

    def _replayed(self, latents: Tensor, timesteps: Tensor, contexts: Contexts) -> Tensor:
        """`velocity` as a captured CUDA graph, and another for its gradient: the thousands of kernels of a short
        sequence are over before Python can start the next one.

        The result lies where that of the next call will lie, and so does what its gradient needs: until that has been
        asked for, further passes are plain.
        """
        inputs = [latents, timesteps, *([contexts] if isinstance(contexts, Tensor) else contexts)]
        key = tuple((each.shape, each.dtype, each.requires_grad) for each in inputs)
        if key not in self._graphs:

            def run(latents: Tensor, timesteps: Tensor, *contexts: Tensor) -> Tensor:
                return self._velocity(latents, timesteps, self.keys_values(contexts if contexts[1:] else contexts[0]))

            like = tuple(each.detach().clone().requires_grad_(each.requires_grad) for each in inputs)
            self._graphs[key] = torch.cuda.make_graphed_callables(run, like)
        velocity = self._graphs[key](*inputs)
        if velocity.requires_grad:
            self._replaying = True
            velocity.register_hook(self._replayed_backward)
        return velocity

    def _replayed_backward(self, gradient: Tensor) -> None:
        self._replaying = False

    def _forget_graphs(self) -> None:
        if self._graphs:
            self._graphs.clear()
            gc.collect()  # they hold their inputs and gradients in cycles

    def _velocity(self, latents: Tensor, timesteps: Tensor, keys_values: Sequence[KeyValue]) -> Tensor:
        model = self.transformer
        rotary_emb = model.rope(latents)
        hidden = model.patch_embedding(latents).flatten(2).transpose(1, 2).contiguous()
        temb, modulation = self._time_embedding(timesteps, hidden)
        run_block = self._training_run[self.recomputing(latents.shape)] if torch.is_grad_enabled() else _run_block
        for block, key_value in zip(model.blocks, keys_values, strict=True):
            hidden = run_block(block, hidden, key_value, modulation, rotary_emb)
        shift, scale = (model.scale_shift_table + temb.unsqueeze(1)).chunk(2, dim=1)
        hidden = (model.norm_out(hidden.float()) * (1 + scale) + shift).type_as(hidden)
        return self._unpatchify(model.proj_out(hidden), latents.shape)

    @contextmanager
    def compiled(self) -> Iterator[None]:
        """Blocks run compiled for as long as the context lasts: for training.

        One graph serves all blocks that differ in nothing but tensors. It takes about half a minute to compile, once on
        a machine. Without a compiler that works the blocks run as ever, and one line says so. On a GPU short sequences
        run as captured graphs, too, unless the transformer itself learns or something beside it.
        """
        if not (self.compiles and compiles_on(self.device)):
            yield
            return
        eager = self._training_run
        self._training_run = {recomputes: torch.compile(run, dynamic=False) for recomputes, run in eager.items()}
        frozen = not any(parameter.requires_grad for parameter in self.transformer.parameters())
        self._graphs = {} if frozen and self.device.type == "cuda" else None
        try:
            yield
        finally:
            self._training_run, self._replaying = eager, False
            self._forget_graphs()
            self._graphs = None

    def _time_embedding(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Time embedding [batch, width] and the blocks' modulation [batch, 6, width]."""
        embedder = self.transformer.condition_embedder
        frequencies = embedder.timesteps_proj(timesteps).to(next(embedder.time_embedder.parameters()).dtype)
        temb = embedder.time_embedder(frequencies).type_as(like)
        return temb, embedder.time_proj(embedder.act_fn(temb)).unflatten(1, (6, -1))

    def _unpatchify(self, hidden: Tensor, shape: torch.Size) -> Tensor:
        """Tokens [batch, t * h * w, patch * channels] back to [batch, channels, T, H, W]."""
        patch = self.transformer.config.patch_size
        grid = [size // part for size, part in zip(shape[2:], patch, strict=True)]
        hidden = hidden.unflatten(2, (*patch, -1)).unflatten(1, grid)
        return hidden.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)

    def at_places(self, values: Tensor, shape: torch.Size) -> Tensor:
        """A value for each of the transformer's places [batch, places], spread over latents of `shape`:
        [batch, 1, t, h, w].
        """
        patch = self.transformer.config.patch_size
        grid = values.view(len(values), 1, *(size // part for size, part in zip(shape[2:], patch, strict=True)))
        for axis, part in enumerate(patch, start=2):
            grid = grid.repeat_interleave(part, dim=axis)
        return grid

    # Sampling

    @torch.no_grad()
    def sample(
        self,
        contexts: Contexts,
        negative_context: Tensor,
        seed: int,
        sampling: Sampling,
        media: Media,
        *,
        before_pass: Callable[[bool], object] = lambda conditional: None,
    ) -> Tensor:
        """Denoises one clip: normalised latents [1, channels, t, h, w].

        Flow-match Euler with classifier-free guidance, as WanPipeline runs it; the noise comes from a CPU generator,
        so a seed means the same on every device. See `generate` for the other arguments.

        Args:
            before_pass: told before each pass whether it is the conditional one, for what acts differently in the two.
        """
        from diffusers import FlowMatchEulerDiscreteScheduler
        from diffusers.utils.torch_utils import randn_tensor

        scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=TRAIN_TIMESTEPS, shift=sampling.shift)
        scheduler.set_timesteps(sampling.steps, device=self.device)
        scheduler.set_begin_index(0)
        positive, negative = self.keys_values(contexts), self.keys_values(negative_context)
        if self._parks_text_encoder and "text_encoder" in vars(self):
            self.text_encoder.to("cpu")
        noise = torch.Generator().manual_seed(seed)
        latents = randn_tensor((1, *self.latent_shape(media)), generator=noise, device=self.device, dtype=torch.float32)
        for timestep in tqdm(scheduler.timesteps, desc="denoising", leave=False, disable=None):
            noisy, timesteps = latents.to(self.dtype), timestep.expand(1)
            before_pass(True)
            velocity = self._velocity(noisy, timesteps, positive)
            if sampling.guidance_scale > 1:
                before_pass(False)
                unconditional = self._velocity(noisy, timesteps, negative)
                velocity = unconditional + sampling.guidance_scale * (velocity - unconditional)
            latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
        return latents

    def generate(
        self,
        contexts: Contexts,
        negative_context: Tensor,
        seeds: Sequence[int],
        sampling: Sampling,
        media: Media,
    ) -> np.ndarray:
        """Clips uint8 [seeds, T, H, W, 3], each a function of the contexts and its seed alone.

        Args:
            contexts: projected prompt [1, slots, width], or one for each block.
            negative_context: projected negative prompt [1, slots, width]; no binder touches it.
        """
        latents = [self.sample(contexts, negative_context, seed, sampling, media) for seed in seeds]
        return self.decode_clip(torch.cat(latents))

    def latent_shape(self, media: Media) -> tuple[int, int, int, int]:
        """(channels, t, h, w) of a clip of this size."""
        spatial, temporal = self.vae.config.scale_factor_spatial, self.vae.config.scale_factor_temporal
        frames = (media.num_frames - 1) // temporal + 1
        return self.transformer.config.in_channels, frames, media.height // spatial, media.width // spatial


def padded(prompt_embeds: Tensor, slots: int) -> Tensor:
    """Prompt embeddings [prompts, tokens, text width] with zeros in all further slots."""
    return F.pad(prompt_embeds, (0, 0, 0, slots - prompt_embeds.shape[1]))


BlockInput = Tensor | KeyValue | tuple[Tensor, Tensor]


def _run_block(block: nn.Module, *inputs: BlockInput) -> Tensor:
    return block(*inputs)


def _run_block_recomputing(block: nn.Module, *inputs: BlockInput) -> Tensor:
    """Keeps the block's inputs and its attention for the backward pass, which computes everything else again."""
    keep = partial(create_selective_checkpoint_contexts, KEPT_OPERATORS)
    return checkpoint(_run_block, block, *inputs, use_reentrant=False, context_fn=keep)


class AttentionProcessor:
    """diffusers' Wan attention, except that cross-attention receives finished keys and values as its encoder states."""

    def __init__(self, kernels: Sequence[SDPBackend]) -> None:
        self.kernels = list(kernels)

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: KeyValue | None = None,
        attention_mask: None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        key, value = encoder_hidden_states or _keys_values(attn, hidden_states)
        if rotary_emb is not None:
            query, key = _rotate(query, *rotary_emb), _rotate(key, *rotary_emb)
        with sdpa_kernel(self.kernels, set_priority=True) if self.kernels else nullcontext():
            attended = _attention(query, key, value).flatten(2, 3).type_as(query)
        return attn.to_out[1](attn.to_out[0](attended))


def _keys_values(attn: nn.Module, states: Tensor) -> KeyValue:
    heads = (attn.heads, -1)
    return attn.norm_k(attn.to_k(states)).unflatten(2, heads), attn.to_v(states).unflatten(2, heads)


def _rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding on neighbouring pairs of channels; both of a pair have the same `cos` and `sin`.

    Where no gradient is asked for it works in place: the same bits in a third of the time.
    """
    if torch.is_grad_enabled():
        even, odd = states.unflatten(-1, (-1, 2)).unbind(-1)
        cos, sin = cos[..., 0::2], sin[..., 1::2]
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).type_as(states)
    turned, crossed = states.float() * cos, states.float() * sin
    turned[..., 0::2] -= crossed[..., 1::2]
    turned[..., 1::2] += crossed[..., 0::2]
    return turned.type_as(states)


def _gelu(states: Tensor) -> Tensor:
    """The feed-forward's GELU with its tanh. 0.5 (1 + tanh y) is the sigmoid of 2 y: where kernels are compiled for a
    CPU, half the work, forwards and backwards."""
    if torch.compiler.is_compiling() and states.device.type == "cpu":
        wide = states.float()
        return (wide * torch.sigmoid(math.sqrt(8 / math.pi) * (wide + 0.044715 * wide**3))).type_as(states)
    return F.gelu(states, approximate="tanh")


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention over [batch, tokens, heads, head width].

    Training on a CPU writes it out: the backward pass of the fused kernel is slow there (a step at Toybox size takes
    144 ms with it, 113 ms without).
    """
    query, key, value = (states.transpose(1, 2) for states in (query, key, value))
    if torch.is_grad_enabled() and query.device.type == "cpu":
        weights = (query * (1 / math.sqrt(query.shape[-1])) @ key.transpose(-1, -2)).softmax(dim=-1)
        return (weights @ value).transpose(1, 2)
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
