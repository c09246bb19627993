"""DreamVideo (Wei et al., CVPR 2024): an identity adapter of an image and a motion adapter of a video, active together.

As in the original: a subject's word is learned as vectors first (textual inversion). Then an adapter parallel to the
text cross-attention learns its details, without condition. A motion adapter gets the CLIP embedding c of a random frame
of its clip, so that it does not have to learn the appearance itself ("appearance guidance"). Half of its steps have no
text. At inference c is that of the subject's image, and zero in the unconditional pass.

Changed for this backbone: the U-Net has spatial layers with identity adapters, and temporal layers with motion
adapters. A DiT has no such split, because every layer sees space and time. Here identity adapters are at
cross-attention, and motion adapters at self-attention and feed-forward layers. Only the appearance c keeps a motion
adapter from learning how its clip looks. Changed for compositions of many sources: every key word of an image gets
vectors, the adapters of all sources add up, and the appearance is the mean over the images.
"""
