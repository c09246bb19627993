"""Numbers of the method that no config sets."""

TOTAL_WEIGHT = 0.2
"""Of the identity and the motion adapter of a layer together."""
MOTION_SHARE = 0.5
"""Of the training steps, those that learn the motion."""
