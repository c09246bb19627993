"""Words of a prompt: where a phrase stands in a text, and which text slots hold it.

Nothing here opens a model; tokenizers are handed in.
"""
