"""Words of a prompt: the place of a phrase in a text, and its text slots.

Nothing here opens a model; tokenizers are passed in.
"""
