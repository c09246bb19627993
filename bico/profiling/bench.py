"""How fast the full-size model trains and generates, on random weights: nothing is downloaded.

    bico bench --out bench.json                       # Wan2.1-T2V-1.3B at 480x832, on a GPU
    bico bench --preset small                         # the same in seconds, on any CPU
    bico bench --blocks 2 --frames 1 --sampling-steps 1 --beside diffusers   # full width, two of the blocks
    bico bench --methods textual_inversion db_lora dreamvideo dualreal       # steps of the other rows of table 1

For 1, 49 and 81 frames it measures a training step of BiCo as `bico learn` runs it, beside two others:

    diffusers      diffusers' transformer, eager, with its own attention and gradient checkpointing in every block
    re-encoding    the same, with UMT5-XXL and VAE in every step, as the authors' trainer has it

and then the generation of the last of these lengths, with and without binders. Other `--methods` have their settings
of the paper and nothing beside them. TFLOP are useful ones: what the step needs by its shapes, recomputed activations
not counted (see `bico.profiling.flops`), and their share is that of the device's own matrix products. One is measured
after the other, so the machine must do nothing else.

Each is told on stderr as soon as it is known, and the file is written anew after each length: what fails, or breaks
off, loses nothing that came before it.
"""

from __future__ import annotations

import gc
import json
import math
import platform
import statistics
import string
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from tokenizers import Tokenizer, models, processors
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from bico.config.schema import (
    METHOD_SETTINGS,
    Absorption,
    BicoSettings,
    LearnedSettings,
    Media,
    Sampling,
    Stages,
)
from bico.core.errors import InputError
from bico.core.files import write_json, write_text
from bico.methods import bico, method, shortened
from bico.methods.training import METRICS, NoiseLevels, step_generator
from bico.models.binder import HierarchicalBinder
from bico.models.wan.backbone import TRAIN_TIMESTEPS, Backbone, best_dtype, padded
from bico.profiling.flops import forward_flops, training_flops
from bico.sources.encoding import CAPTION_TOKENS, EncodedSource

WARM_UP = 2
"""Steps before those that count: compilation, and the choice of kernels."""

SHIFT = 5.0
APPEARANCE = 512
"""Width of CLIP ViT-B/32's image embeddings."""

COLUMNS = {
    "stage": "{}",
    "frames": "{}",
    "variant": "{}",
    "seconds": "{:.4g}",
    "tflop": "{:.4g}",
    "tflop_per_s": "{:.4g}",
    "share_of_peak": "{:.0%}",
    "peak_gib": "{:.2f}",
    "times_ours": "{:.2f}",
}


@dataclass(frozen=True)
class Sizes:
    """A Wan pipeline by the settings of its components, and the clips that it makes."""

    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]
    text_encoder: Mapping[str, Any]
    text_slots: int
    height: int
    width: int
    frames: tuple[int, ...]
    sampling_steps: int
    compiles: bool

    def media(self, frames: int) -> Media:
        return Media(height=self.height, width=self.width, num_frames=frames, fps=15)

    def latent_shape(self, frames: int) -> tuple[int, int, int, int]:
        """(channels, t, h, w): Wan2.1's VAE packs 4 frames and 8x8 pixels."""
        return self.transformer["in_channels"], (frames - 1) // 4 + 1, self.height // 8, self.width // 8

    def flops(self, count: Callable[[Mapping[str, Any], int, int], float], frames: int) -> float:
        """What `count`, `forward_flops` or `training_flops`, gives for a clip of so many frames."""
        return count(self.transformer, math.prod(self.latent_shape(frames)[1:]), self.text_slots)


