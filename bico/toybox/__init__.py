"""The Toybox: a procedural world whose compositions can be rendered exactly, its captions, and the probe that reads it.

Its models are trained by `python -m bico.zoo`.
"""
