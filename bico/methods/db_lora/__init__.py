"""DreamBooth-LoRA (Ruiz et al., 2023; Hu et al., 2022): a LoRA of the whole transformer for each source.

As in the original: prompts of a rare token and the class word, alpha = rank, all attention and feed-forward layers.
Changed for this backbone: a video's rare token stands before its subject or before its motion word; there is no prior
preservation. The LoRAs of a case are merged into the weights with `merge_weight`, and its prompt has the rare token
once for each source.
"""
