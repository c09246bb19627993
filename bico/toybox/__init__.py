"""The Toybox: a procedural world whose compositions can be rendered exactly, its captions, and the probe for its clips.

Its models are trained by `python -m bico.zoo`.
"""