PRESETS = {
    "full": Sizes(  # the published config.json of Wan2.1-T2V-1.3B and its parts
        transformer={
            "num_attention_heads": 12,
            "attention_head_dim": 128,
            "ffn_dim": 8960,
            "num_layers": 30,
            "text_dim": 4096,
            "in_channels": 16,
            "out_channels": 16,
            "patch_size": (1, 2, 2),
        },
        vae={"base_dim": 96, "z_dim": 16},
        text_encoder={
            "vocab_size": 256384,
            "d_model": 4096,
            "d_kv": 64,
            "d_ff": 10240,
            "num_layers": 24,
            "num_heads": 64,
        },
        text_slots=512,
        height=480,
        width=832,
        frames=(1, 49, 81),
        sampling_steps=50,
        compiles=True,
    ),
    "small": Sizes(
        transformer={
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "ffn_dim": 48,
            "num_layers": 3,
            "text_dim": 32,
            "in_channels": 16,
            "out_channels": 16,
            "patch_size": (1, 2, 2),
        },
        vae={"base_dim": 4, "z_dim": 16},
        text_encoder={"vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4},
        text_slots=64,
        height=32,
        width=48,
        frames=(1, 5, 9),
        sampling_steps=2,
        compiles=False,
    ),
}


def bench(
    preset: str,
    frames: Sequence[int] | None,
    height: int | None,
    width: int | None,
    blocks: int | None,
    steps: int,
    sampling_steps: int | None,
    methods: Sequence[str],
    beside: Sequence[str],
    device: str,
    out: Path | None,
) -> None:
    """Measures, prints the table and writes it to `out`, with the device, the versions and the date.

    Args:
        preset: whose sizes hold where the next four and `sampling_steps` are None.
        frames: of the clips, 4k + 1 each.
        height, width: pixels, multiples of 16.
        blocks: of the transformer.
        steps: that count, of each training.
        sampling_steps: of the generation; 0 leaves it out.
        methods: whose trainings to measure.
        beside: other trainings to measure beside BiCo's, of "diffusers" and "re-encoding".

    Raises:
        InputError: sizes that VAE and transformer cannot take, or `out` is neither .csv nor .json.
    """
    sizes = PRESETS[preset]
    sizes = replace(
        sizes,
        transformer={**sizes.transformer, "num_layers": blocks or sizes.transformer["num_layers"]},
        height=height or sizes.height,
        width=width or sizes.width,
        frames=tuple(frames or sizes.frames),
        sampling_steps=sizes.sampling_steps if sampling_steps is None else sampling_steps,
    )
    _check(sizes, out)
    on, dtype = torch.device(device), best_dtype(device)
    peak = matrix_peak(on, dtype)
    described = {
        "device": _name(on),
        "dtype": str(dtype).removeprefix("torch."),
        "matrix_peak_tflop_per_s": round(peak, 3),
        "model": f"{preset}, {sizes.transformer['num_layers']} blocks, {sizes.height}x{sizes.width}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")},
    }
    for name, value in described.items():
        print(f"{name}: {value}", flush=True)
    rows: list[dict[str, object]] = []
    for stage, count, useful, variants in _stages(sizes, steps, methods, beside, on, dtype):
        measured = {name: _attempt(f"{stage}, {count} frames, {name}", work, on) for name, work in variants.items()}
        rows += _rows(stage, count, measured, useful, peak)
        table = pd.DataFrame(rows, columns=list(COLUMNS))
        if out is not None:
            _write(out, described, table)
    print(_text(table))


def _stages(
    sizes: Sizes,
    steps: int,
    methods: Sequence[str],
    beside: Sequence[str],
    device: torch.device,
    dtype: torch.dtype,
) -> Iterator[tuple[str, int, float, dict[str, Callable[[], Measured]]]]:
    """Stage, frames, useful TFLOP, and what measures each variant."""
    for count in sizes.frames:
        useful = sizes.flops(training_flops, count) / 1e12
        for name in methods:
            settings = few_steps(name, count, WARM_UP + steps, sizes.transformer["num_layers"])
            variants = {"ours": partial(training_step, sizes, count, steps, settings, device, dtype)}
            for other in beside if name == "bico" else ():
                encodes = other == "re-encoding"
                variants[other] = partial(plain_step, sizes, count, steps, device, dtype, encodes=encodes)
            stage = "training step" if name == "bico" else f"training step of {name}"
            yield stage, count, settings.batch_size * useful, variants
    if sizes.sampling_steps:
        count = sizes.frames[-1]
        useful = 2 * sizes.sampling_steps * sizes.flops(forward_flops, count) / 1e12
        ways = {"ours": True, "no binders": False}
        variants = {name: partial(generation, sizes, count, device, dtype, binds=binds) for name, binds in ways.items()}
        yield f"generation, {sizes.sampling_steps} steps", count, useful, variants


