"""A prompt as Wan's text encoder reads it."""

import html

import ftfy


def clean(text: str) -> str:
    """The text as Wan's text encoder reads it: mojibake repaired, HTML entities resolved, white space single."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split())
