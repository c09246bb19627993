"""Constants of the method."""

TOTAL_WEIGHT = 0.2
"""Sum of the weights of the identity and the motion adapter of a layer."""
MOTION_SHARE = 0.5
"""Share of the training steps that learn the motion."""
