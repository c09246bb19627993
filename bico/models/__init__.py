"""Networks, frozen or trained: the Wan backbone, binders, adapters, CLIP, the VLM.

`bico.methods` defines what is learned with them, and how.
"""
