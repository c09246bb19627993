"""VQAScore: how probable it is for a VLM that a clip shows each bound phrase (Lin et al., "Evaluating Text-to-Visual
Generation with Image-to-Text Generation", ECCV 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from bico.config.scores import Column, ScoreSettings
from bico.config.settings import Look
from bico.scoring.protocol import Measured, ScoredClip, Shared

if TYPE_CHECKING:
    from bico.config.schema import Config
    from bico.models.vlm import Vlm


class Settings(ScoreSettings):
    """VQAScore: probability with which a VLM says that the clip shows each bound phrase."""

    COLUMNS = (
        Column(
            "vqa",
            "VQAScore",
            heading="VQA",
            asks="truth_prompt",
            description="probability with which the VLM answers yes, and not no, when it is asked whether the clip "
            "shows a bound phrase; mean over the phrases, x100. It sees motion as far as the VLM does, and not whether "
            "a thing is the one of its source: any cat is a cat",
        ),
    )

    look: Look = Field(
        default="original",
        description=(
            "Which frames the VLM sees. original = four a second, each resized to 256 to 1280 vision tokens; encoded = "
            "at most 16 in their own size, which are all that the Toybox's VLMs know."
        ),
    )

    def models(self) -> tuple[str, ...]:
        return ("vqa",)


class Score:
    def __init__(self, settings: Settings, shared: Shared):
        self.vlm = shared.once(open_vlm)
        self.look: Look = settings.look

    def measure(self, clip: ScoredClip) -> Measured:
        from bico.sources.instructions import question_about

        phrases = clip.phrases()
        questions = [question_about(phrase, still=len(clip.frames) == 1) for phrase in phrases]
        answers = self.vlm.yes([clip.frames] * len(phrases), questions, clip.fps, self.look)
        return Measured({"vqa": 100 * sum(answers) / len(answers)})


def open_vlm(config: Config, device: str) -> Vlm:
    """The VLM that answers for this score."""
    from bico.models.vlm import Vlm

    return Vlm(getattr(config.models, config.models.vqa_entry), device=device)
