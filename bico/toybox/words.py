"""The words of the Toybox: all that a scene can be made of.

They stand apart from the scenes because checks before a run need them, and have to be quick: no numpy.
"""

SUBJECTS = ("cat", "fish", "car", "rocket", "robot", "mushroom")
SCENES = ("beach", "forest", "desert", "city", "space")
MOTIONS = ("sliding", "bouncing", "spinning", "circling", "rising", "growing")
STYLES = ("sketch", "sepia", "poster")
LIGHTS = ("night", "sunset", "fog")
PATTERNS = ("plain", "striped", "spotted")
CLUTTER = ("ball", "frame", "watermark")
