"""Settings of clips that were made elsewhere, and facts about them from their manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from bico.config.methods import MethodSettings
from bico.config.section import FilePath
from bico.config.settings import Sampling

if TYPE_CHECKING:
    from bico.config.schema import Config
    from bico.methods.external.submission import Submission


RESAMPLED = (
    "; resampled here, where frames are repeated and dropped: smoothness, temporal consistency and dynamic degree are "
    "not those of the original clips"
)


class Settings(MethodSettings):
    """Clips that were made elsewhere: this benchmark only scores them."""

    OPENS_BACKBONE = False

    method: Literal["external"] = "external"
    clips: FilePath = Field(
        description="Folder or zip file of the clips, with their manifest submission.json (see `bico submit`)."
    )
    resample: bool = Field(
        default=False,
        description=(
            "Whether clips of another size, length or frame rate are resized, cropped and resampled like sources. "
            "Otherwise they are an error. Resampling repeats and drops frames, so smoothness, temporal consistency and "
            "dynamic degree are then not those of the original clips. The legend of the tables says so."
        ),
    )

    def label_of(self, row: str) -> str:
        return f"{super().label_of(row)} (made elsewhere)"

    def check(self, row: str, config: Config) -> None:
        from bico.methods.external.submission import check_row

        check_row(row, self.clips, config, resample=self.resample)

    def files(self, case_id: str, seed: int) -> dict[str, Path]:
        clip = self._submission().clip(case_id, seed)
        if clip is None:
            return {}
        return {"clip": self.clips / clip.file} if self.clips.is_dir() else {"clips": self.clips}

    def missing(self, case_id: str, seed: int) -> str | None:
        return None if self._submission().clip(case_id, seed) else f"{self.clips} has no clip of it"

    def origin(self) -> str:
        return self._submission().credit + (RESAMPLED if self.resample else "")

    def track(self) -> Literal["one-shot", "per-case", "feed-forward"]:
        return self._submission().track

    def trainings(self, learning_seeds: Sequence[int]) -> int:
        return self._submission().trainings

    def denoising_passes(self, sampling: Sampling) -> int:
        return 0

    def _submission(self) -> Submission:
        from bico.methods.external.submission import read_submission

        return read_submission(self.clips)
