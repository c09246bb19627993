"""How often the transformer passes over a source's own image or clip where one is looked at and none is made."""

MAP_CAPTIONS = 8
"""Of a source's captions, over which its attention maps are averaged (`bico.analysis.absorption`)."""
NEW_SENTENCES = 8
"""For each source of the control of diversification, at most: a short scene can be said in few ways."""
NOISES = 8
"""Noise levels of a loss in that control, evenly spaced in the schedule, each with a noise of its own."""
