"""DreamVideo (Wei et al., CVPR 2024): an identity adapter of an image and a motion adapter of a video, active together.

Kept: a subject's word becomes vectors first (textual inversion), then an adapter parallel to the text cross-attention
learns its details, with no condition. A motion adapter is told what a random frame of its clip looks like, by that
frame's CLIP embedding c, so that it need not learn the appearance itself ("appearance guidance"), and goes without text
half of the time. At inference c is that of the subject's image, and zero in the unconditional pass.

Changed for this backbone: the U-Net has spatial layers, where identity adapters stand, and temporal ones, where motion
adapters stand. A DiT has no such split: every layer sees space and time. What tells the two apart is the layers beside
which they stand (cross-attention; self-attention and feed-forward), and only the appearance keeps a motion adapter from
learning how its clip looks. Changed for compositions of many sources: every key word of an image gets vectors, the
adapters of all sources add up, and the appearance is the mean over the images.
"""
