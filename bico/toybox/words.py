"""The words of the Toybox, from which scenes are made.

They are in a separate module without numpy, because checks before a run need them and have to be quick.
"""

SUBJECTS = ("cat", "fish", "car", "rocket", "robot", "mushroom")
SCENES = ("beach", "forest", "desert", "city", "space")
MOTIONS = ("sliding", "bouncing", "spinning", "circling", "rising", "growing")
STYLES = ("sketch", "sepia", "poster")
LIGHTS = ("night", "sunset", "fog")
PATTERNS = ("plain", "striped", "spotted")
CLUTTER = ("ball", "frame", "watermark")
POST = "post"
"""What stands in front of the subject of an occluded source. No model has seen one."""