def _check(sizes: Sizes, out: Path | None) -> None:
    for name in ("height", "width"):
        if getattr(sizes, name) % 16:
            raise InputError(f"--{name} {getattr(sizes, name)}: expected a multiple of 16 (VAE 8, patches of 2)")
    for count in sizes.frames:
        if count % 4 != 1:
            raise InputError(f"--frames {count}: expected 4k + 1 (the VAE packs four frames into one)")
    if out is not None and out.suffix not in (".csv", ".json"):
        raise InputError(f"--out {out}: expected a name that ends in .csv or .json")


def matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """TFLOP/s of the device's own matrix product, the best of ten."""
    size = 8192 if device.type == "cuda" else 1024
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = [_seconds(device, lambda: one @ other) for _ in range(10)]
    return 2 * size**3 / min(seconds) / 1e12


# Models of random weights


class RandomBackbone(Backbone):
    """A Wan pipeline of these sizes whose weights are random."""

    def __init__(self, sizes: Sizes, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(Path(), sizes.text_slots, device, dtype, sizes.compiles, "auto")
        self.sizes = sizes

    @cached_property
    def transformer(self) -> WanTransformer3DModel:
        return self.prepared(random_transformer(self.sizes, self.device, self.dtype))

    @cached_property
    def vae(self) -> AutoencoderKLWan:
        with self.device:
            return AutoencoderKLWan(**self.sizes.vae)

    @cached_property
    def text_encoder(self) -> UMT5EncoderModel:
        return self._frozen(random_text_encoder(self.sizes, self.device, self.dtype))

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """A token for each letter."""
        special = ["<pad>", "</s>", "<unk>"]
        ids = {piece: number for number, piece in enumerate([*special, *string.ascii_lowercase, " "])}
        letters = Tokenizer(models.BPE(ids, [], unk_token="<unk>"))
        letters.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", ids["</s>"])])
        pad, end, unknown = special
        return PreTrainedTokenizerFast(tokenizer_object=letters, pad_token=pad, eos_token=end, unk_token=unknown)


def random_transformer(sizes: Sizes, device: torch.device, dtype: torch.dtype) -> WanTransformer3DModel:
    """In `dtype`, but for the layers that diffusers keeps in float32 whenever it opens a Wan folder."""
    with device:
        model = WanTransformer3DModel(**sizes.transformer)
    for name, parameter in model.named_parameters():
        if not {*name.split(".")} & {*model._keep_in_fp32_modules}:
            parameter.data = parameter.data.to(dtype)
    return model.eval().requires_grad_(False)


def random_text_encoder(sizes: Sizes, device: torch.device, dtype: torch.dtype) -> UMT5EncoderModel:
    """All of it in `dtype`."""
    with weights_in(dtype), device:  # 5.7 billion weights in float32 would take 23 GB first
        return UMT5EncoderModel(UMT5Config(**sizes.text_encoder)).eval()


def random_source(sizes: Sizes, frames: int) -> EncodedSource:
    """What training reads of a source: an image if `frames` is 1."""
    draw = torch.Generator().manual_seed(0)
    slots, channels = sizes.text_slots, sizes.transformer["in_channels"]
    tokens = min(CAPTION_TOKENS, slots)
    prompt_embeds = torch.randn(1, tokens, sizes.transformer["text_dim"], generator=draw)
    captions = {
        "prompt_embeds": prompt_embeds,
        "token_counts": torch.tensor([tokens]),
        "key_slots": torch.zeros(1, slots, dtype=torch.uint8),
    }
    stills = {f"frame_{name}": tensor for name, tensor in captions.items()}
    stills["frame_latents"] = torch.randn(1, channels, 1, *sizes.latent_shape(1)[2:], generator=draw)
    return EncodedSource(
        kind="image" if frames == 1 else "video",
        spatial=["cat"],
        temporal=[] if frames == 1 else ["bouncing"],
        latents=torch.randn(sizes.latent_shape(frames), generator=draw),
        empty_prompt_embeds=torch.zeros_like(prompt_embeds[0]),
        appearance=torch.randn(frames, APPEARANCE, generator=draw),
        **captions,
        **({} if frames == 1 else stills),
    )


# What is measured


@dataclass(frozen=True)
class Measured:
    """Median seconds, and the largest sum of tensors in the GPU's memory in GiB (NaN on a CPU)."""

    seconds: float
    peak_gib: float


def few_steps(name: str, frames: int, steps: int, blocks: int) -> LearnedSettings:
    """A method's settings of the paper, but for the number of steps: its last ones are those to measure."""
    if name == "bico":
        all_steps = Stages(global_steps=0, all_steps=steps)  # all binders learn, two branches each if it is a clip
        none = Stages.model_construct(global_steps=0, all_steps=0)  # no clip's single frames: they compile a graph, too
        return BicoSettings(stages=all_steps if frames == 1 else none, clip_stages=all_steps)
    settings = shortened(METHOD_SETTINGS[name](), steps)
    if name == "dualreal":  # groups of equally many blocks
        settings = settings.model_copy(update={"groups": math.gcd(settings.groups, blocks)})
    return settings


def training_step(
    sizes: Sizes, frames: int, steps: int, settings: LearnedSettings, device: torch.device, dtype: torch.dtype
) -> Measured:
    """The loop and the loss of `bico learn`."""
    backbone, encoded = RandomBackbone(sizes, device, dtype), random_source(sizes, frames)
    if settings.LEARNS_PER == "case":  # an image and a video: here both of the same length
        encoded = {kind: replace(encoded, kind=kind) for kind in ("image", "video")}
    _ = backbone.transformer
    with _peak_memory(device) as peak, tempfile.TemporaryDirectory() as folder:
        method(settings.method).learn(backbone, encoded, settings, shift=SHIFT, seed=0, workdir=Path(folder))
        lines = [json.loads(line) for line in (Path(folder) / METRICS).read_text().splitlines()]
    return Measured(statistics.median(line["seconds"] for line in lines[-steps:]), peak())


def plain_step(
    sizes: Sizes, frames: int, steps: int, device: torch.device, dtype: torch.dtype, *, encodes: bool
) -> Measured:
    """The same step as one would write it with diffusers alone; with `encodes` it encodes caption and clip first."""
    model = random_transformer(sizes, device, dtype)
    model.enable_gradient_checkpointing()
    width = model.config.num_attention_heads * model.config.attention_head_dim
    binder = HierarchicalBinder(width, model.config.num_layers, two_branch=frames > 1).to(device)
    absorption = nn.Parameter(torch.randn(1, width, device=device))
    optimizer = torch.optim.AdamW([*binder.parameters(), absorption], lr=1e-4, weight_decay=0.01)
    batch = random_source(sizes, frames).draw(1, step_generator(0, 0), frames=False)
    latents = batch.latents.to(device)
    prompt_embeds = padded(batch.prompt_embeds, sizes.text_slots).to(device, dtype)
    encode = encoder(sizes, frames, device, dtype) if encodes else lambda: (latents, prompt_embeds)
    contexts: list[Tensor] = []

    def bind(layer: nn.Module, inputs: tuple, projected: Tensor) -> None:
        placed, mask = bico.with_absorption(projected.float(), batch.token_counts, absorption, Absorption())
        contexts[:] = [context.to(dtype) for context in binder(placed, mask)]

    def hand_over(number: int) -> Callable[[nn.Module, tuple], tuple]:
        return lambda block, inputs: (inputs[0], contexts[number], *inputs[2:])

    model.condition_embedder.text_embedder.register_forward_hook(bind)
    for number, block in enumerate(model.blocks):
        block.register_forward_pre_hook(hand_over(number))

    def step() -> None:
        clean, prompt = encode()
        sigma = NoiseLevels(SHIFT).draw(1, torch.Generator().manual_seed(0)).to(device)
        noise = torch.randn_like(clean)
        noisy = torch.lerp(clean, noise, sigma.view(-1, 1, 1, 1, 1)).to(dtype)
        velocity = model(noisy, sigma * TRAIN_TIMESTEPS, prompt, return_dict=False)[0]
        loss = (velocity.float() - (noise - clean)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    with _peak_memory(device) as peak:
        seconds = [_seconds(device, step) for _ in range(WARM_UP + steps)]
    return Measured(statistics.median(seconds[WARM_UP:]), peak())


@contextmanager
def weights_in(dtype: torch.dtype) -> Iterator[None]:
    """Models that are built meanwhile have weights of this dtype from the start."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def encoder(sizes: Sizes, frames: int, device: torch.device, dtype: torch.dtype) -> Callable[[], tuple[Tensor, Tensor]]:
    """Encodes a clip to latents [1, channels, t, h, w], float32, and a caption to embeddings [1, slots, text width]."""
    text_encoder = random_text_encoder(sizes, device, dtype)
    with weights_in(dtype), device:
        vae = AutoencoderKLWan(**sizes.vae).eval()
    tokens = torch.ones(1, sizes.text_slots, dtype=torch.long, device=device)
    mask = (torch.arange(sizes.text_slots, device=device) < CAPTION_TOKENS).long()[None]
    pixels = torch.rand(1, 3, frames, sizes.height, sizes.width, device=device, dtype=dtype) * 2 - 1

    @torch.no_grad()
    def encode() -> tuple[Tensor, Tensor]:
        embedded = text_encoder(input_ids=tokens, attention_mask=mask).last_hidden_state * mask[..., None]
        return vae.encode(pixels).latent_dist.mode().float(), embedded

    return encode


def generation(sizes: Sizes, frames: int, device: torch.device, dtype: torch.dtype, *, binds: bool) -> Measured:
    """Denoising with guidance, of a prompt whose words pass through a video's binders or, if not `binds`, as it is."""
    backbone = RandomBackbone(sizes, device, dtype)
    draw = torch.Generator().manual_seed(0)
    prompt, negative = (torch.randn(1, sizes.text_slots, backbone.width, generator=draw).to(device) for _ in range(2))
    words = (torch.arange(sizes.text_slots, device=device) < CAPTION_TOKENS)[None]
    binder = HierarchicalBinder(backbone.width, backbone.num_blocks, two_branch=True).to(device) if binds else None
    _ = backbone.vae  # tells the shape of the latents

    @torch.no_grad()
    def sample(steps: int) -> None:
        contexts = binder(prompt, words) if binder else prompt
        sampling = Sampling(steps=steps, guidance_scale=5.0, shift=SHIFT)
        backbone.sample(contexts, negative, 0, sampling, sizes.media(frames))

    sample(1)
    with _peak_memory(device) as peak:
        seconds = _seconds(device, lambda: sample(sizes.sampling_steps))
    return Measured(seconds, peak())


def _attempt(label: str, work: Callable[[], Measured], device: torch.device) -> Measured:
    """What `work` measures, told in a line on stderr; NaN if it fails. Afterwards the device's memory is free again."""
    try:
        measured = work()
    except Exception as error:
        measured = Measured(math.nan, math.nan)
        told = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:1000]}"
    else:
        memory = "" if math.isnan(measured.peak_gib) else f", {measured.peak_gib:.2f} GiB"
        told = f"{measured.seconds:.4g} s{memory}"
    print(f"{label}: {told}", file=sys.stderr, flush=True)
    torch.compiler.reset()
    gc.collect()  # hooks and their models are cycles
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return measured


