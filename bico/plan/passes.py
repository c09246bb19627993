"""Numbers of passes of the transformer in analyses that use a source's own image or clip and generate none."""

MAP_CAPTIONS = 8
"""Number of captions of a source over which its attention maps are averaged (`bico.analysis.absorption`)."""
NEW_SENTENCES = 8
"""Largest number of new sentences for each source in the control of diversification. A simple scene can be described in
few ways."""
NOISES = 8
"""Number of noise levels of a loss in that control, evenly spaced in the schedule, each with its own noise."""
