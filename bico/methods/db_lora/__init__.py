"""DreamBooth-LoRA (Ruiz et al., 2023; Hu et al., 2022): a LoRA of the whole transformer for each source.

Kept: prompts of a rare token and the class word, alpha = rank, all attention and feed-forward layers. Changed for this
backbone: a video's rare token goes before its subject or before its motion word; no prior preservation. The LoRAs of a
case are merged into the weights by `merge_weight`, and its prompt carries the rare token once for each source.
"""
