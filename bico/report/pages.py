"""Parts that all pages share: style and script, prompts in pieces, and addresses of media."""

from __future__ import annotations

import base64
import json
import mimetypes
from pathlib import Path
from typing import Any

from bico.config.benchmark import Case
from bico.config.schema import Config
from bico.core.records import intact
from bico.media.reading import read_media
from bico.media.writing import SMALL, compressed, write_clip, write_image
from bico.prompts.text import clean
from bico.prompts.words import spans

FOLDER = Path(__file__).parent
LARGE = 1_000_000
"""Bytes. Clips of full size are stored almost losslessly, so hundreds of them would make a page of gigabytes."""


def filled(page: str, data: dict[str, Any]) -> str:
    """A page with its data, and with the style and the script that all pages share."""
    # In a script element "</script" ends the text, and "<!--" begins a comment. Without "<" there is neither.
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    html = (FOLDER / page).read_text(encoding="utf-8")
    for name, part in (("style", "page.css"), ("page", "page.js")):
        html = html.replace(f"{{{{{name}}}}}", (FOLDER / part).read_text(encoding="utf-8"))
    return html.replace("{{data}}", text)


def shown(config: Config) -> dict[str, Any]:
    """The data about clips that the shared script needs. Small clips are shown without smoothing of their pixels."""
    media = config.media
    return {
        "fps": media.fps,
        "frames": media.num_frames,
        "aspect": f"{media.width} / {media.height}",
        "small": min(media.height, media.width) < SMALL,
    }


def coloured(case: Case) -> list[tuple[str, int | None]]:
    """The prompt in pieces, each with the number of the source that its words are bound to, or None."""
    text = clean(case.prompt)
    held = sorted((span, number) for number, owned in enumerate(spans(text, case.bind).values()) for span in owned)
    pieces, end = [], 0
    for (start, stop), number in held:
        pieces += [(text[end:start], None), (text[start:stop], number)]
        end = stop
    return [(piece, number) for piece, number in [*pieces, (text[end:], None)] if piece]


def as_read(config: Config, name: str, place: Path) -> Path:
    """Writes a source as the methods see it: cropped, from its start, as long as the clips, and in a format that
    browsers show. Returns `place` with the suffix of that format."""
    source = config.sources[name]
    frames = read_media(config.media_path(name), **dict(config.media), start=source.start)
    if source.kind == "image":
        path = place.with_suffix(".png")
        write_image(path, frames[0])
    else:
        path = place.with_suffix(".mp4")
        write_clip(path, frames, config.media.fps)
    return path


def embedded(file: Path, crf: int = 23) -> str:
    """A file as a data address. A large video is encoded again, in H.264 with this `crf` (lower is better)."""
    kind, _ = mimetypes.guess_type(file)
    content = intact(file).read_bytes()
    if len(content) > LARGE and kind and kind.startswith("video/"):
        kind, content = "video/mp4", compressed(file, crf)
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
