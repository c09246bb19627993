"""The Wan backbone that all methods share: its components, forward pass, attention and sampling."""
