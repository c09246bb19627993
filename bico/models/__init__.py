"""Networks, frozen or to be trained: the Wan backbone, binders, adapters, CLIP, the VLM.

What is learned with them, and how, stands in `bico.methods`.
"""
