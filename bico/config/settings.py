"""Settings that all methods share: models, sizes, captions, sampling, scores, the human study."""

from typing import Any, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from bico.config.scores import ScoreSettings, read_scores_settings
from bico.config.section import Count, FilePath, Name, Positive, Section, problem

WAN_NEGATIVE_PROMPT = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，"
    "丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，"
    "静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)
"""Wan's own negative prompt. It lists what clips should not show: too bright, overexposed, still, blurred, subtitles, a
painting, gray, low quality, malformed hands and faces, a crowded background, walking backwards, and the like."""


class Models(Section):
    """Folders of the models, each in its own library's format."""

    wan: FilePath = Field(
        description="Backbone that all methods share: a WanPipeline of diffusers, such as Wan2.1-T2V-1.3B-Diffusers."
    )
    vlm: FilePath = Field(
        description="VLM that names concepts and writes captions: Qwen2.5-VL of transformers, such as the 7B-Instruct."
    )
    vqa: FilePath | None = Field(
        default=None,
        description=(
            "VLM that judges clips by yes or no, for the VQA score: Qwen2.5-VL of transformers. The Toybox has one of "
            "its own, because its `vlm` knows no yes and no. Null = `vlm`."
        ),
    )
    clip: FilePath = Field(
        description=(
            "CLIP for CLIP-T: a folder of open_clip (open_clip_config.json and weights). The example is ViT-B/32; the "
            "paper does not say which CLIP it uses."
        )
    )
    appearance: FilePath | None = Field(
        default=None,
        description=(
            "CLIP for the frame embeddings from which dreamvideo and dualreal learn: a folder of open_clip. Both "
            "original codes use ViT-H/14. Null = `clip`."
        ),
    )
    dino: FilePath = Field(
        description="DINO for DINO-I: a ViT of timm (config.json and weights). The paper uses ViT-S/16."
    )
    probe: FilePath | None = Field(
        default=None,
        description=(
            "Probe network that recognises what a Toybox clip shows, for the truth scores. Null = no truth scores, "
            "which is right for photographs: their exact renderings are not known."
        ),
    )

    @property
    def vqa_entry(self) -> str:
        """The entry that answers yes or no, for the VQA score."""
        return "vqa" if self.vqa else "vlm"


class Media(Section):
    """The one size and length in which sources are read and clips are generated."""

    height: Positive = Field(default=480, description="Height in pixels.")
    width: Positive = Field(default=832, description="Width in pixels.")
    num_frames: Positive = Field(
        default=81, description="Frames of a clip: 4k + 1, because Wan's VAE packs four frames into one."
    )
    fps: float = Field(default=15, gt=0, description="Frames per second of generated clips.")
    read: Literal["time", "first"] = Field(
        default="time",
        description=(
            "Which frames of a video source are read. time = it is resampled to `fps` from its start; first = its "
            "first `num_frames` frames at any rate, as in the authors' code. A video that is too short is stretched "
            "over all frames."
        ),
    )

    @field_validator("num_frames")
    @classmethod
    def _whole_latents(cls, num_frames: int) -> int:
        if num_frames % 4 != 1:
            raise problem("expected 4k + 1 frames (Wan's VAE packs four into one), got {n}", n=num_frames)
        return num_frames


Look = Literal["original", "encoded"]


class ConceptSettings(Section):
    """Key words and captions of the sources."""

    instructions: Literal["paper", "short"] = Field(
        default="paper",
        description=(
            "What the VLM is asked. paper = what the authors ask, in words of our own: any number of brief, concrete "
            "concepts, then captions of one complete, expressive but concise sentence. short = at most six concepts, "
            "then captions of at most 25 words that name no other look or motion; the Toybox's VLM knows only these "
            "instructions. Both ask for key words verbatim; the authors' captions may paraphrase them."
        ),
    )
    look: Look = Field(
        default="original",
        description=(
            "Which pictures the VLM sees. original = the file in its own size; for a video, the frames that training "
            "reads (`media.read`), four for each second of the file's own time. Each picture is resized to 256 to "
            "1280 vision tokens (28 x 28 pixels each). encoded = what training encodes: pictures resized and cropped "
            "to the size of `media`; for a video at most 16 frames, at `media.fps`."
        ),
    )
    captions: Positive = Field(default=60, description="Number of diversified captions of a source.")
    frame_captions: Positive | None = Field(
        default=None, description="Number of frames of a video that get a caption of their own; null = all frames."
    )
    attempts: Positive = Field(
        default=3,
        description=(
            "How often the VLM is asked for a caption that holds every key word verbatim. A template replaces a "
            "caption that still lacks one."
        ),
    )
    temperature: float = Field(
        default=0.7, gt=0, description="Temperature with which captions are sampled; key words are decoded greedily."
    )
    top_k: Positive = Field(default=50, description="Captions are sampled from the k most probable tokens.")
    top_p: float = Field(
        default=0.95,
        gt=0,
        le=1,
        description="Captions are sampled from the most probable tokens of this total probability.",
    )
    max_new_tokens: Positive = Field(default=512, description="Longest answer of the VLM, in tokens.")
    seed: Count = Field(default=0, description="Seed from which the seeds of all captions are derived.")


