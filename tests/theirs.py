"""Clips as somebody else sends them: made without the code under test, but for writing their files."""

import hashlib
import json
from pathlib import Path

from files import moving_square

from bico.config.schema import Config
from bico.media.writing import write_clip
from bico.plan.bundle import described, source_files

ABOUT = {
    "who": "Ada", "method": "Squares", "link": "https://example.org", "made_with": "numpy", "trained_on": "nothing",
    "track": "one-shot",
}  # fmt: skip


def submission(config: Config, folder: Path) -> dict:
    """Writes a clip of every case and seed to a folder, and its manifest; returns the manifest."""
    with source_files(config) as files:
        bundle = json.loads(described(config, files).model_dump_json())
    clips = []
    for number, clip in enumerate(bundle["clips"]):
        path = folder / clip["file"]
        write_clip(path, moving_square(config.media.num_frames, side=8 + number), config.media.fps)
        clips.append({**clip, "sha256": digest(path)})
    manifest = {"format": "bico-submission-1", **ABOUT, "bundle": bundle, "clips": clips}
    rewrite(folder, manifest)
    return manifest


def rewrite(folder: Path, manifest: dict) -> None:
    (folder / "submission.json").write_text(json.dumps(manifest))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
