"""DualReal (Wang et al., ICCV 2025): identity and motion adapters of one image and one video, trained together.

Kept: four adapters a block, beside attention and feed-forward, whose outputs are added before the AdaLN gate, the
identity's with weight alpha and the motion's with 0.2 - alpha; a controller ("StageBlender") that reads the noisy
tokens and the noise level and gives one alpha to each group of blocks, 0.1 at the start; joint training, in which a
step learns identity or motion while the other half takes part as it is. Motion adapters are told the CLIP embedding of
a random frame of the clip, in identity steps zeros, and at inference that of the subject's image, in both passes.

Changed for this backbone: CogVideoX has one attention over text and video tokens. Here the adapters stand beside the
self-attention; text stays in the cross-attention, neither adapted nor read by the controller. Changed so that the
untrained method is the backbone: an adapter adds its change alone, while the original's also adds its input. The
prompts are the sources' captions, and at inference the plain prompt. docs/deviations.md has all differences.
"""