class Sampling(Section):
    """Denoising of clips."""

    steps: Positive = Field(default=50, description="Denoising steps (flow-match Euler).")
    guidance_scale: float = Field(default=5.0, ge=1, description="Scale of classifier-free guidance; 1 = off.")
    shift: float = Field(
        default=5.0,
        gt=0,
        description=(
            "Timestep shift of the noise schedule. Denoising steps are equally spaced on it, as in the code of Wan and "
            "of the authors; the scheduler of diffusers spaces them differently."
        ),
    )
    negative_prompt: str = Field(
        default=WAN_NEGATIVE_PROMPT,
        description="Prompt of the unconditional pass; the default is Wan's own, in Chinese.",
    )


SCORES = (
    *("clip_t", "dino_i", "motion_fidelity", "dynamic_degree"),
    *("clip_segments", "temporal_consistency", "smoothness"),
)
"""The scores of a config that names none: those that cost next to nothing beside CLIP and DINO."""


class Scoring(Section):
    """Scores of clips."""

    scores: dict[Name, SerializeAsAny[ScoreSettings]] = Field(
        default=dict.fromkeys(SCORES),  # pyright: ignore[reportArgumentType] - read by the validator
        validate_default=True,
        min_length=1,
        description=(
            "Scores of the tables that need no exact rendering, each with its settings: files of bico/scoring/scores. "
            "`clip_t: {}` is the score of that name with its defaults. All clips are scored again when this changes."
        ),
    )
    tested: dict[Name, SerializeAsAny[ScoreSettings]] = Field(
        default={},
        description=(
            "Further scores that only the test of scores measures (the target results/scorers.csv, for the Toybox)."
        ),
    )
    pooling: Literal["mean", "renormalised"] = Field(
        default="mean",
        description=(
            "How the unit feature vectors of a clip's frames are pooled. mean = their average; renormalised = their "
            "average, scaled to unit length."
        ),
    )
    dino_crop: float | None = Field(
        default=0.875,
        gt=0,
        le=1,
        description=(
            "Centre crop for DINO, as a share of a frame's shorter side (for instance 224 of 256 pixels = 0.875); "
            "null = the value in the model's own config.json."
        ),
    )
    bootstrap: Positive = Field(default=2000, description="Bootstrap resamples of the cases, for the 95 % intervals.")
    seed: Count = Field(default=0, description="Seed of the bootstrap.")

    @field_validator("scores", "tested", mode="before")
    @classmethod
    def _settings_of_scores(cls, scores: Any) -> Any:
        return read_scores_settings(scores)

    @property
    def all(self) -> dict[str, ScoreSettings]:
        """The scores of the tables, and those that only the test of scores measures."""
        return self.scores | self.tested

    @model_validator(mode="after")
    def _tested_once(self) -> "Scoring":
        if both := self.scores.keys() & self.tested.keys():
            raise problem("tested: '{name}' is among 'scores' too: expected it once", name=min(both))
        return self


class Rating(Section):
    """The human study: how many people rate, and which clips each of them sees."""

    raters: Positive = Field(default=28, description="Number of people. Each rates a page of their own.")
    groups: Positive = Field(default=10, description="Cases on a page, each with the clips of all rows of table 1.")
    seed: Count = Field(default=0, description="Seed of the choice of cases and seeds for each rater, and their order.")
