"""DualReal (Wang et al., ICCV 2025): identity and motion adapters of one image and one video, trained together.

As in the original: a block has four adapters, parallel to attention and feed-forward. Their outputs are added before
the AdaLN gate, that of the identity adapter with weight alpha and that of the motion adapter with 0.2 - alpha. A
controller ("StageBlender") reads the noisy tokens and the noise level and gives one alpha to each group of blocks, 0.1
at the start. Training is joint: a step learns identity or motion, while the other half is active but frozen. Motion
adapters get the CLIP embedding of a random frame of the clip; zeros in identity steps; and at inference that of the
subject's image, in both passes.

Changed for this backbone: CogVideoX has one attention over text and video tokens. Here the adapters are at the
self-attention. Text is only in the cross-attention, which has no adapters and is not read by the controller. Changed so
that the untrained method equals the backbone: an adapter adds only its change, while the original's also adds its
input. The prompts are the sources' captions, and at inference the plain prompt. docs/deviations.md has all differences.
"""
