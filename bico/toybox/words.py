"""The words of the Toybox, from which scenes are made.

They are in a separate module without numpy, because checks before a run need them and have to be quick.
"""

import re

SUBJECTS = ("cat", "fish", "car", "rocket", "robot", "mushroom")
SCENES = ("beach", "forest", "desert", "city", "space")
MOTIONS = ("sliding", "bouncing", "spinning", "circling", "rising", "growing")
STYLES = ("sketch", "sepia", "poster")
LIGHTS = ("night", "sunset", "fog")
PATTERNS = ("plain", "striped", "spotted")
CLUTTER = ("ball", "frame", "watermark")
POST = "post"
"""What stands in front of the subject of an occluded source. No model has seen one."""
ROLES: dict[str, tuple[str, ...]] = {
    "subject": SUBJECTS,
    "scene": SCENES,
    "motion": MOTIONS,
    "style": STYLES,
    "light": LIGHTS,
}
"""Role -> the words that can play it."""


def names(text: str, word: str) -> bool:
    """Whether a text has a word, in capitals or not, as the text encoder reads it."""
    return re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) is not None
