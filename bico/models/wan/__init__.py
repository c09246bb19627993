"""The Wan backbone that all methods share, in parts of one concern each; `backbone` puts them together."""
