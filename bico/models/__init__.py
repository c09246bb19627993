"""Networks, frozen or to be trained: the Wan backbone, binders, adapters, CLIP.

What is learned with them, and how, stands in `bico.methods`.
"""