def _seconds(device: torch.device, work: Callable[[], object]) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


@contextmanager
def _peak_memory(device: torch.device) -> Iterator[Callable[[], float]]:
    """Yields what tells the peak since then, in GiB; NaN on a CPU."""
    if device.type != "cuda":
        yield lambda: math.nan
        return
    torch.cuda.reset_peak_memory_stats(device)
    yield lambda: torch.cuda.max_memory_allocated(device) / 2**30


# The table


def _rows(
    stage: str, frames: int, measured: Mapping[str, Measured], useful: float, peak: float
) -> list[dict[str, object]]:
    return [
        {
            "stage": stage,
            "frames": frames,
            "variant": variant,
            "seconds": each.seconds,
            "tflop": useful,
            "tflop_per_s": useful / each.seconds,
            "share_of_peak": useful / each.seconds / peak,
            "peak_gib": each.peak_gib,
            "times_ours": each.seconds / measured["ours"].seconds,
        }
        for variant, each in measured.items()
    ]


def _text(table: pd.DataFrame) -> str:
    return table.to_string(index=False, na_rep="-", formatters={name: form.format for name, form in COLUMNS.items()})


def _write(out: Path, described: Mapping[str, Any], table: pd.DataFrame) -> None:
    if out.suffix == ".json":
        write_json(out, described | {"rows": json.loads(table.to_json(orient="records"))})
    else:
        versions = " ".join(f"{name} {number}" for name, number in described["versions"].items())
        write_text(out, table.assign(**described | {"versions": versions}).to_csv(index=False))


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}), {torch.get_num_threads()} threads"
