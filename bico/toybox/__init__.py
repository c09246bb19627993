"""The Toybox: a procedural world whose compositions can be rendered exactly, and the small models trained on it."""
